//! The journal: every change with its time, author, source and reason, as signed targets beside the changed ones.
//!
//! ```text
//!  log/000001.ndjson, log/000002.ndjson …       changes signed by the targets role
//!  log/team-dba/000001.ndjson …                 changes signed by a team
//! ```
//!
//! Each change is a line with the SHA-256 of the line before, so that a line that was changed or left out later is detected,
//! even when whoever did it may sign. Each change writes the last part again, so that one is small; when it is full it joins the
//! part before it, until that is full as well and never changes again. Agents fetch none of it.
//!
//! The last part has at most 8 KiB, a full one 64 KiB. A log that begins in the middle is refused unless a signed line says where it
//! was pruned.

use std::collections::HashMap;

use packs_schema::base::name::{ChannelName, PackName, PackVersion, TeamName};
use packs_schema::delivery::channel::Channel;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::origin::{By, Source};
use super::owner::Owner;
use super::state::State;
use super::{RepoError, hex, now_ms};

/// Maximum size of the last part, in bytes; each change writes it again.
const MAX_OPEN: usize = 8 << 10;
/// Maximum size of the other parts, in bytes.
const MAX_PART: usize = 64 << 10;
/// Maximum size of a part that is read, in bytes.
const MAX_READ: u64 = 1 << 20;
/// Maximum number of parts of a log.
const MAX_PARTS: u32 = 99_999;

/// Kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// A version was published.
    Publish,
    /// A channel was given a version, or a version more instances.
    Promote,
    /// A version was given more instances.
    Widen,
    /// A rollout was stopped where it was.
    Pause,
    /// A paused rollout was resumed.
    Resume,
    /// A version was taken back.
    Rollback,
    /// A team was given a pack.
    Delegate,
    /// A team lost a pack.
    Undelegate,
    /// Old versions, or the oldest part of the journal, were removed.
    Prune,
    /// A version that no channel held was taken out of the signed metadata.
    Unpublish,
    /// A kind that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Time, in milliseconds since 1970.
    pub at_ms: u64,
    /// Kind of the change.
    pub change: Change,
    /// The pack.
    pub pack: PackName,
    /// The channel, for a change of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelName>,
    /// The version, for a change of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<PackVersion>,
    /// Channel that a promotion took the version from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ChannelName>,
    /// The team, for a change of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<TeamName>,
    /// The channel file before the change, unparsed, so that one of another format is readable as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// The channel file after the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// Work tree that the pack was built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Versions that were removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<PackVersion>,
    /// SHA-256 of the last line that was removed from this log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<String>,
    /// The reason that the publisher gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Author of the change.
    pub by: By,
    /// SHA-256 of the line before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
}

impl Entry {
    /// Returns an entry with the current time and without an author.
    pub(super) fn new(change: Change, pack: &PackName) -> Entry {
        Entry {
            at_ms: now_ms(),
            change,
            pack: pack.clone(),
            channel: None,
            version: None,
            from: None,
            team: None,
            before: None,
            after: None,
            source: None,
            versions: Vec::new(),
            dropped: None,
            reason: None,
            by: By::default(),
            previous: None,
        }
    }

    /// Records the content of a channel before and after the change.
    pub(super) fn changed(mut self, channel: &ChannelName, before: Option<&Channel>, after: &Channel) -> Entry {
        self.channel = Some(channel.clone());
        self.before = before.map(|channel| json!(channel));
        self.after = Some(json!(after));
        self
    }

    /// Returns the content of the channel before and after the change.
    pub(super) fn channels(&self) -> Vec<Channel> {
        let files = self.before.iter().chain(&self.after);
        files.filter_map(|file| serde_json::from_value::<Channel>(file.clone()).ok()).collect()
    }
}

fn part_name(owner: &Owner, number: u32) -> String {
    match owner {
        Owner::Top => format!("log/{number:06}.ndjson"),
        Owner::Team(_) => format!("log/{}/{number:06}.ndjson", owner.role()),
    }
}

/// Returns the owner and the number of the part with this target name.
fn parse_part_name(name: &str) -> Option<(Owner, u32)> {
    let (owner, file) = match name.strip_prefix("log/")?.split_once('/') {
        Some((role, file)) => (Owner::of_role(role)?, file),
        None => (Owner::Top, name.strip_prefix("log/")?),
    };
    let number = file.strip_suffix(".ndjson")?;
    (number.len() == 6).then(|| number.parse().ok()).flatten().map(|number| (owner, number))
}

/// Appends `entry` to the log of `owner`, which signs it.
pub(super) async fn append(state: &mut State, owner: &Owner, entry: Entry) -> Result<(), RepoError> {
    let numbers = state.all().into_iter().filter_map(|(name, _, _)| parse_part_name(name));
    let last = numbers.filter(|(log, _)| log == owner).map(|(_, number)| number).max();
    let mut part = match last {
        Some(number) => state.bytes(&part_name(owner, number), MAX_READ).await?.unwrap_or_default(),
        None => Vec::new(),
    };
    let previous = part.split(|b| *b == b'\n').rfind(|line| !line.is_empty()).map(|line| hex(&Sha256::digest(line)));
    let reason = state.reason.as_ref().map(|reason| reason.as_str().to_owned());
    let mut line = serde_json::to_vec(&Entry { previous, reason, ..entry }).expect("an entry serialises");
    line.push(b'\n');
    let mut number = last.unwrap_or(1);
    if !part.is_empty() && part.len() + line.len() > MAX_OPEN {
        // The open part joins the one before it, unless that would become too large; in both cases a new one begins.
        let before = if number > 1 { state.bytes(&part_name(owner, number - 1), MAX_READ).await? } else { None };
        match before {
            Some(before) if before.len() + part.len() <= MAX_PART => {
                state.set(owner, &part_name(owner, number - 1), [before, part].concat(), HashMap::new())?;
            }
            _ => number += 1,
        }
        part = Vec::new();
    }
    let name = part_name(owner, number);
    if number > MAX_PARTS {
        return Err(RepoError::Unreadable { name, problem: format!("a log has at most {MAX_PARTS} parts") });
    }
    part.extend(line);
    state.set(owner, &name, part, HashMap::new())
}

/// Part of a log.
pub(super) struct Part {
    /// Target name.
    pub(super) name: String,
    pub(super) entries: Vec<Entry>,
    /// SHA-256 of its last line.
    pub(super) last_line: String,
}

/// Returns the parts of the log of `owner`, in order.
pub(super) async fn parts(state: &State, owner: &Owner) -> Result<Vec<Part>, RepoError> {
    let all = state.all().into_iter();
    let mut names: Vec<(u32, String)> = all
        .filter_map(|(name, ..)| parse_part_name(name).filter(|(of, _)| of == owner).map(|(_, n)| (n, name.to_owned())))
        .collect();
    names.sort();
    let mut parts = Vec::new();
    for (_, name) in names {
        let bytes = state.bytes(&name, MAX_READ).await?.unwrap_or_default();
        let mut part = Part { name, entries: Vec::new(), last_line: String::new() };
        for line in bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let wrong =
                |e: serde_json::Error| RepoError::Unreadable { name: part.name.clone(), problem: e.to_string() };
            part.entries.push(serde_json::from_slice(line).map_err(wrong)?);
            part.last_line = hex(&Sha256::digest(line));
        }
        parts.push(part);
    }
    Ok(parts)
}

/// Returns every signed line, oldest first, after checking the hashes that link the lines of each log.
pub(super) async fn read<T>(state: &State<T>) -> Result<Vec<(Owner, Entry)>, RepoError> {
    let mut parts: Vec<((Owner, u32), String)> = Vec::new();
    for (name, _, _) in state.all() {
        if let Some(part) = parse_part_name(name) {
            parts.push((part, name.to_owned()));
        }
    }
    parts.sort();
    let mut entries: Vec<(Owner, Entry)> = Vec::new();
    let mut before: HashMap<Owner, String> = HashMap::new();
    // Logs that begin in the middle: a line of theirs must say up to where they were pruned.
    let mut begun: Vec<(Owner, String, Option<String>)> = Vec::new();
    for ((owner, part), name) in parts {
        let bytes = state.bytes(&name, MAX_READ).await?.unwrap_or_default();
        for (number, line) in bytes.split(|b| *b == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            let wrong = |problem: String| RepoError::Unreadable {
                name: name.clone(),
                problem: format!("line {}: {problem}", number + 1),
            };
            let entry: Entry = serde_json::from_slice(line).map_err(|e| wrong(e.to_string()))?;
            if part > 1 && !before.contains_key(&owner) {
                begun.push((owner.clone(), name.clone(), entry.previous.clone()));
            } else if entry.previous.as_ref() != before.get(&owner) {
                return Err(wrong("the line before it was changed or left out".to_owned()));
            }
            before.insert(owner.clone(), hex(&Sha256::digest(line)));
            entries.push((owner.clone(), entry));
        }
    }
    for (owner, name, previous) in begun {
        let pruned =
            |(of, entry): &(Owner, Entry)| *of == owner && entry.dropped.is_some() && entry.dropped == previous;
        if !entries.iter().any(pruned) {
            let problem =
                "line 1: the lines before it were left out, and no line says that they were pruned".to_owned();
            return Err(RepoError::Unreadable { name, problem });
        }
    }
    entries.sort_by_key(|(_, entry)| entry.at_ms);
    Ok(entries)
}
