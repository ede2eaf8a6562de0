//! Outcomes of targets, and the reasons for which a run stops.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a target ended, as far as the budgets are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The action succeeded.
    Succeeded,
    /// The action failed, was refused, or contact was lost after it may have started.
    Failed,
    /// The instance was not reached, and nothing can have started there.
    Unreachable,
}

/// Reason why no further target starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// More targets failed than the budget allows.
    Failures,
    /// More targets of a batch failed than its budget allows.
    BatchFailures,
    /// More targets were unreachable than the budget allows.
    Unreachable,
    /// The check after a batch failed on more targets than allowed.
    Check,
    /// The next batch was not confirmed.
    Declined,
    /// The time for the whole run is over.
    Deadline,
    /// The caller asked.
    Asked,
}

impl Stopped {
    /// Stable name for programs.
    pub fn code(self) -> &'static str {
        match self {
            Stopped::Failures => "max_failures",
            Stopped::BatchFailures => "max_batch_failures",
            Stopped::Unreachable => "max_unreachable",
            Stopped::Check => "check",
            Stopped::Declined => "declined",
            Stopped::Deadline => "deadline",
            Stopped::Asked => "interrupted",
        }
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stopped::Failures => "more instances failed than --max-failures allows",
            Stopped::BatchFailures => "more instances of a batch failed than --max-batch-failures allows",
            Stopped::Unreachable => "more instances were unreachable than --max-unreachable allows",
            Stopped::Check => "the check failed on more instances than --max-check-failures allows",
            Stopped::Declined => "the next batch was not confirmed",
            Stopped::Deadline => "the time that --within allows is over",
            Stopped::Asked => "interrupted",
        })
    }
}
