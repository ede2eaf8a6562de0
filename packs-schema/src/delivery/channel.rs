//! Channels: rules that decide which version of a pack an instance gets, and the names of targets in a repository.
//!
//! ```text
//! targets/packs/<pack>/<version>.tar.gz       the pack, reproducibly built
//! targets/channels/<channel>/<pack>.json      a Channel
//! targets/log/<n>.ndjson                      journal of changes; agents never fetch it
//! targets/log/team-<team>/<n>.ndjson          journal of a team's changes
//! targets/log/retired-<n>.json                versions without a channel; agents never fetch it
//! targets/log/removed-<n>.json                digests of versions that were removed; agents never fetch it
//! ```
//!
//! A channel lists rules, highest version first, and an instance follows the first rule that applies to it. A rollout
//! to a tenth of the instances therefore leaves the previous version to all others, including new instances:
//!
//! ```json
//! {"format": 1, "serial": 8, "pack": "cassandra",
//!  "rules": [{"version": "2.4.1", "percent": 10, "where": "app == 'cassandra'"}, {"version": "2.4.0"}]}
//! ```
//!
//! Versions never go down by themselves. A rollback lists the versions that it takes back in `withdrawn`, and only an
//! instance that runs one of them activates a lower version. A channel whose versions are all withdrawn is empty: its
//! one rule is [`Rule::nothing`], which agents of every version can read, and instances remove the pack. `serial`
//! increases with every change, so that an old file is detected.

mod decide;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

pub use decide::Decision;

use crate::base::name::{ChannelName, PackName, PackVersion};
use crate::delivery::filter::Filter;

/// Format of channel files that this code reads and writes.
pub const FORMAT: u32 = 1;
/// Maximum size of a channel file, in bytes.
pub const MAX_CHANNEL_FILE: u64 = 64 << 10;
/// Maximum number of rules of a channel.
pub const MAX_RULES: usize = 8;
/// Maximum number of withdrawn versions in a channel. Beyond it the lowest are dropped.
pub const MAX_WITHDRAWN: usize = 100;

/// Version in the rule of an empty channel: the lowest possible one, which is never published.
const NOTHING: &str = "0.0.0-0";

/// A channel file, `channels/<channel>/<pack>.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Channel {
    format: u32,
    /// Serial number, which increases with every change.
    pub serial: u64,
    /// The pack; it must match the file's name.
    pub pack: PackName,
    /// Rules, highest version first; an instance follows the first one that applies to it.
    pub rules: Vec<Rule>,
    /// Withdrawn versions: an instance that runs one of them switches to the rule that applies, even if its version is
    /// lower, and removes the pack if no rule applies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub withdrawn: Vec<PackVersion>,
}

/// Version and the instances to which it applies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Version.
    pub version: PackVersion,
    /// Percentage of instances (cohorts below this number).
    #[serde(default = "all", skip_serializing_if = "is_all", deserialize_with = "percent")]
    pub percent: u8,
    /// Restricts the rule to matching instances.
    #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// `true`: the rollout is paused; only instances that already have the version keep it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

impl Rule {
    /// Creates a rule for every instance.
    pub fn new(version: PackVersion) -> Rule {
        Rule { version, percent: 100, filter: None, paused: false }
    }

    /// Creates the rule of an empty channel, which applies to no instance.
    pub fn nothing() -> Rule {
        let version = PackVersion::new(NOTHING).expect("a valid version");
        Rule { percent: 0, ..Rule::new(version) }
    }

    /// True for [`Rule::nothing`].
    pub fn is_nothing(&self) -> bool {
        is_reserved(&self.version)
    }

    /// True if this rule applies to every instance to which `other` applies.
    fn covers(&self, other: &Rule) -> bool {
        !self.paused && self.percent >= other.percent && (self.filter.is_none() || self.filter == other.filter)
    }
}

/// True for the version that marks an empty channel, which no pack may have.
pub fn is_reserved(version: &PackVersion) -> bool {
    version.to_string() == NOTHING
}

/// Error returned for an invalid channel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// Unsupported format.
    #[error("format {0} is not supported; this version reads format {FORMAT}")]
    Format(u32),
    /// No rules, or too many.
    #[error("a channel has 1 to {MAX_RULES} rules, not {0}")]
    Rules(usize),
    /// Versions are not in descending order.
    #[error("{after} follows {before}: list versions in descending order, each once")]
    Order {
        /// The version.
        before: PackVersion,
        /// The version after it.
        after: PackVersion,
    },
    /// A withdrawn version has a rule.
    #[error("{0} is withdrawn but has a rule; remove one of the two")]
    Withdrawn(PackVersion),
    /// Too many withdrawn versions.
    #[error("a channel has at most {MAX_WITHDRAWN} withdrawn versions, not {0}")]
    TooManyWithdrawn(usize),
    /// Serial 0.
    #[error("serial starts at 1")]
    Serial,
}

impl Channel {
    /// Creates the channel with serial `serial`. Rules that can never apply are dropped.
    pub fn new(
        serial: u64,
        pack: PackName,
        rules: Vec<Rule>,
        mut withdrawn: Vec<PackVersion>,
    ) -> Result<Channel, ChannelError> {
        let mut kept: Vec<Rule> = Vec::new();
        for rule in rules {
            if !kept.iter().any(|before| before.covers(&rule)) {
                kept.push(rule);
            }
        }
        withdrawn.retain(|version| !kept.iter().any(|rule| rule.version == *version));
        withdrawn.sort();
        withdrawn.dedup();
        let forgotten = withdrawn.len().saturating_sub(MAX_WITHDRAWN);
        withdrawn.drain(..forgotten);
        Channel { format: FORMAT, serial, pack, rules: kept, withdrawn }.checked()
    }

    fn checked(self) -> Result<Channel, ChannelError> {
        if self.format != FORMAT {
            return Err(ChannelError::Format(self.format));
        }
        if self.serial == 0 {
            return Err(ChannelError::Serial);
        }
        if !(1..=MAX_RULES).contains(&self.rules.len()) {
            return Err(ChannelError::Rules(self.rules.len()));
        }
        if self.withdrawn.len() > MAX_WITHDRAWN {
            return Err(ChannelError::TooManyWithdrawn(self.withdrawn.len()));
        }
        if let Some([before, after]) =
            self.rules.array_windows().find(|[before, after]| before.version <= after.version)
        {
            return Err(ChannelError::Order { before: before.version.clone(), after: after.version.clone() });
        }
        match self.rules.iter().find(|rule| self.withdrawn.contains(&rule.version)) {
            Some(rule) => Err(ChannelError::Withdrawn(rule.version.clone())),
            None => Ok(self),
        }
    }

    /// True if all versions of the channel are withdrawn.
    pub fn holds_nothing(&self) -> bool {
        self.newest().is_nothing()
    }

    /// Returns the rule of the highest version.
    pub fn newest(&self) -> &Rule {
        self.rules.first().expect("a channel has a rule")
    }
}

/// Content of the file, before it is checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    format: u32,
    serial: u64,
    pack: PackName,
    rules: Vec<Rule>,
    #[serde(default)]
    withdrawn: Vec<PackVersion>,
}

impl TryFrom<Raw> for Channel {
    type Error = ChannelError;
    fn try_from(Raw { format, serial, pack, rules, withdrawn }: Raw) -> Result<Channel, ChannelError> {
        Channel { format, serial, pack, rules, withdrawn }.checked()
    }
}

fn all() -> u8 {
    100
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out a reference")]
fn is_all(percent: &u8) -> bool {
    *percent == 100
}

fn percent<'de, D: Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
    let given = u8::deserialize(from)?;
    if given <= 100 {
        Ok(given)
    } else {
        Err(D::Error::custom(format_args!("percent must be at most 100, not {given}")))
    }
}

/// Returns the target name of a pack archive.
pub fn pack_target(pack: &PackName, version: &PackVersion) -> String {
    format!("packs/{pack}/{version}.tar.gz")
}

/// Parses a target name from [`pack_target`].
pub fn parse_pack_target(target: &str) -> Option<(PackName, PackVersion)> {
    let (pack, file) = target.strip_prefix("packs/")?.split_once('/')?;
    Some((PackName::new(pack).ok()?, PackVersion::new(file.strip_suffix(".tar.gz")?).ok()?))
}

/// Returns the target name of a channel file.
pub fn channel_target(channel: &ChannelName, pack: &PackName) -> String {
    format!("channels/{channel}/{pack}.json")
}

/// Parses a target name from [`channel_target`].
pub fn parse_channel_target(target: &str) -> Option<(ChannelName, PackName)> {
    let (channel, file) = target.strip_prefix("channels/")?.split_once('/')?;
    Some((ChannelName::new(channel).ok()?, PackName::new(file.strip_suffix(".json")?).ok()?))
}

#[cfg(test)]
mod tests;
