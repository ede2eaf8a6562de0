//! Actions, parameters and channels for completion: from a cache, which one answer of an agent fills.
//!
//! The cache is a file for each client configuration ([`cache`], at most 1 MiB). It is used for ten
//! minutes without asking, and longer when no agent answers in time; a failure is remembered for half a minute, so that dead
//! hosts do not delay each completion. Names are checked when they are read, texts are made safe for a terminal: also those of
//! the cache, which another program may have written.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use futures_util::future::select_ok;
use packs_schema::agent::rest::ActionView;
use packs_schema::base::name::{ActionRef, ChannelName, ParamName};
use packs_schema::pack::param::Schema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cache;
use crate::config::{Config, Setting};
use crate::connection::Agent;
use crate::inventory::{Instance, Inventory};
use crate::show::{self, when};
use crate::tls::Identity;

/// Version of the cache's format.
const FORMAT: u32 = 1;
/// Time for which instances are asked, in all.
pub(super) const PATIENCE: Duration = Duration::from_millis(700);
/// Number of instances that are asked at once; the first answer is used.
const ASKED: usize = 3;
/// Age up to which the cache is used without asking.
const FRESH: Duration = Duration::from_secs(600);
/// Time after a failure in which no instance is asked.
const PAUSE: Duration = Duration::from_secs(30);
/// Maximum size of a cache file, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Maximum number of directory entries of a repository that are read.
const MAX_ENTRIES: usize = 20_000;
/// Maximum number of actions.
const MAX_ACTIONS: usize = 2000;
/// Maximum number of parameters of an action, and of values of a parameter.
const MAX_ITEMS: usize = 64;
/// Maximum length of a description or value, in characters.
const MAX_TEXT: usize = 100;

/// Actions and channels that are offered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Known {
    format: u32,
    /// Time of the answer, in milliseconds since 1970; 0 when there was none.
    at_ms: u64,
    /// Time of the last failure to get an answer.
    failed_ms: u64,
    /// Actions, by name.
    pub(super) actions: Vec<KnownAction>,
    /// Channels that instances follow.
    pub(super) channels: BTreeSet<ChannelName>,
}

/// An action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KnownAction {
    pub(super) name: ActionRef,
    pub(super) description: String,
    pub(super) parameters: Vec<KnownParameter>,
}

/// A parameter of an action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KnownParameter {
    pub(super) name: ParamName,
    pub(super) description: String,
    /// Its values, where the schema lists them.
    pub(super) values: Vec<String>,
}

/// Returns what is known for `config`: from the cache, or from an instance that answers in time.
pub(super) fn find(config: &Config) -> Known {
    let path = cache::path(config, "complete");
    let cached = path.as_deref().and_then(read);
    let now = when::now_ms();
    let within =
        |at_ms: u64, time: Duration| at_ms <= now && now - at_ms < u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if let Some(cached) = cached.as_ref().filter(|known| within(known.at_ms, FRESH) || within(known.failed_ms, PAUSE)) {
        return cached.clone();
    }
    let known = match ask(config) {
        Some((views, channel)) => Known { format: FORMAT, at_ms: now, failed_ms: 0, ..checked(views, channel) },
        None => Known { format: FORMAT, failed_ms: now, ..cached.unwrap_or_default() },
    };
    if let Some(path) = path {
        // Completion works without a cache.
        let _ = write(&path, &known);
    }
    known
}

/// Returns the channels of a repository in a directory.
pub(super) fn channels_of_repository(config: &Config) -> Vec<ChannelName> {
    let Some(directory) = config.value(Setting::Repository) else { return Vec::new() };
    let directory = directory.to_str().and_then(|text| text.strip_prefix("file://")).map_or(directory, Path::new);
    let targets = directory.join("targets");
    let mut left = MAX_ENTRIES;
    let mut names = |path: &Path| -> Vec<String> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten().take(left);
        let names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        left -= names.len();
        names
    };
    let mut channels = BTreeSet::new();
    for name in names(&targets).into_iter().filter(|name| name.ends_with(".channels")) {
        channels.extend(names(&targets.join(name)).into_iter().filter_map(|name| ChannelName::new(name).ok()));
    }
    channels.into_iter().collect()
}

/// Returns the instances that are known without asking a source.
pub(super) fn inventory(config: &Config) -> Option<Inventory> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let inventory = runtime.block_on(config.known_inventory(FRESH));
    runtime.shutdown_background();
    Some(inventory)
}

/// Asks some instances at once for their actions and channel; the first answer is used.
fn ask(config: &Config) -> Option<(Vec<ActionView>, Option<ChannelName>)> {
    let (inventory, identity) = (inventory(config)?, config.identity().ok()?);
    let instances: Vec<&Instance> = inventory.instances().iter().take(ASKED).collect();
    if instances.is_empty() {
        return None;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let answer = runtime.block_on(async {
        let asked = instances.into_iter().map(|instance| Box::pin(ask_one(instance, &identity)));
        let (answer, _) = tokio::time::timeout(PATIENCE, select_ok(asked)).await.ok()?.ok()?;
        Some(answer)
    });
    runtime.shutdown_background();
    answer
}

async fn ask_one(
    instance: &Instance,
    identity: &Identity,
) -> Result<(Vec<ActionView>, Option<ChannelName>), crate::error::Error> {
    let agent = Agent::new(instance, identity);
    let views = agent.actions().await?;
    Ok((views, agent.info().await.ok().map(|info| info.channel)))
}

/// Makes what an instance answered safe and small.
fn checked(views: Vec<ActionView>, channel: Option<ChannelName>) -> Known {
    let parameter = |(name, schema): (&ParamName, &Schema)| KnownParameter {
        name: name.clone(),
        description: schema.description.clone().unwrap_or_default(),
        values: values(schema),
    };
    let action = |view: ActionView| KnownAction {
        name: view.action.reference(),
        description: view.action.description.clone(),
        parameters: view.action.parameters.iter().take(MAX_ITEMS).map(parameter).collect(),
    };
    let mut actions: Vec<KnownAction> = views.into_iter().take(MAX_ACTIONS).map(action).collect();
    actions.sort_by(|a, b| a.name.cmp(&b.name));
    Known { actions, channels: channel.into_iter().collect(), ..Known::default() }.cleaned()
}

impl Known {
    /// Bounds the lists and makes the texts safe.
    fn cleaned(mut self) -> Known {
        self.actions.truncate(MAX_ACTIONS);
        for action in &mut self.actions {
            action.description = line(&action.description);
            action.parameters.truncate(MAX_ITEMS);
            for parameter in &mut action.parameters {
                parameter.description = line(&parameter.description);
                parameter.values.retain(|value| is_one_word(value));
                parameter.values.truncate(MAX_ITEMS);
            }
        }
        self
    }
}

/// Returns the values that a schema lists, where each can be one word of a command line.
fn values(schema: &Schema) -> Vec<String> {
    if schema.holds_secret() {
        return Vec::new();
    }
    let is_boolean = serde_json::to_value(&schema.types).is_ok_and(|types| types == "boolean");
    let listed: Vec<Value> = match &schema.enumeration {
        Some(values) => values.clone(),
        None if is_boolean => vec![true.into(), false.into()],
        None => Vec::new(),
    };
    let text = |value: Value| match value {
        Value::String(text) => Some(text),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    };
    listed.into_iter().filter_map(text).filter(|text| is_one_word(text)).take(MAX_ITEMS).collect()
}

/// True if no character of a value has a meaning for a shell.
fn is_one_word(text: &str) -> bool {
    text.len() <= MAX_TEXT && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+:/@%,".contains(&b))
}

/// Makes a text one short line in which nothing acts on a terminal or a shell's completion.
pub(super) fn line(text: &str) -> String {
    let line: String = show::cell(text).chars().take(MAX_TEXT).collect();
    line.replace(['`', '$', '\\'], "?")
}

fn read(path: &Path) -> Option<Known> {
    cache::read::<Known>(path, MAX_FILE).filter(|known| known.format == FORMAT).map(Known::cleaned)
}

fn write(path: &Path, known: &Known) -> Option<()> {
    cache::write(path, known, MAX_FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_instances_act_on_no_terminal_and_no_shell() {
        let hostile = format!("\u{1b}[2J$(reboot) `x`\n{}", "y".repeat(500));
        let shown = line(&hostile);
        assert!(shown.chars().count() <= MAX_TEXT && !shown.contains(['\u{1b}', '\n', '$', '`', '\\']), "{shown}");
    }

    #[test]
    fn values_are_those_of_the_schema_that_are_one_word() {
        let schema = |text: &str| serde_json::from_str::<Schema>(text).unwrap();
        let listed = |text: &str| values(&schema(text));
        assert_eq!(listed(r#"{"type": "string", "enum": ["a", "b c", "$(x)", "d"]}"#), ["a", "d"]);
        assert_eq!(listed(r#"{"type": "boolean"}"#), ["true", "false"]);
        assert_eq!(listed(r#"{"type": "string"}"#), [""; 0]);
        assert_eq!(listed(r#"{"type": "string", "enum": ["a"], "secret": true}"#), [""; 0]);
    }

    #[test]
    fn texts_of_a_hostile_cache_act_on_no_terminal_and_no_shell() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("complete-0.json");
        let parameter =
            r#"{"name": "p", "description": "\u001b[2J`x`", "values": ["ok", "$(reboot)", "a b", "x\u001b"]}"#;
        let action =
            format!(r#"{{"name": "a.b", "description": "\u001b]0;x\u0007$(x)", "parameters": [{parameter}]}}"#);
        let actions = vec![action; MAX_ACTIONS + 1].join(",");
        let text = format!(r#"{{"format": 1, "at_ms": 1, "failed_ms": 0, "actions": [{actions}], "channels": []}}"#);
        fs::write(&path, text).unwrap();
        let known = read(&path).unwrap();
        assert_eq!(known.actions.len(), MAX_ACTIONS);
        let action = &known.actions[0];
        for text in [&action.description, &action.parameters[0].description] {
            assert!(!text.contains(['\u{1b}', '\u{7}', '$', '`']), "{text:?}");
        }
        assert_eq!(action.parameters[0].values, ["ok"]);
    }

    #[test]
    fn a_link_in_place_of_the_cache_is_replaced_and_a_pipe_is_not_waited_for() {
        let temp = tempfile::tempdir().unwrap();
        let (victim, link) = (temp.path().join("victim"), temp.path().join("complete-1.json"));
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        let known = Known { format: FORMAT, at_ms: 5, ..Known::default() };
        write(&link, &known).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(read(&link), Some(known));
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&link.symlink_metadata().unwrap()) & 0o7777, 0o600);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 2, "no temporary file is left");
        let pipe = temp.path().join("complete-2.json");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read(&pipe), None);
    }

    #[test]
    fn a_cache_of_another_format_and_a_hostile_one_are_not_used() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("complete-0.json");
        for text in [
            r#"{"format": 2, "at_ms": 1, "failed_ms": 0, "actions": [], "channels": []}"#,
            r#"{"format": 1, "at_ms": 1, "failed_ms": 0, "actions": [{"name": "a;reboot", "description": "", "parameters": []}], "channels": []}"#,
            "not JSON",
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(read(&path), None, "{text}");
        }
        let known = Known { format: FORMAT, at_ms: 5, ..Known::default() };
        write(&temp.path().join("x/complete-1.json"), &known).unwrap();
        assert_eq!(read(&temp.path().join("x/complete-1.json")), Some(known));
    }
}
