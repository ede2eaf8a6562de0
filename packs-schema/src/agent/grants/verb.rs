//! Verbs: the kinds of requests that a grant allows.

use serde::{Deserialize, Serialize};

/// Verb of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Read actions, their packs, executions and output, and metrics.
    Read,
    /// Start an execution.
    Run,
    /// Stop an execution.
    Kill,
    /// Request a poll of the repository.
    Sync,
    /// Push a pack, on instances that allow it.
    Push,
    /// Read metrics only, for scrapers.
    Metrics,
    /// Approve an execution that needs approval. Reserved: no action needs approval yet.
    Approve,
}

impl Verb {
    /// Every verb.
    pub const ALL: &[Verb] = &[Verb::Read, Verb::Run, Verb::Kill, Verb::Sync, Verb::Push, Verb::Metrics, Verb::Approve];
}

/// Error returned for a text that names no verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of read, run, kill, sync, push, metrics, approve")]
pub struct UnknownVerb;

impl std::str::FromStr for Verb {
    type Err = UnknownVerb;
    fn from_str(text: &str) -> Result<Verb, UnknownVerb> {
        Verb::ALL.iter().find(|verb| verb.to_string() == text).copied().ok_or(UnknownVerb)
    }
}

impl std::fmt::Display for Verb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Verb::Read => "read",
            Verb::Run => "run",
            Verb::Kill => "kill",
            Verb::Sync => "sync",
            Verb::Push => "push",
            Verb::Metrics => "metrics",
            Verb::Approve => "approve",
        })
    }
}
