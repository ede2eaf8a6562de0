//! The two records of the shim: `started`, before there is an action, and `exit`, when nothing of it is left.

use std::io::{self, Write};
use std::time::Duration;

use nix::fcntl::OFlag;
use packs_schema::agent::execution::{Exit, FORMAT, Leftovers, Started, State, StreamTotals, file};

use super::clock::{Clock, millis};
use super::{Job, result, usage};
use crate::sys::Ended;

/// How often the exit record is tried, a second apart.
const ATTEMPTS: u32 = 3600;

/// How an action ended, before it is written down.
pub(super) struct Outcome {
    pub(super) state: State,
    pub(super) reason: Option<String>,
    pub(super) ended: Option<Ended>,
    pub(super) leftovers: Option<Leftovers>,
    pub(super) totals: [StreamTotals; 2],
    pub(super) figures: crate::cgroup::Figures,
    /// By the monotonic clock.
    pub(super) duration: Duration,
}

impl Outcome {
    /// There never was a process.
    pub(super) fn never_began(state: State, reason: String) -> Outcome {
        Outcome {
            state,
            reason: Some(reason),
            ended: None,
            leftovers: None,
            totals: [StreamTotals::default(); 2],
            figures: crate::cgroup::Figures::default(),
            duration: Duration::ZERO,
        }
    }
}

/// Writes `started`.
pub(super) fn write_started(job: &Job<'_>, clock: &Clock) -> io::Result<()> {
    let started = Started {
        format: FORMAT,
        boot_id: job.boot_id.clone(),
        started_at_ms: clock.started_ms(),
        timeout_ms: millis(job.timeout),
        unenforced: job.unenforced.clone(),
    };
    let json = serde_json::to_vec(&started).map_err(io::Error::other)?;
    job.directory.make_file(file::STARTED, 0o644, OFlag::O_WRONLY)?.write_all(&json)
}

/// The exit record of an outcome.
pub(super) fn exit(job: &Job<'_>, clock: &Clock, outcome: Outcome) -> Exit {
    let (result, result_error) = match result::read(&job.result, job.action.output_schema.as_ref()) {
        Ok(result) => (result, None),
        Err(e) => (None, Some(e)),
    };
    let duration_ms = millis(outcome.duration);
    let [stdout, stderr] = outcome.totals;
    Exit {
        format: FORMAT,
        id: job.execution.clone(),
        state: outcome.state,
        reason: outcome.reason,
        exit_status: outcome.ended.and_then(|e| e.status),
        signal: outcome.ended.and_then(|e| e.signal),
        started_at_ms: clock.started_ms(),
        ended_at_ms: clock.started_ms() + duration_ms,
        duration_ms,
        usage: usage::usage(&outcome.figures),
        stdout,
        stderr,
        leftovers: outcome.leftovers,
        unenforced: job.unenforced.clone(),
        result,
        result_error,
    }
}

/// Writes `exit` into the room that was taken for it. Should the disk not even take that (it was made read-only, it has
/// failed), it is tried again for an hour; the lock says meanwhile that the execution runs. In a directory that was removed
/// nobody will look for it.
pub(super) fn write_exit(job: &Job<'_>, exit: &Exit) {
    for _ in 0..ATTEMPTS {
        let done = job.room.write(&job.directory, exit).is_ok();
        if done || job.directory.stat().is_ok_and(|directory| directory.st_nlink == 0) {
            return;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}
