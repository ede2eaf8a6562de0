//! `bolt actions`: lists actions, or shows one with its parameters.

use std::collections::BTreeMap;
use std::str::FromStr;

use clap::Args;
use packs_schema::agent::rest::ActionView;
use packs_schema::base::environment::distance;
use packs_schema::base::name::{ActionRef, PackName};
use packs_schema::base::quantity::{format_bytes, format_duration};
use packs_schema::pack::action::Action;
use packs_schema::pack::param::{Schema, Types};
use serde_json::{Value, json};

use super::context::{Answers, Context};
use super::failure::{Exit, Failure};
use super::select::SelectArgs;
use super::terminal;
use crate::show::{self, visible, visible_lines, when};
use crate::{errln, outln};

/// Width of text without a terminal.
const WIDTH: usize = 100;

const EXAMPLES: &str = "\
Examples:
  bolt actions                          all actions that you may see
  bolt actions linux                    those of one pack
  bolt actions linux.disk_usage         one action with its parameters and limits
  bolt actions --on i-0abc --json       as JSON, of one instance";

/// List actions, or show one with its parameters.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ActionsCommand {
    /// Action to show (linux.disk_usage), or pack whose actions to list (linux).
    #[arg(value_name = "ACTION|PACK")]
    name: Option<Name>,
    #[command(flatten)]
    select: SelectArgs,
}

/// Action or pack that is named.
#[derive(Debug, Clone)]
enum Name {
    Action(ActionRef),
    Pack(PackName),
}

impl FromStr for Name {
    type Err = String;
    fn from_str(text: &str) -> Result<Name, String> {
        if text.contains('.') {
            return ActionRef::new(text).map(Name::Action).map_err(|e| e.to_string());
        }
        PackName::new(text).map(Name::Pack).map_err(|e| e.to_string())
    }
}

/// Runs `bolt actions`.
pub(super) async fn run(command: ActionsCommand, context: Context) -> Result<Exit, Failure> {
    let answers = context.ask(&command.select, async |agent| agent.actions().await).await?;
    let exit = answers.report_final()?;
    let failed = answers.failed_json();
    let asked = Asked { answered: answers.given.len(), failed: answers.failed.len() };
    let Answers { given, .. } = answers;
    let mut known = Known::new();
    for (instance, views) in given {
        for view in views {
            known.entry(view.action.reference()).or_default().push((instance.id().to_string(), view));
        }
    }
    match command.name {
        Some(Name::Action(wanted)) => {
            let Some(views) = known.get(&wanted) else {
                return Err(unknown(&wanted, known.keys()));
            };
            one(&context, views, asked, &failed);
        }
        Some(Name::Pack(pack)) => {
            known.retain(|action, _| action.pack() == pack);
            if known.is_empty() {
                let message = format!("no instance has a pack {pack} with actions that you may see");
                return Err(Failure::new(Exit::Refused, message).hint("`bolt packs` lists the active packs"));
            }
            list(&context, &known, asked, &failed);
        }
        None => list(&context, &known, asked, &failed),
    }
    Ok(exit)
}

/// Returns the failure for an action that no instance has, with similar names as a hint.
pub(super) fn unknown<'a>(wanted: &ActionRef, known: impl Iterator<Item = &'a ActionRef>) -> Failure {
    let known: Vec<&ActionRef> = known.collect();
    let wrong_letters = (wanted.as_str().len() / 4).clamp(1, 4);
    let mut near: Vec<(usize, &ActionRef)> = known
        .iter()
        .map(|action| (distance(wanted.as_str(), action.as_str()), *action))
        .filter(|(distance, action)| *distance <= wrong_letters || action.action() == wanted.action())
        .collect();
    near.sort();
    let near: Vec<&ActionRef> = near.into_iter().take(3).map(|(_, action)| action).collect();
    let siblings: Vec<&ActionRef> = known.into_iter().filter(|action| action.pack() == wanted.pack()).collect();
    let failure = Failure::new(Exit::Refused, format!("no instance has an action {wanted} that you may see"));
    if !near.is_empty() {
        let names: Vec<&str> = near.iter().map(|action| action.as_str()).collect();
        failure.hint(format!("did you mean {}?", names.join(" or ")))
    } else if !siblings.is_empty() {
        failure.hint(format!("pack {} has {}", wanted.pack(), show::listed(&siblings, 20)))
    } else {
        failure.hint("`bolt actions` lists the actions")
    }
}

/// Number of instances that were asked.
#[derive(Clone, Copy)]
struct Asked {
    answered: usize,
    failed: usize,
}

impl Asked {
    fn all(self) -> usize {
        self.answered + self.failed
    }

    /// Describes the instances that answered, and the others if there are any: `5 of 6 instances`.
    fn describe(self) -> String {
        let all = show::counted(self.all(), "instance");
        if self.failed == 0 { all } else { format!("{} of {all}", self.answered) }
    }

    /// Describes how many of the instances have something: `5 of 6 (1 did not answer)`.
    fn having(self, count: usize) -> String {
        let silent = if self.failed == 0 { String::new() } else { format!(" ({} did not answer)", self.failed) };
        format!("{count} of {}{silent}", self.all())
    }
}

type Known = BTreeMap<ActionRef, Vec<(String, ActionView)>>;

fn list(context: &Context, known: &Known, asked: Asked, failed: &Value) {
    if context.json {
        let actions: Vec<_> =
            known.values().map(|views| json!({ "action": views[0].1, "instances": instances(views) })).collect();
        outln!("{}", show::json(&context.with_missing(json!({ "actions": actions, "failed": failed }))));
        return;
    }
    if known.is_empty() {
        errln!("no actions: the agents have no packs yet, or you have no grant to see them");
        return;
    }
    // Versions and numbers of instances are columns only where they differ.
    let version = |views: &[(String, ActionView)]| {
        let first = &views[0].1.version;
        if views.iter().any(|(_, view)| view.version != *first) { "mixed".to_owned() } else { first.to_string() }
    };
    let uneven = known.values().any(|views| views.len() != asked.answered || version(views) == "mixed");
    let mut rows = Vec::new();
    for (name, views) in known {
        let action = &views[0].1.action;
        let dev = if views.iter().any(|(_, view)| view.dev.is_some()) { "(dev) " } else { "" };
        let off = if action.enabled { "" } else { "(disabled) " };
        let mut row = vec![name.to_string(), action.class.to_string()];
        if uneven {
            row.extend([version(views), views.len().to_string()]);
        }
        row.push(format!("{dev}{off}{}", visible(first_sentence(&action.description))));
        rows.push(row);
    }
    let heads: &[&str] = match uneven {
        true => &["ACTION", "CLASS", "VERSION", "INSTANCES", "DESCRIPTION"],
        false => &["ACTION", "CLASS", "DESCRIPTION"],
    };
    context.print_table(heads, &rows);
    let (actions, on) = (show::counted(known.len(), "action"), asked.describe());
    errln!("{actions} on {on}; `bolt actions NAME` shows one with its parameters");
}

/// Returns the first sentence of a description.
fn first_sentence(text: &str) -> &str {
    let line = text.trim().lines().next().unwrap_or_default();
    line.split_once(". ").map_or(line, |(first, _)| first).trim_end_matches('.')
}

fn instances(views: &[(String, ActionView)]) -> Vec<&str> {
    views.iter().map(|(instance, _)| instance.as_str()).collect()
}

fn one(context: &Context, views: &[(String, ActionView)], asked: Asked, failed: &Value) {
    let (first, view) = &views[0];
    if context.json {
        let answer = json!({ "action": view, "instances": instances(views), "failed": failed });
        outln!("{}", show::json(&context.with_missing(answer)));
        return;
    }
    let width = terminal::width().unwrap_or(WIDTH);
    let action = &view.action;
    outln!("{} {} ({}), {}", action.reference(), view.version, view.digest.short(), action.class);
    if !action.description.trim().is_empty() {
        outln!("\n{}", show::wrapped(&show::visible_lines(action.description.trim()), width, 0));
    }
    if !action.enabled {
        outln!("\nIt is disabled and cannot be run.");
    }
    outln!("\n{}\n", parameters(action, width));
    for (name, value) in limits(action) {
        outln!("{name:<12} {value}");
    }
    outln!("{:<12} {}", "instances", asked.having(views.len()));
    for (instance, dev) in views.iter().filter_map(|(instance, view)| Some((instance, view.dev.as_ref()?))) {
        errln!(
            "{instance}: a pushed version (dev, not signed), by {}, until {}",
            visible(dev.by.as_str()),
            when::at(dev.until_ms)
        );
    }
    if views.iter().any(|(_, other)| other.digest != view.digest) {
        errln!("this is the version on {first}; other instances have other versions");
    }
}

/// Describes each parameter: a line with its type and default, and its description below.
fn parameters(action: &Action, width: usize) -> String {
    if action.parameters.is_empty() {
        return "It takes no parameters.".to_owned();
    }
    let mut lines = vec!["Parameters:".to_owned()];
    for (name, schema) in &action.parameters {
        lines.push(show::wrapped(&format!("{name}: {}, {}", kind(schema), default(schema)), width, 2));
        let description = visible_lines(schema.description.as_deref().unwrap_or_default().trim());
        if !description.is_empty() {
            lines.push(show::wrapped(&description, width, 6));
        }
    }
    lines.join("\n")
}

fn kind(schema: &Schema) -> String {
    let types = schema.types.as_ref().map_or(&[][..], Types::as_slice);
    let names: Vec<String> = types.iter().map(|t| format!("{t:?}").to_lowercase()).collect();
    let mut kind = if names.is_empty() { "any".to_owned() } else { names.join(" or ") };
    if let Some(values) = &schema.enumeration {
        let values: Vec<String> = values.iter().map(|v| visible(&plain(v))).collect();
        kind = format!("one of {}", show::listed(&values, 8));
    }
    if let Some(minimum) = &schema.minimum {
        kind.push_str(&format!(" from {minimum}"));
    }
    if let Some(maximum) = &schema.maximum {
        kind.push_str(&format!(" to {maximum}"));
    }
    if schema.secret {
        kind.push_str(", secret");
    }
    kind
}

fn default(schema: &Schema) -> String {
    match &schema.default {
        Some(value) if schema.immutable => format!("always {}", visible(&plain(value))),
        Some(_) if schema.secret => "has a default".to_owned(),
        Some(value) => format!("default {}", visible(&plain(value))),
        None if schema.is_required() => "must be given".to_owned(),
        None => "may be left out".to_owned(),
    }
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| show::json_line(value), str::to_owned)
}

fn limits(action: &Action) -> Vec<(&'static str, String)> {
    let limits = &action.limits;
    let mut lines = vec![
        (
            "run as",
            action.run_as.as_ref().map_or_else(|| "the agent's default account".to_owned(), ToString::to_string),
        ),
        ("time-out", format_duration(action.timeout())),
        ("limits", format!("{} memory, {} cpu, {} processes", format_bytes(limits.memory.0), limits.cpu, limits.pids)),
        ("output", format!("{} of each stream is kept", format_bytes(action.output_max.0))),
        ("dry run", if action.noop { "--noop is supported" } else { "--noop is not supported" }.to_owned()),
    ];
    if let Some(concurrency) = &action.concurrency {
        lines.push(("at once", format!("{} in group {}", concurrency.max, action.group())));
    }
    if let Some(rate) = &action.rate {
        lines.push(("rate", format!("{} per {}", rate.max, format_duration(rate.per.0))));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_that_did_not_answer_are_counted() {
        let asked = Asked { answered: 5, failed: 1 };
        assert_eq!(
            (asked.describe().as_str(), asked.having(4).as_str()),
            ("5 of 6 instances", "4 of 6 (1 did not answer)")
        );
        let asked = Asked { answered: 6, failed: 0 };
        assert_eq!((asked.describe().as_str(), asked.having(6).as_str()), ("6 instances", "6 of 6"));
    }

    #[test]
    fn near_names_are_offered() {
        let name = |text| ActionRef::new(text).unwrap();
        let known = [name("linux.disk_usage"), name("linux.memory"), name("cassandra.clear_snapshots")];
        let failure = unknown(&name("linux.disk_usge"), known.iter());
        assert_eq!(failure.hint.as_deref(), Some("did you mean linux.disk_usage?"));
        let other = unknown(&name("linux.nothing_like_it"), known.iter()).hint.unwrap();
        assert_eq!(other, "pack linux has linux.disk_usage, linux.memory");
        assert!(unknown(&name("x.nothing_like_it"), known.iter()).hint.unwrap().contains("bolt actions"));
        assert_eq!((distance("kitten", "sitting"), distance("", "abc"), distance("a", "a")), (3, 3, 0));
    }
}
