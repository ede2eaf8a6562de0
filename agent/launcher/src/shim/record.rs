//! The two records of the shim: `started`, written before the action's process exists, and `exit`, written when no process is
//! left.

use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use nix::fcntl::OFlag;
use packs_schema::agent::execution::{Exit, FORMAT, Leftovers, Started, State, StreamTotals, file};

use super::clock::{Clock, millis};
use super::job::{Handles, Job, Plan};
use super::result;
use super::usage::{self, Baseline};
use crate::cgroup::Counters;
use crate::dir::Dir;
use crate::sys::ExitedChild;

/// Maximum number of attempts, a second apart, to write the exit record.
const ATTEMPTS: u32 = 3600;

/// The outcome of an execution, from which the exit record is made.
pub(super) struct Outcome {
    pub(super) state: State,
    pub(super) reason: Option<String>,
    /// Exit status or signal of the action's own process.
    pub(super) main_exit: Option<ExitedChild>,
    pub(super) leftovers: Option<Leftovers>,
    pub(super) totals: [StreamTotals; 2],
    pub(super) counters: Counters,
    /// Measured by the monotonic clock.
    pub(super) duration: Duration,
    /// The open `output.log`. It is closed after the end is on record, since a file that is closed wakes the api.
    pub(super) output: Option<File>,
}

impl Outcome {
    /// Returns the outcome of an execution without a process.
    pub(super) fn not_started(state: State, reason: String) -> Outcome {
        Outcome {
            state,
            reason: Some(reason),
            main_exit: None,
            leftovers: None,
            totals: [StreamTotals::default(); 2],
            counters: Counters::default(),
            duration: Duration::ZERO,
            output: None,
        }
    }
}

/// Writes the record `started`: the shim, or the launcher for a prepared execution. The api learns of it when the file is closed.
pub(crate) fn write_started(plan: &Plan, directory: &Dir, boot_id: &str, clock: &Clock) -> io::Result<File> {
    let started = Started {
        format: FORMAT,
        boot_id: boot_id.to_owned(),
        started_at_ms: clock.started_ms(),
        timeout_ms: millis(plan.timeout),
        unenforced: plan.unenforced.clone(),
    };
    let json = serde_json::to_vec(&started).map_err(io::Error::other)?;
    let mut file = directory.make_file(file::STARTED, 0o644, OFlag::O_WRONLY)?;
    file.write_all(&json)?;
    Ok(file)
}

/// Returns the exit record of an outcome.
pub(super) fn exit(job: &Job, clock: &Clock, baseline: &Baseline, outcome: Outcome) -> Exit {
    let (result, result_error) = match result::read(&job.handles.result, job.plan.rules.output_schema.as_ref()) {
        Ok(result) => (result, None),
        Err(e) => (None, Some(e)),
    };
    let duration_ms = millis(outcome.duration);
    let [stdout, stderr] = outcome.totals;
    Exit {
        format: FORMAT,
        id: job.plan.execution.clone(),
        state: outcome.state,
        reason: outcome.reason,
        exit_status: outcome.main_exit.and_then(|exit| exit.status),
        signal: outcome.main_exit.and_then(|exit| exit.signal),
        started_at_ms: clock.started_ms(),
        ended_at_ms: clock.started_ms() + duration_ms,
        duration_ms,
        usage: usage::usage(&outcome.counters, baseline),
        stdout,
        stderr,
        leftovers: outcome.leftovers,
        unenforced: job.plan.unenforced.clone(),
        result,
        result_error,
    }
}

/// Writes the exit record into its preallocated file. If even that fails (the disk was remounted read-only or is broken), retries
/// for an hour; the lock shows meanwhile that the execution is running. Gives up when the directory was removed.
pub(super) fn write_exit(job: &Job, exit: &Exit) {
    let Handles { exit_file, directory, .. } = &job.handles;
    for _ in 0..ATTEMPTS {
        let done = exit_file.write(directory, exit).is_ok();
        if done || directory.stat().is_ok_and(|directory| directory.st_nlink == 0) {
            return;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}
