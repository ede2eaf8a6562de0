//! The shim: one process per execution, forked from the launcher and never `exec`ed, so that it costs only the pages that
//! it changes. It outlives launcher and api. It owns the pipes, the deadline and the exit record.
//!
//! ```text
//!  detach ─▶ started ─▶ child ─▶ watch: capture, feed, reap ──main ended──▶ stop or keep what is left ─▶ drain ─▶ exit
//!                                   └─ deadline or `kill` ─▶ TERM ─ grace ─▶ cgroup ─▶ leftovers ┘
//! ```
//!
//! Nothing can make it wait: pipes are non-blocking, a write error of the log drops bytes and counts them. It logs
//! nothing and keeps no descriptor of the launcher's; what it has to say is in the exit record.

mod capture;
mod child;
mod clock;
mod disk;
mod record;
pub(crate) mod result;
mod room;
pub(crate) mod stop;
mod usage;
mod watch;

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::sys::signal::SigSet;
use nix::unistd::Pid;
use packs_schema::agent::execution::{State, file};
use packs_schema::base::name::ExecutionId;
use packs_schema::pack::action::Action;

use crate::account::Account;
use crate::cgroup::Group;
use crate::dir::Dir;
use crate::uids::Lease;
use crate::{start, sys};
use clock::Clock;
use record::Outcome;
pub(crate) use room::Room;

/// What a shim is to run. All of it was checked and opened before the fork.
pub(crate) struct Job<'a> {
    pub(crate) execution: ExecutionId,
    /// The process that forked it.
    pub(crate) launcher: Pid,
    pub(crate) action: Action,
    pub(crate) program: Program,
    /// What is written to the action's standard input.
    pub(crate) stdin: Vec<u8>,
    pub(crate) timeout: Duration,
    /// The time-out is the end of a pushed version, which comes before the action's own.
    pub(crate) ends_with_push: bool,
    /// What could not be enforced.
    pub(crate) unenforced: Vec<String>,
    pub(crate) boot_id: String,
    /// The execution's directory.
    pub(crate) directory: Dir,
    /// Locked; held until the shim is gone.
    pub(crate) lock: File,
    /// For the exit record.
    pub(crate) room: Room,
    pub(crate) group: Group,
    /// The execution's runtime directory, in memory where there is `/run` …
    pub(crate) runtime: Dir,
    /// … and the one that it is in.
    pub(crate) runtime_parent: BorrowedFd<'a>,
    /// The file for the structured result.
    pub(crate) result: File,
    /// The user id that this execution alone has; absent where its action names an account.
    pub(crate) lease: Option<Lease>,
}

/// What is executed, as whom.
pub(crate) struct Program {
    pub(crate) path: CString,
    pub(crate) arguments: Vec<CString>,
    pub(crate) environment: Vec<CString>,
    /// The pack's directory in its version, which becomes the working directory.
    pub(crate) directory: OwnedFd,
    pub(crate) account: Account,
    /// False without root.
    pub(crate) change_account: bool,
}

/// Lives the life of a shim.
pub(crate) fn run(job: Job<'_>) -> ! {
    // Unwinding would run the launcher's code. A shim that dies leaves its lock open: the api then says `lost`.
    std::panic::set_hook(Box::new(|_| std::process::abort()));
    detach(&job);
    let clock = Clock::start();
    let outcome = supervise(&job, &clock);
    let left = outcome.leftovers.as_ref();
    let something_lives = left.is_some_and(|left| left.after_subreaper > 0);
    let was_kept = left.is_some_and(|left| left.kept > 0);
    let exit = record::exit(&job, &clock, outcome);
    job.group.remove();
    job.group.remove_above(job.launcher);
    match &job.lease {
        Some(lease) if was_kept && lease.is_in_use() => lease.keep(job.runtime_parent),
        Some(lease) if !something_lives || !lease.is_in_use() => lease.release(job.runtime_parent),
        _ => {}
    }
    remove_runtime(&job);
    record::write_exit(&job, &exit);
    sys::exit_now(0)
}

fn supervise(job: &Job<'_>, clock: &Clock) -> Outcome {
    if let Err(e) = record::write_started(job, clock) {
        return Outcome::never_began(State::Error, format!("`{}` cannot be written: {e}", file::STARTED));
    }
    let watch = match watch::Watch::new(job, clock) {
        Ok(watch) => watch,
        Err(e) => return Outcome::never_began(State::Error, format!("the shim cannot watch the action: {e}")),
    };
    if watch.kill_asked() {
        return Outcome::never_began(State::Killed, "stopped before it began".to_owned());
    }
    match child::spawn(job) {
        Ok(child) => watch.run(child),
        Err(reason) => Outcome::never_began(State::Error, reason),
    }
}

/// Leaves the launcher: its session, its descriptors, its signals.
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
        job.room.as_fd(),
        job.runtime.as_fd(),
        job.runtime_parent,
        job.result.as_fd(),
        job.program.directory.as_fd(),
    ];
    let keep: Vec<BorrowedFd<'_>> = keep.into_iter().chain(job.lease.as_ref().map(Lease::as_fd)).collect();
    let _ = sys::close_all_but(&keep);
    // A service manager that stops the launcher may signal all that is in its group: an execution goes on.
    let _ = SigSet::all().thread_set_mask();
    sys::renice(1);
}

fn remove_runtime(job: &Job<'_>) {
    for name in start::IN_RUNTIME {
        let _ = job.runtime.remove_file(name);
    }
    let name = job.execution.as_str();
    let _ = nix::unistd::unlinkat(job.runtime_parent, name, nix::unistd::UnlinkatFlags::RemoveDir);
}
