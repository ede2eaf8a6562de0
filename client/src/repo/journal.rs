//! The journal: who changed what, when and from where, as signed targets beside what was changed.
//!
//! ```text
//!  log/000001.ndjson, log/000002.ndjson …       changes signed by the targets role
//!  log/team-dba/000001.ndjson …                 changes signed by a team
//! ```
//!
//! One line per change, each with the SHA-256 of the line before, so that a line that was changed or left out later is seen
//! even when whoever did it may sign. A part is closed when it is full; a closed part never changes. Agents fetch none of it.

use std::collections::HashMap;

use packs_schema::channel::Channel;
use packs_schema::name::{ChannelName, PackName, PackVersion, TeamName};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::origin::{By, Source};
use super::owner::Owner;
use super::state::State;
use super::{RepoError, hex, now_ms};

/// The most bytes of a part. A change that does not fit begins the next one.
const MAX_PART: usize = 64 << 10;
/// The most bytes of a part that are read.
const MAX_READ: u64 = 1 << 20;
/// The most parts of a log.
const MAX_PARTS: u32 = 99_999;

/// What was done.
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
    /// It went on.
    Resume,
    /// A version was taken back.
    Rollback,
    /// A team was given a pack.
    Delegate,
    /// It was taken away.
    Undelegate,
    /// Something that this version does not know.
    #[serde(other)]
    Unknown,
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What was done …
    pub change: Change,
    /// … to this pack …
    pub pack: PackName,
    /// … in this channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<ChannelName>,
    /// The version that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<PackVersion>,
    /// The channel that the version was taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ChannelName>,
    /// The team that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<TeamName>,
    /// The channel file before; as it stood there, so that one of another format is readable too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// The channel file after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// The work tree that the pack was built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Who.
    pub by: By,
    /// The SHA-256 of the line before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
}

impl Entry {
    /// A change of now, by nobody yet.
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
            by: By::default(),
            previous: None,
        }
    }

    /// What the channel held before and after.
    pub(super) fn changed(mut self, channel: &ChannelName, before: Option<&Channel>, after: &Channel) -> Entry {
        self.channel = Some(channel.clone());
        self.before = before.map(|channel| json!(channel));
        self.after = Some(json!(after));
        self
    }

    /// What the channel held, before and after.
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

/// The owner of the log that a target is a part of, and its number.
fn parse_part_name(name: &str) -> Option<(Owner, u32)> {
    let (owner, file) = match name.strip_prefix("log/")?.split_once('/') {
        Some((role, file)) => (Owner::of_role(role)?, file),
        None => (Owner::Top, name.strip_prefix("log/")?),
    };
    let number = file.strip_suffix(".ndjson")?;
    (number.len() == 6).then(|| number.parse().ok()).flatten().map(|number| (owner, number))
}

/// Adds `entry` to the log of `owner`, which signs it.
pub(super) async fn append(state: &mut State, owner: &Owner, entry: Entry) -> Result<(), RepoError> {
    let numbers = state.all().into_iter().filter_map(|(name, _, _)| parse_part_name(name.raw()));
    let last = numbers.filter(|(log, _)| log == owner).map(|(_, number)| number).max();
    let mut part = match last {
        Some(number) => state.bytes(&part_name(owner, number), MAX_READ).await?.unwrap_or_default(),
        None => Vec::new(),
    };
    let previous = part.split(|b| *b == b'\n').rfind(|line| !line.is_empty()).map(|line| hex(&Sha256::digest(line)));
    let mut line = serde_json::to_vec(&Entry { previous, ..entry }).expect("an entry serialises");
    line.push(b'\n');
    let mut number = last.unwrap_or(1);
    if !part.is_empty() && part.len() + line.len() > MAX_PART {
        number += 1;
        part.clear();
    }
    let name = part_name(owner, number);
    if number > MAX_PARTS {
        return Err(RepoError::Unreadable { name, problem: format!("a log has at most {MAX_PARTS} parts") });
    }
    part.extend(line);
    state.set(owner, &name, part, HashMap::new())
}

/// Every line that is signed, the oldest first. The lines of each log are held against each other.
pub(super) async fn read<T>(state: &State<T>) -> Result<Vec<(Owner, Entry)>, RepoError> {
    let mut parts: Vec<((Owner, u32), String)> = Vec::new();
    for (name, _, _) in state.all() {
        if let Some(part) = parse_part_name(name.raw()) {
            parts.push((part, name.raw().to_owned()));
        }
    }
    parts.sort();
    let mut entries: Vec<(Owner, Entry)> = Vec::new();
    let mut before: HashMap<Owner, String> = HashMap::new();
    for ((owner, _), name) in parts {
        let bytes = state.bytes(&name, MAX_READ).await?.unwrap_or_default();
        for (number, line) in bytes.split(|b| *b == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            let wrong = |problem: String| RepoError::Unreadable {
                name: name.clone(),
                problem: format!("line {}: {problem}", number + 1),
            };
            let entry: Entry = serde_json::from_slice(line).map_err(|e| wrong(e.to_string()))?;
            if entry.previous.as_ref() != before.get(&owner) {
                return Err(wrong("the line before it was changed or left out".to_owned()));
            }
            before.insert(owner.clone(), hex(&Sha256::digest(line)));
            entries.push((owner.clone(), entry));
        }
    }
    entries.sort_by_key(|(_, entry)| entry.at_ms);
    Ok(entries)
}
