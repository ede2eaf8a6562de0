//! How a run goes through its instances: order, batches, budgets, pauses. The caller chooses it; [`super::plan`] applies it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A count, or a percentage of all targets. Written as text: `5`, `10%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Amount {
    /// An absolute count.
    Count(usize),
    /// A percentage from 0 to 100.
    Percent(u32),
}

/// Error returned for a text that is not an [`Amount`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a count such as 5 or a percentage from 0% to 100%")]
pub struct AmountError(String);

impl FromStr for Amount {
    type Err = AmountError;
    fn from_str(text: &str) -> Result<Amount, AmountError> {
        let wrong = || AmountError(text.chars().take(40).collect());
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        match text.strip_suffix('%') {
            Some(percent) if digits(percent) => {
                percent.parse().ok().filter(|p| *p <= 100).map(Amount::Percent).ok_or_else(wrong)
            }
            None if digits(text) => text.parse().map(Amount::Count).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Amount {
    type Error = AmountError;
    fn try_from(text: String) -> Result<Amount, AmountError> {
        text.parse()
    }
}

impl From<Amount> for String {
    fn from(amount: Amount) -> String {
        amount.to_string()
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Amount::Count(count) => write!(f, "{count}"),
            Amount::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Amount {
    /// Returns the count out of `total`; a percentage is rounded down.
    pub(super) fn of(self, total: usize) -> usize {
        match self {
            Amount::Count(count) => count,
            Amount::Percent(percent) => total.saturating_mul(percent as usize) / 100,
        }
    }
}

/// Which instances form a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grouping {
    /// A batch for each instance.
    #[default]
    Serial,
    /// A batch for each zone.
    Zone,
    /// A batch for each region.
    Region,
    /// A single batch.
    All,
}

/// Pause between two batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pause {
    /// The next batch begins at once.
    #[default]
    None,
    /// The next batch begins after this time.
    For(#[serde(with = "milliseconds")] Duration),
    /// The next batch begins when the caller has confirmed it.
    Confirm,
}

/// Order of a run, and its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Strategy {
    /// Which instances form a batch.
    pub grouping: Grouping,
    /// Largest batch within a group. With [`Grouping::Serial`]: all targets, in batches of this size.
    pub batch: Option<Amount>,
    /// Number of targets that go first, as a batch of their own.
    pub canary: usize,
    /// Number of targets that may fail, over the whole run; once exceeded, no further target starts.
    pub max_failures: Amount,
    /// Number of targets that may fail within a batch; once exceeded, no further target starts. A percentage is one of the batch.
    pub max_batch_failures: Option<Amount>,
    /// Number of targets that may be unreachable, counted apart from failures; once exceeded, no further target starts.
    pub max_unreachable: Amount,
    /// Number of targets of a batch on which the check after it may fail; `None`: there is no check. A percentage is one of the
    /// batch.
    pub check: Option<Amount>,
    /// Pause between two batches.
    pub pause: Pause,
    /// Longest random delay of a start after the beginning of its batch, so that not all instances act in the same moment.
    #[serde(with = "milliseconds")]
    pub jitter: Duration,
    /// Time after which no further target starts.
    #[serde(with = "maybe_milliseconds")]
    pub deadline: Option<Duration>,
    /// Time for each target, from its start: afterwards contact counts as lost, and the run goes on.
    #[serde(with = "maybe_milliseconds")]
    pub instance_timeout: Option<Duration>,
    /// Maximum number of targets in flight, whatever the batch size.
    pub parallel: usize,
}

/// Default of [`Strategy::parallel`].
pub const DEFAULT_PARALLEL: usize = 64;

impl Default for Strategy {
    fn default() -> Strategy {
        Strategy {
            grouping: Grouping::Serial,
            batch: None,
            canary: 0,
            max_failures: Amount::Count(0),
            max_batch_failures: None,
            max_unreachable: Amount::Count(0),
            check: None,
            pause: Pause::None,
            jitter: Duration::ZERO,
            deadline: None,
            instance_timeout: None,
            parallel: DEFAULT_PARALLEL,
        }
    }
}

/// A duration as whole milliseconds.
mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// The same for a duration that may be absent.
mod maybe_milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => super::milliseconds::serialize(time, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
    }
}
