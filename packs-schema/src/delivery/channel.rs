//! Channels: which version of a pack applies where, and the names of targets in a repository.
//!
//! ```text
//! targets/packs/<pack>/<version>.tar.gz       the pack, reproducibly built
//! targets/channels/<channel>/<pack>.json      a Channel
//! targets/log/<n>.ndjson                      who changed what; agents never fetch it
//! targets/log/team-<team>/<n>.ndjson          the same, of a team's own changes
//! targets/log/retired-<n>.json                versions that no channel holds; agents never fetch it
//! ```
//!
//! A channel lists rules, the newest version first, and an instance takes the first that applies to it. So a rollout to
//! a tenth of the instances leaves the rest with the version before, also those that are new:
//!
//! ```json
//! {"format": 1, "serial": 8, "pack": "cassandra",
//!  "rules": [{"version": "2.4.1", "percent": 10, "where": "app == 'cassandra'"}, {"version": "2.4.0"}]}
//! ```
//!
//! Nothing goes back by itself. A rollback says so: it names the versions that it takes back in `withdrawn`, and only an
//! instance that runs one of those takes a lower one. A channel whose every version was withdrawn holds nothing: its one rule is
//! [`Rule::nothing`], so that agents of every version read it, and instances have the pack no longer. `serial` rises with every change, so that an old file is known.

mod decide;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

pub use decide::Decision;

use crate::base::name::{ChannelName, PackName, PackVersion};
use crate::delivery::filter::Filter;

/// The version of channel files that this code reads and writes.
pub const FORMAT: u32 = 1;
/// The largest channel file, in bytes.
pub const MAX_CHANNEL_FILE: u64 = 64 << 10;
/// The most rules of a channel.
pub const MAX_RULES: usize = 8;
/// The most versions that a channel remembers as withdrawn. Beyond it the lowest are forgotten.
pub const MAX_WITHDRAWN: usize = 100;

/// The version in the rule of a channel that holds nothing: the lowest that there can be, and never published.
const NOTHING: &str = "0.0.0-0";

/// `channels/<channel>/<pack>.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Raw")]
pub struct Channel {
    format: u32,
    /// One more with every change.
    pub serial: u64,
    /// The pack; it must be the one in the file's name.
    pub pack: PackName,
    /// Highest version first; an instance takes the first that applies to it.
    pub rules: Vec<Rule>,
    /// Versions that were taken back here: an instance that runs one goes to what applies to it, also when that is lower, and
    /// where nothing applies it has none any more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub withdrawn: Vec<PackVersion>,
}

/// One version, and where it applies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The version that applies.
    pub version: PackVersion,
    /// To how many of the instances, in percent.
    #[serde(default = "all", skip_serializing_if = "is_all", deserialize_with = "percent")]
    pub percent: u8,
    /// To which of them.
    #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// It goes to no instance that has not got it yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

impl Rule {
    /// To every instance.
    pub fn new(version: PackVersion) -> Rule {
        Rule { version, percent: 100, filter: None, paused: false }
    }

    /// The rule of a channel that holds nothing: it applies to no instance.
    pub fn nothing() -> Rule {
        let version = PackVersion::new(NOTHING).expect("a valid version");
        Rule { percent: 0, ..Rule::new(version) }
    }

    /// True for [`Rule::nothing`].
    pub fn is_nothing(&self) -> bool {
        is_reserved(&self.version)
    }

    /// True if whatever `other` applies to, this one does.
    fn covers(&self, other: &Rule) -> bool {
        !self.paused && self.percent >= other.percent && (self.filter.is_none() || self.filter == other.filter)
    }
}

/// True for the version that stands for "nothing" in channels, so that no pack may have it.
pub fn is_reserved(version: &PackVersion) -> bool {
    version.to_string() == NOTHING
}

/// Why rules make no channel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// A file of another time.
    #[error("format {0} is not one that this version reads, which is {FORMAT}")]
    Format(u32),
    /// None or too many.
    #[error("a channel has 1 to {MAX_RULES} rules, not {0}")]
    Rules(usize),
    /// Versions that do not go down.
    #[error("{after} stands after {before}: the highest version comes first, and none twice")]
    Order {
        /// The version.
        before: PackVersion,
        /// The one after it.
        after: PackVersion,
    },
    /// Taken back and given out.
    #[error("{0} is withdrawn and has a rule all the same")]
    Withdrawn(PackVersion),
    /// Too many.
    #[error("a channel remembers at most {MAX_WITHDRAWN} withdrawn versions, not {0}")]
    TooManyWithdrawn(usize),
    /// No change before the first.
    #[error("serial starts at 1")]
    Serial,
}

impl Channel {
    /// The change `serial` of a channel. Rules that never apply are left out.
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

    /// True if every version of the channel was withdrawn.
    pub fn holds_nothing(&self) -> bool {
        self.newest().is_nothing()
    }

    /// The rule of the highest version.
    pub fn newest(&self) -> &Rule {
        self.rules.first().expect("a channel has a rule")
    }
}

/// As it stands in the file.
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

/// The target name of a pack's archive.
pub fn pack_target(pack: &PackName, version: &PackVersion) -> String {
    format!("packs/{pack}/{version}.tar.gz")
}

/// Reads a target name made by [`pack_target`].
pub fn parse_pack_target(target: &str) -> Option<(PackName, PackVersion)> {
    let (pack, file) = target.strip_prefix("packs/")?.split_once('/')?;
    Some((PackName::new(pack).ok()?, PackVersion::new(file.strip_suffix(".tar.gz")?).ok()?))
}

/// The target name of a channel file.
pub fn channel_target(channel: &ChannelName, pack: &PackName) -> String {
    format!("channels/{channel}/{pack}.json")
}

/// Reads a target name made by [`channel_target`].
pub fn parse_channel_target(target: &str) -> Option<(ChannelName, PackName)> {
    let (channel, file) = target.strip_prefix("channels/")?.split_once('/')?;
    Some((ChannelName::new(channel).ok()?, PackName::new(file.strip_suffix(".json")?).ok()?))
}

#[cfg(test)]
mod tests;
