//! The shims of this launcher: jobs are given to an idle one, or to a new one.
//!
//! ```text
//!  fork ─▶ given a job ─▶ busy ──byte on its socket──▶ idle ──job──▶ busy …
//!                          └──────── ended ◀────────────┘  reaped, and forgotten
//! ```
//!
//! An idle one also takes a job that is only prepared: it makes the process, which waits on a pipe whose only writing end the launcher
//! has, so that the process ends when the launcher does, and until the pipe is written to, runs nothing of the action.
//!
//! Reports of idle shims are read when the next job arrives, so that the launcher does not wake up at the end of every execution.
//! A shim that ended, by whatever cause, is found by the failure to send to it.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Pid, pipe2, write};

use crate::shim::{self, Claim, Clock, Inherited, Job, UnclaimedJob};
use crate::sys;

/// Maximum time to send a job to a shim, which reads it at once unless it was stopped by a signal.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum time until the shim of a prepared job that is not started is idle again, in milliseconds.
const CANCEL_TIMEOUT_MS: u16 = 1000;

/// See the module.
#[derive(Default)]
pub(crate) struct Shims {
    known: RefCell<Vec<Shim>>,
}

struct Shim {
    pid: Pid,
    socket: UnixStream,
    busy: bool,
}

/// A process that waits for the start of its execution. It ends when this is dropped.
pub(crate) struct WaitingProcess {
    /// Its shim.
    shim: Pid,
    go: OwnedFd,
}

impl WaitingProcess {
    /// Returns true if this is its shim.
    pub(crate) fn is_of(&self, shim: Pid) -> bool {
        self.shim == shim
    }

    /// Has it execute its program. One that has ended meanwhile has left that to its shim.
    pub(crate) fn release(self) {
        let _ = write(&self.go, b"g");
    }
}

/// State in which a shim ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShimExit {
    /// Without an execution.
    Idle,
    /// Before it reported the end of its execution.
    AtWork,
}

impl Shim {
    fn is_idle(&mut self) -> bool {
        if self.busy && shim::take_idle_report(&self.socket) {
            self.busy = false;
        }
        !self.busy
    }
}

impl Shims {
    /// Gives a job to an idle shim, or forks one after `before_fork`. Returns the pid of the shim, which has the whole job. In a
    /// forked shim this never returns.
    pub(crate) fn assign(
        &self,
        inherited: &Inherited<'_>,
        job: &mut Job,
        before_fork: impl FnOnce(),
    ) -> io::Result<Pid> {
        while let Some(mut shim) = self.take_idle() {
            // Dropping the shim closes its socket, after which it does not act on a part of a job.
            if shim::send(&shim.socket, job).is_ok() {
                shim.busy = true;
                let pid = shim.pid;
                self.known.borrow_mut().push(shim);
                return Ok(pid);
            }
        }
        before_fork();
        let (pid, socket) = fork(inherited, job)?;
        shim::send(&socket, job)?;
        self.known.borrow_mut().push(Shim { pid, socket, busy: true });
        Ok(pid)
    }

    /// Has an idle shim make the process of a job that is not claimed yet; `None` if there is none, or the job does not allow it.
    pub(crate) fn prepare(&self, job: &UnclaimedJob) -> Option<WaitingProcess> {
        if !shim::can_wait(job) {
            return None;
        }
        let mut shim = self.take_idle()?;
        let (theirs, go) = pipe2(OFlag::O_CLOEXEC).ok()?;
        shim::send_prepared(&shim.socket, job, theirs.as_fd()).ok()?;
        let pid = shim.pid;
        shim.busy = true;
        self.known.borrow_mut().push(shim);
        Some(WaitingProcess { shim: pid, go })
    }

    /// Gives the shim of a waiting process the claim of its execution, and returns its pid. After an error, the shim must not be used
    /// any more, and ends.
    pub(crate) fn claim(&self, waiting: &WaitingProcess, claim: &Claim, clock: Clock) -> io::Result<Pid> {
        let mut known = self.known.borrow_mut();
        let at = known.iter().position(|shim| waiting.is_of(shim.pid)).ok_or(io::ErrorKind::NotFound)?;
        match shim::send_claim(&known[at].socket, claim, clock) {
            Ok(()) => Ok(waiting.shim),
            Err(e) => {
                known.remove(at);
                Err(e)
            }
        }
    }

    /// Ends a waiting process whose execution is not started, and waits until its shim has forgotten it.
    pub(crate) fn cancel(&self, waiting: WaitingProcess) {
        let WaitingProcess { shim: pid, go } = waiting;
        drop(go);
        let mut known = self.known.borrow_mut();
        let Some(at) = known.iter().position(|shim| shim.pid == pid) else { return };
        let is_idle = shim::send_cancellation(&known[at].socket).is_ok() && {
            let mut fds = [PollFd::new(known[at].socket.as_fd(), PollFlags::POLLIN)];
            // A signal for the launcher is read from a descriptor, and interrupts nothing.
            let _ = poll(&mut fds, PollTimeout::from(CANCEL_TIMEOUT_MS));
            known[at].is_idle()
        };
        if !is_idle {
            // Without its socket it ends.
            known.remove(at);
        }
    }

    /// Takes the idle shim that was used last: its pages are in the caches, and the others end when they are not needed.
    fn take_idle(&self) -> Option<Shim> {
        let mut known = self.known.borrow_mut();
        let last = known.iter_mut().rposition(Shim::is_idle)?;
        Some(known.remove(last))
    }

    /// Forgets a child that has ended; `None` if it was no shim.
    pub(crate) fn handle_exit(&self, pid: Pid) -> Option<ShimExit> {
        let mut known = self.known.borrow_mut();
        let at = known.iter().position(|shim| shim.pid == pid)?;
        Some(if known.remove(at).is_idle() { ShimExit::Idle } else { ShimExit::AtWork })
    }
}

/// Forks a shim. Its copy of the job, which it receives over its socket like any other, is overwritten.
fn fork(inherited: &Inherited<'_>, job: &mut Job) -> io::Result<(Pid, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_write_timeout(Some(SEND_TIMEOUT))?;
    match sys::fork() {
        Ok(None) => {
            job.overwrite();
            shim::run(&theirs, inherited)
        }
        Ok(Some(pid)) => Ok((pid, ours)),
        Err(e) => Err(io::Error::other(format!("cannot create a process: {e}"))),
    }
}
