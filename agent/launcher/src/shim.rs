//! The shim: one process per execution, forked from the launcher and never `exec`ed, so that it costs only the pages that it
//! changes. It outlives launcher and api. It owns the pipes, the deadline and the exit record.
//!
//! ```text
//!  detach ─▶ started ─▶ child ─▶ watch: capture, feed, reap ──main exited──▶ stop or keep leftovers ─▶ drain ─▶ exit
//!                                   └─ deadline or `kill` ─▶ TERM ─ grace ─▶ kill cgroup ─▶ leftovers ┘
//! ```
//!
//! Nothing can block it: pipes are non-blocking, and output that cannot be written is dropped and counted. It logs nothing and
//! keeps no descriptor of the launcher's; everything that it reports is in the exit record.

mod capture;
mod child;
mod clock;
mod free_space;
mod job;
mod process_tree;
mod record;
pub(crate) mod result;
mod usage;
mod watch;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::SigSet;
use packs_schema::agent::execution::{State, file};

use crate::uids::Lease;
use crate::{runtime_dir, sys};
use clock::Clock;
pub(crate) use job::{Job, Program};
use record::Outcome;

/// Supervises one execution from its start to its exit record, then ends the process.
pub(crate) fn run(job: Job<'_>) -> ! {
    // Unwinding would run the launcher's code. A shim that aborts releases its lock: the api then records the state `lost`.
    std::panic::set_hook(Box::new(|_| std::process::abort()));
    detach(&job);
    let clock = Clock::start();
    let outcome = supervise(&job, &clock);
    let leftovers = outcome.leftovers.as_ref();
    let any_alive = leftovers.is_some_and(|left| left.after_subreaper > 0);
    let any_kept = leftovers.is_some_and(|left| left.kept > 0);
    let exit = record::exit(&job, &clock, outcome);
    job.group.remove();
    job.group.remove_total_if_orphaned(job.launcher);
    match &job.lease {
        Some(lease) if any_kept && lease.is_in_use() => lease.keep(job.runtime_parent),
        Some(lease) if !any_alive || !lease.is_in_use() => lease.release(job.runtime_parent),
        _ => {}
    }
    runtime_dir::remove(job.runtime_parent, &job.execution);
    record::write_exit(&job, &exit);
    sys::exit_now(0)
}

fn supervise(job: &Job<'_>, clock: &Clock) -> Outcome {
    if let Err(e) = record::write_started(job, clock) {
        return Outcome::not_started(State::Error, format!("`{}` cannot be written: {e}", file::STARTED));
    }
    let watch = match watch::Watch::new(job, clock) {
        Ok(watch) => watch,
        Err(e) => {
            return Outcome::not_started(State::Error, format!("the shim cannot receive signals or map memory: {e}"));
        }
    };
    if watch.kill_requested() {
        return Outcome::not_started(State::Killed, "killed before it started".to_owned());
    }
    match child::spawn(job) {
        Ok(child) => watch.run(child),
        Err(reason) => Outcome::not_started(State::Error, reason),
    }
}

/// Leaves the launcher's session, and drops its descriptors and signal handling.
fn detach(job: &Job<'_>) {
    let _ = nix::unistd::setsid();
    let _ = nix::sys::prctl::set_child_subreaper(true);
    let _ = nix::sys::prctl::set_name(c"bolt-shim");
    let _ = nix::unistd::chdir("/");
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdin(&null);
        let _ = nix::unistd::dup2_stdout(&null);
        let _ = nix::unistd::dup2_stderr(&null);
    }
    let keep = [
        job.directory.as_fd(),
        job.lock.as_fd(),
        job.exit_file.as_fd(),
        job.runtime.as_fd(),
        job.runtime_parent.as_fd(),
        job.result.as_fd(),
        job.program.directory.as_fd(),
    ];
    let keep: Vec<BorrowedFd<'_>> = keep.into_iter().chain(job.lease.as_ref().map(Lease::as_fd)).collect();
    let _ = sys::close_all_but(&keep);
    // A service manager that stops the launcher may signal every process of its group: the execution must go on.
    let _ = SigSet::all().thread_set_mask();
    sys::renice(1);
}
