//! Channels and the names of targets in a repository.
//!
//! ```text
//! targets/packs/<pack>/<version>.tar.gz       the pack, reproducibly built
//! targets/channels/<channel>/<pack>.json      a Channel: which version applies, and where
//! ```

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::filter::Filter;
use crate::name::{ChannelName, PackName, PackVersion};

/// The largest channel file, in bytes.
pub const MAX_CHANNEL_FILE: u64 = 64 << 10;

/// `channels/<channel>/<pack>.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// The pack; it must be the one in the file's name.
    pub pack: PackName,
    /// The version that applies.
    pub version: PackVersion,
    /// To how many of the instances, in percent.
    #[serde(default = "all", deserialize_with = "percent")]
    pub percent: u8,
    /// To which of them.
    #[serde(rename = "where", default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
}

fn all() -> u8 {
    100
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

/// The target name of a channel file.
pub fn channel_target(channel: &ChannelName, pack: &PackName) -> String {
    format!("channels/{channel}/{pack}.json")
}

/// Reads a target name made by [`channel_target`].
pub fn parse_channel_target(target: &str) -> Option<(ChannelName, PackName)> {
    let (channel, file) = target.strip_prefix("channels/")?.split_once('/')?;
    Some((ChannelName::new(channel).ok()?, PackName::new(file.strip_suffix(".json")?).ok()?))
}
