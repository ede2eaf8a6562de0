//! An execution on disk: the files in its directory, its states, and its output log.
//!
//! ```text
//! /var/lib/bolt/exec/<id>/        made by the api, which owns it
//!     spec                        by the api: what is to be run            (JSON, Spec)
//!     lock                        by the shim: exclusive flock as long as it lives
//!     started                     by the shim, before the action exists    (JSON, Started)
//!     output.log, tail.<s>.<n>    by the shim: framed output               (see output)
//!     kill                        by the api or the launcher: end it       (its existence counts)
//!     exit.new                    by the launcher: room for the end, before the action exists
//!     exit                        by the shim: how it ended                (JSON, Exit; renamed into place)
//!     archive                     by the api, a day after: the output, folded, in place of all but spec and exit
//! ```

pub mod output;
mod record;
pub mod reserve;

use serde::{Deserialize, Serialize};

pub use record::{
    Exit, FORMAT, Leftovers, MAX_PROGRAMS, OLDEST, RecordError, Spec, Started, StreamTotals, Usage, read_record,
};

/// The names of the files.
pub mod file {
    /// What is to be run.
    pub const SPEC: &str = "spec";
    /// Locked by the shim while it lives.
    pub const LOCK: &str = "lock";
    /// The action is about to exist.
    pub const STARTED: &str = "started";
    /// The first part of both streams, framed.
    pub const OUTPUT: &str = "output.log";
    /// End it.
    pub const KILL: &str = "kill";
    /// How it ended.
    pub const EXIT: &str = "exit";
    /// What becomes [`EXIT`] when it is renamed: never an end by itself, whatever is in it.
    pub const EXIT_NEW: &str = "exit.new";
    /// Its output, when it has been archived and is too large for the database.
    pub const ARCHIVE: &str = "archive";
}

/// Where an execution stands.
///
/// ```text
///  queued ──▶ running ──▶ succeeded | failed | timed_out | killed | out_of_memory | error | interrupted | lost
///     └─────────────────▶ killed | error | interrupted | lost | expired
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// On disk, not yet started.
    Queued,
    /// A shim has it.
    Running,
    /// Exit status 0.
    Succeeded,
    /// Another exit status, or ended by a signal that Bolt did not send.
    Failed,
    /// Stopped at its deadline.
    TimedOut,
    /// Stopped because a caller asked.
    Killed,
    /// The kernel stopped a process of it at its memory limit, and it did not succeed.
    OutOfMemory,
    /// It could not be started.
    Error,
    /// The host went down.
    Interrupted,
    /// Its shim was killed.
    Lost,
    /// It waited past its start deadline.
    Expired,
}

impl State {
    /// Every state.
    pub const ALL: [State; 11] = [
        State::Queued,
        State::Running,
        State::Succeeded,
        State::Failed,
        State::TimedOut,
        State::Killed,
        State::OutOfMemory,
        State::Error,
        State::Interrupted,
        State::Lost,
        State::Expired,
    ];

    /// True if the execution has ended and its record never changes again.
    pub fn is_terminal(self) -> bool {
        !matches!(self, State::Queued | State::Running)
    }

    /// Its name, as on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Running => "running",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::TimedOut => "timed_out",
            State::Killed => "killed",
            State::OutOfMemory => "out_of_memory",
            State::Error => "error",
            State::Interrupted => "interrupted",
            State::Lost => "lost",
            State::Expired => "expired",
        }
    }

    /// Whether an execution in this state may go over to `next`. The only place that says so.
    pub fn may_become(self, next: State) -> bool {
        match self {
            State::Queued => matches!(
                next,
                State::Running | State::Killed | State::Error | State::Interrupted | State::Expired | State::Lost
            ),
            State::Running => !matches!(next, State::Queued | State::Running | State::Expired),
            _ => false,
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for State {
    type Err = String;
    fn from_str(text: &str) -> Result<State, String> {
        State::ALL.into_iter().find(|s| s.as_str() == text).ok_or_else(|| {
            let names: Vec<&str> = State::ALL.iter().map(|s| s.as_str()).collect();
            format!("{text:?} is not a state; use one of {}", names.join(", "))
        })
    }
}
