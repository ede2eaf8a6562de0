//! Executions on disk: the files of an execution's directory, its states and its output log.
//!
//! ```text
//! /var/lib/bolt/exec/<id>/        created and owned by the api
//!     spec                        by the api: the request                  (JSON, Spec)
//!     lock                        by the shim: exclusive flock while it lives
//!     started                     by the shim, before the action exists    (JSON, Started)
//!     output.log, tail.<s>.<n>    by the shim: framed output               (see output)
//!     kill                        by the api or the launcher: kill request (an empty file; by root, while no api runs: JSON, Kill)
//!     exit.new                    by the launcher: space preallocated for the exit record
//!     exit                        by the shim: exit record                 (JSON, Exit; renamed into place)
//!     archive                     by the api, a day later: folded output, replaces all but spec and exit
//! ```

pub mod output;
mod record;
pub mod reserve;

use serde::{Deserialize, Serialize};

pub use record::{
    Exit, FORMAT, Kill, Leftovers, MAX_PROGRAMS, OLDEST, RecordError, Spec, Started, StreamTotals, Usage, read_record,
};

/// File names.
pub mod file {
    /// Request: action, parameters, caller.
    pub const SPEC: &str = "spec";
    /// Lock, held by the shim while it lives.
    pub const LOCK: &str = "lock";
    /// Start record, written before the action exists.
    pub const STARTED: &str = "started";
    /// First part of both streams, in frames.
    pub const OUTPUT: &str = "output.log";
    /// Kill request.
    pub const KILL: &str = "kill";
    /// Exit record.
    pub const EXIT: &str = "exit";
    /// Becomes [`EXIT`] by a rename. It is not an exit record itself, whatever it contains.
    pub const EXIT_NEW: &str = "exit.new";
    /// Archived output, if it is too large for the database.
    pub const ARCHIVE: &str = "archive";
}

/// State of an execution.
///
/// ```text
///  queued ──▶ running ──▶ succeeded | failed | timed_out | killed | out_of_memory | error | interrupted | lost
///     └─────────────────▶ killed | error | interrupted | lost | expired
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Recorded, not yet started.
    Queued,
    /// Started: a shim runs it.
    Running,
    /// Exit status 0.
    Succeeded,
    /// Another exit status, or ended by a signal that Bolt did not send.
    Failed,
    /// Stopped at its deadline.
    TimedOut,
    /// Stopped by a caller.
    Killed,
    /// The kernel killed one of its processes at the memory limit, and it did not succeed.
    OutOfMemory,
    /// Could not be started.
    Error,
    /// Interrupted by a shutdown or crash of the host.
    Interrupted,
    /// Lost its shim, so that its result is unknown.
    Lost,
    /// Not started before its start deadline.
    Expired,
}

impl State {
    /// All states.
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

    /// Returns the name of the state on the wire.
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

    /// True if the transition to `next` is valid. The only place with this rule.
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
            format!("{text:?} is not a state: use one of {}", names.join(", "))
        })
    }
}
