//! The shim: a process that supervises one execution at a time, forked from the launcher and never `exec`ed, so that it costs only
//! the pages that it changes. It outlives launcher and api. It owns the pipes, the deadline and the exit record.
//!
//! ```text
//!  fork ─▶ detach ─▶ idle ──job──▶ started ─▶ child ─▶ watch: capture, feed, reap ─▶ drain ─▶ exit ─▶ clean up ─┐
//!                     ▲  └─ launcher ended, or no job for IDLE_TIME ─▶ end of the process                        │
//!                     └──────── no process of the execution is left, at most MAX_JOBS ───────────────────────────┘
//! ```
//!
//! A job may also be only prepared: its process is made before it is started ([`execution`]).
//!
//! A shim that has supervised an execution to its end waits for another one, because forking costs more than most actions. Nothing
//! of an execution is left in it: its descriptors are closed, its memory with parameters is overwritten, and it has no child.
//!
//! Nothing can block it: pipes are non-blocking, and output that cannot be written is dropped and counted. It logs nothing and
//! keeps no descriptor of the launcher's but the run-time directory; everything that it reports is in the exit record.

mod capture;
mod child;
mod clock;
mod equipment;
mod execution;
mod free_space;
mod job;
mod process_tree;
mod record;
pub(crate) mod result;
mod transfer;
mod usage;
mod watch;
mod wipe;

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::SigSet;
use nix::unistd::Pid;

use crate::dir::Dir;
use crate::sys;
pub(crate) use clock::Clock;
use equipment::Equipment;
pub(crate) use job::{Claim, Job, Plan, Program, Rules, UnclaimedJob};
pub(crate) use record::write_started;
use transfer::Order;
pub(crate) use transfer::{send, send_cancellation, send_claim, send_prepared, take_idle_report};
pub(crate) use wipe::wipe;

/// Time after which an idle shim ends.
const IDLE_TIME: Duration = Duration::from_secs(3);
/// Maximum number of executions of one shim: bounds the age of its memory.
const MAX_JOBS: u32 = 256;

/// Values of its launcher that a shim uses for all its executions.
pub(crate) struct Inherited<'a> {
    /// The process that forked the shim.
    pub(crate) launcher: Pid,
    pub(crate) boot_id: &'a str,
    /// Signals that this process ignores, and actions must not.
    pub(crate) ignored_signals: &'a [i32],
    /// The launcher's run-time directory.
    pub(crate) runtime: &'a Dir,
}

/// Returns true if the process of a job can be made before its execution is started: it then waits longer than usual in the memory
/// of its shim.
pub(crate) fn can_wait(job: &UnclaimedJob) -> bool {
    child::may_share_memory(&job.plan.program, job.lease.is_some())
}

/// Supervises the executions that arrive on `socket`, one after the other, then ends the process.
pub(crate) fn run(socket: &UnixStream, inherited: &Inherited<'_>) -> ! {
    // Unwinding would run the launcher's code. A shim that aborts releases its lock: the api then records the state `lost`.
    std::panic::set_hook(Box::new(|_| std::process::abort()));
    detach(socket, inherited);
    let mut equipment = Equipment::new();
    for number in 1..=MAX_JOBS {
        match next_order(socket) {
            Some(Order::Start(job)) => execution::run(job, inherited, &mut equipment),
            Some(Order::Prepare(job, go)) => execution::run_prepared(job, go, socket, inherited, &mut equipment),
            None => break,
        }
        let has_children = sys::reap() != Err(Errno::ECHILD);
        if number == MAX_JOBS || has_children || !transfer::report_idle(socket) {
            break;
        }
    }
    sys::exit_now(0)
}

/// Waits for a job; `None` when this shim must end. A job that arrives at the last moment is still taken: after the shutdown the
/// launcher cannot send any more, and what it has sent can be read.
fn next_order(socket: &UnixStream) -> Option<Order> {
    let idle_time = PollTimeout::try_from(IDLE_TIME).expect("three seconds fit");
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    // All signals are blocked. A poll that fails is like one that is over.
    if poll(&mut fds, idle_time).unwrap_or(0) == 0 {
        let _ = socket.shutdown(std::net::Shutdown::Read);
    }
    transfer::receive(socket)
}

/// Leaves the launcher's session, and drops its descriptors and signal handling.
fn detach(socket: &UnixStream, inherited: &Inherited<'_>) {
    let _ = nix::unistd::setsid();
    let _ = nix::sys::prctl::set_child_subreaper(true);
    let _ = nix::sys::prctl::set_name(c"bolt-shim");
    let _ = nix::unistd::chdir("/");
    if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdin(&null);
        let _ = nix::unistd::dup2_stdout(&null);
        let _ = nix::unistd::dup2_stderr(&null);
    }
    let _ = sys::close_all_but([socket.as_fd(), inherited.runtime.as_fd()]);
    // A service manager that stops the launcher may signal every process of its group: executions must go on.
    let _ = SigSet::all().thread_set_mask();
    sys::renice(1);
}
