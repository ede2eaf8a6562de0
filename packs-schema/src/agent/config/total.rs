//! `[execution] total`: limits of all executions together. Percentages refer to the host, so that one file serves hosts
//! of all sizes; the launcher converts them.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::base::quantity::{Bytes, TextOrNumber};

/// `[execution] total`. The limits of an action are in its own file; the lower limit applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TotalConfig {
    /// Memory, including page cache: a percentage of the host's (`25%`), or a size.
    pub memory: Portion,
    /// Processor time, as a percentage of all processors.
    pub cpu: Percent,
    /// Processes and threads.
    pub pids: u32,
}

impl Default for TotalConfig {
    /// Defaults for a host whose memory belongs to a database: a quarter of it is enough for several actions at the
    /// default limit, and the page cache in it is reclaimed first. Half of the processors, for which an action at nice
    /// 1 competes in any case.
    fn default() -> TotalConfig {
        TotalConfig { memory: Portion::Of(Percent(25)), cpu: Percent(50), pids: 2048 }
    }
}

/// Percentage from 1 % to 100 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Percent(u8);

impl Percent {
    /// Parses `25%`.
    pub fn parse(text: &str) -> Option<Percent> {
        let number = text.strip_suffix('%')?.trim_end();
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        number.parse().ok().filter(|n| digits && (1..=100).contains(n)).map(Percent)
    }

    /// Returns this percentage of `whole`.
    pub fn of(self, whole: u64) -> u64 {
        u64::try_from(u128::from(whole) * u128::from(self.0) / 100).unwrap_or(u64::MAX)
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Percent, D::Error> {
        let text = String::deserialize(from)?;
        let wrong = || format!("{text:?} is not a percentage of the host: use 1% to 100%, such as 50%");
        Percent::parse(&text).ok_or_else(|| D::Error::custom(wrong()))
    }
}

/// Percentage of the host's resource, or a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Portion {
    /// Percentage.
    Of(Percent),
    /// Size in bytes.
    Size(Bytes),
}

impl Portion {
    /// Returns the size in bytes, given the host's `whole`.
    pub fn bytes(self, whole: u64) -> u64 {
        match self {
            Portion::Of(percent) => percent.of(whole),
            Portion::Size(bytes) => bytes.0,
        }
    }
}

impl<'de> Deserialize<'de> for Portion {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Portion, D::Error> {
        match TextOrNumber::read(from, "a size such as 2GiB, or a percentage of the host's memory such as 50%")? {
            TextOrNumber::Number(bytes) => Ok(Portion::Size(Bytes(bytes))),
            TextOrNumber::Text(text) => {
                match Percent::parse(&text) {
                    Some(percent) => Ok(Portion::Of(percent)),
                    None => crate::base::quantity::parse_bytes(&text).map(|bytes| Portion::Size(Bytes(bytes))).map_err(
                        |e| D::Error::custom(format!("{e}; or use a percentage of the host's memory, from 1% to 100%")),
                    ),
                }
            }
            TextOrNumber::Float(_) => Err(D::Error::custom("must be whole bytes, or a percentage such as 50%")),
        }
    }
}
