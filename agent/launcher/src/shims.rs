//! The shims of this launcher: jobs are given to an idle one, or to a new one.
//!
//! ```text
//!  fork ─▶ given a job ─▶ busy ──byte on its socket──▶ idle ──job──▶ busy …
//!                          └──────── ended ◀────────────┘  reaped, and forgotten
//! ```
//!
//! Reports of idle shims are read when the next job arrives, so that the launcher does not wake up at the end of every execution.
//! A shim that ended, by whatever cause, is found by the failure to send to it.

use std::cell::RefCell;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::unistd::Pid;

use crate::shim::{self, Inherited, Job};
use crate::sys;

/// Maximum time to send a job to a shim, which reads it at once unless it was stopped by a signal.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

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
