//! All processes of a user id, as the kernel knows them.

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, setgroups, setresgid, setresuid};

use crate::{proc, sys};

/// Returns true if a process of an id is alive. Zombies do not count.
pub(super) fn any_alive(uid: u32) -> bool {
    signal_all(uid, None) && !proc::alive_with_uid(uid).is_empty()
}

/// Sends `signal` to every process of an id; returns true if there was one. A child changes to the id and signals all processes
/// that it may signal, so that the kernel misses none: neither a process that forks meanwhile nor one that is hidden in `/proc`.
pub(super) fn signal_all(uid: u32, signal: Option<Signal>) -> bool {
    match sys::fork() {
        Ok(None) => {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(uid));
            let changed =
                setgroups(&[]).and_then(|()| setresgid(gid, gid, gid)).and_then(|()| setresuid(uid, uid, uid));
            let status = match changed {
                // The kernel does not signal the calling process.
                Ok(()) if kill(Pid::from_raw(-1), signal) == Err(Errno::ESRCH) => 0,
                _ => 1,
            };
            sys::exit_now(status)
        }
        Ok(Some(child)) => sys::wait_for(child).is_none_or(|exited| exited.status != Some(0)),
        Err(_) => true,
    }
}
