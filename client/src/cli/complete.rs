//! Completion in shells: commands and options from the declarations; actions, parameters, instances, states and channels from
//! the inventory and a cached answer of an agent; runs from their record.
//!
//! The registration script of `bolt completions` runs `bolt` with `BOLT_COMPLETE=<shell>` for each completion. Nothing here
//! prints, asks for a passphrase, or waits for instances longer than [`known::PATIENCE`]; what an instance answers is checked
//! and bounded before it is offered.

mod known;
mod runs;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;

use clap::{Arg, Command, CommandFactory as _};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::CompleteEnv;
use packs_schema::agent::execution::State;
use packs_schema::delivery::facts::Facts;

use super::Cli;
use crate::config::{Config, Setting};
use crate::show;
use known::Known;

/// Environment variable that asks for completions.
pub(super) const VARIABLE: &str = "BOLT_COMPLETE";
/// Maximum number of candidates.
const MAX_CANDIDATES: usize = 2000;

/// Answers a completion request of a shell and exits; returns when there is none.
pub fn answer() {
    CompleteEnv::with_factory(command).var(VARIABLE).bin("bolt").complete();
}

/// Returns the command line with completers for values.
fn command() -> Command {
    attach(Cli::command(), "")
}

/// Adds completers to the arguments of `command` and of the commands below it.
fn attach(command: Command, path: &str) -> Command {
    let mut command = command.mut_args(|argument| match completer(path, &argument) {
        Some(completer) => argument.add(completer),
        None => argument,
    });
    let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    for name in names {
        let inner = if path.is_empty() { name.clone() } else { format!("{path} {name}") };
        command = command.mut_subcommand(name, |sub| attach(sub, &inner));
    }
    command
}

fn completer(path: &str, argument: &Arg) -> Option<ArgValueCompleter> {
    let completer = match (path, argument.get_long().unwrap_or(argument.get_id().as_str())) {
        (_, "on" | "exclude") | ("pack push", "to") | ("pack unpush", "from") => ArgValueCompleter::new(instances),
        (_, "region") if !path.starts_with("repo") => ArgValueCompleter::new(regions),
        (_, "zone") if !path.starts_with("repo") => ArgValueCompleter::new(zones),
        (_, "state") if !path.starts_with("repo") && !path.starts_with("pack") => ArgValueCompleter::new(states),
        (_, "action") if path != "pack test" => ArgValueCompleter::new(actions),
        ("actions", "name") | ("can-i", "target") => ArgValueCompleter::new(actions),
        ("resume" | "retry", "run") | ("show" | "wait" | "logs", "which") => ArgValueCompleter::new(runs::runs),
        (path, "run") if !path.contains(' ') => ArgValueCompleter::new(runs::runs),
        ("run", "parameters") => ArgValueCompleter::new(parameters),
        (path, "from") if !path.contains(' ') => ArgValueCompleter::new(runs::runs),
        (path, "channel") if path.starts_with("repo") => ArgValueCompleter::new(channels),
        ("repo promote", "from" | "to") | ("pack diff", "from" | "to") => ArgValueCompleter::new(channels),
        (path, "pack") if path.starts_with("repo") && path != "repo publish" => ArgValueCompleter::new(packs),
        ("pack diff" | "pack unpush", "pack") => ArgValueCompleter::new(packs),
        _ => return None,
    };
    Some(completer)
}

/// Keeps the candidates that continue what was typed.
fn matching(current: &OsStr, values: impl IntoIterator<Item = (String, String)>) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    let fits = values.into_iter().filter(|(value, _)| value.starts_with(&*current)).take(MAX_CANDIDATES);
    fits.map(|(value, help)| CompletionCandidate::new(value).help((!help.is_empty()).then(|| help.into()))).collect()
}

fn regions(current: &OsStr) -> Vec<CompletionCandidate> {
    facts(current, |facts| &facts.region)
}

fn zones(current: &OsStr) -> Vec<CompletionCandidate> {
    facts(current, |facts| &facts.zone)
}

/// Completes a list of values that a fact has in the inventory, each once.
fn facts(current: &OsStr, fact: fn(&Facts) -> &String) -> Vec<CompletionCandidate> {
    let Some(inventory) = config().and_then(|config| known::inventory(&config)) else { return Vec::new() };
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for instance in inventory.instances() {
        *counts.entry(fact(&instance.facts)).or_default() += 1;
    }
    let is_word =
        |value: &str| !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    let values = counts.into_iter().filter(|(value, _)| is_word(value));
    matching(current, values.map(|(value, count)| (value.to_owned(), show::counted(count, "instance"))))
}

fn instances(current: &OsStr) -> Vec<CompletionCandidate> {
    let Some(inventory) = config().and_then(|config| known::inventory(&config)) else { return Vec::new() };
    let describe = |instance: &crate::inventory::Instance| {
        let facts = [&instance.facts.zone, &instance.facts.app];
        let facts: Vec<String> = facts.iter().filter(|fact| !fact.is_empty()).map(|fact| known::line(fact)).collect();
        (instance.id().to_string(), facts.join(" "))
    };
    matching(current, inventory.instances().iter().map(describe))
}

fn states(current: &OsStr) -> Vec<CompletionCandidate> {
    matching(current, State::ALL.iter().map(|state| (state.to_string(), String::new())))
}

fn actions(current: &OsStr) -> Vec<CompletionCandidate> {
    let known = known();
    matching(current, known.actions.into_iter().map(|action| (action.name.to_string(), action.description)))
}

fn packs(current: &OsStr) -> Vec<CompletionCandidate> {
    let mut packs: Vec<String> = known().actions.iter().map(|action| action.name.pack().to_string()).collect();
    packs.dedup();
    matching(current, packs.into_iter().map(|pack| (pack, String::new())))
}

fn channels(current: &OsStr) -> Vec<CompletionCandidate> {
    let mut channels = config().map(|config| known::channels_of_repository(&config)).unwrap_or_default();
    if channels.is_empty() {
        channels.extend(known().channels);
    }
    matching(current, channels.into_iter().map(|channel| (channel.to_string(), String::new())))
}

fn parameters(current: &OsStr) -> Vec<CompletionCandidate> {
    let words = words();
    let known = known();
    let action = words.iter().find_map(|word| known.actions.iter().find(|action| action.name.as_str() == word));
    let Some(action) = action else { return Vec::new() };
    let current = current.to_string_lossy().into_owned();
    let values_of = |name: &str| {
        let parameter = action.parameters.iter().find(|parameter| parameter.name.as_str() == name);
        parameter.map(|parameter| parameter.values.clone()).unwrap_or_default()
    };
    // bash takes `=` for the end of a word: `path = /var`.
    if let Some(name) = split_by_bash(&words, &current) {
        let typed = if current == "=" { "" } else { &current };
        return matching(OsStr::new(typed), values_of(&name).into_iter().map(|value| (value, String::new())));
    }
    match current.split_once('=') {
        Some((name, _)) => {
            let values = values_of(name).into_iter().map(|value| (format!("{name}={value}"), String::new()));
            matching(OsStr::new(&current), values)
        }
        None => {
            let given = |name: &str| words.iter().any(|word| word.starts_with(&format!("{name}=")));
            let left = action.parameters.iter().filter(|parameter| !given(parameter.name.as_str()));
            matching(OsStr::new(&current), left.map(|one| (format!("{}=", one.name), one.description.clone())))
        }
    }
}

/// Returns the name of the parameter whose value is completed, where the shell has split the word at `=`.
fn split_by_bash(words: &[String], current: &str) -> Option<String> {
    let index = std::env::var("_CLAP_COMPLETE_INDEX").ok()?.parse::<usize>().ok()?;
    let back = |n: usize| index.checked_sub(n).and_then(|at| words.get(at)).cloned();
    if current == "=" { back(1) } else { back(1).filter(|word| word == "=").and_then(|_| back(2)) }
}

/// Returns the command line that is completed, its program name included.
fn words() -> Vec<String> {
    let arguments = std::env::args_os().skip_while(|argument| argument != "--").skip(1);
    arguments.map(|argument| argument.to_string_lossy().into_owned()).collect()
}

/// Returns the configuration, with the global options of the command line that is completed.
fn config() -> Option<Config> {
    let words = words();
    let option = |flag: &str| -> Option<PathBuf> {
        let at = words.iter().position(|word| word == flag || word.starts_with(&format!("{flag}=")))?;
        if let Some((_, value)) = words[at].split_once('=') {
            return Some(value.into());
        }
        // bash splits `--flag=value` into three words.
        words.iter().skip(at + 1).find(|word| *word != "=").map(PathBuf::from)
    };
    let file = option("--config");
    let flags =
        [Setting::Certificate, Setting::Key, Setting::Ca, Setting::Inventory, Setting::Repository, Setting::RunStore];
    let flags: Vec<_> = flags.into_iter().map(|setting| (setting, option(setting.flag()))).collect();
    Config::find(file.as_deref(), &flags).ok()
}

fn known() -> Known {
    config().map(|config| known::find(&config)).unwrap_or_default()
}
