//! Process at the other end of a connection of local access, as the kernel describes it.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use tokio::net::UnixStream;

/// Login uid of a process that no login started.
const UNSET: u32 = u32::MAX;

/// Peer of a connection, when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) struct LocalPeer {
    /// Effective user id.
    pub(in crate::api) uid: u32,
    /// Process id.
    pub(in crate::api) pid: i32,
    /// User id with which someone logged in and then became root (`/proc/<pid>/loginuid`); the kernel hands it on to all children.
    /// It is a statement of root's: root may change it. `None` for processes that no login started, and where the kernel cannot
    /// say that the process is still the one that connected (before Linux 6.5).
    pub(in crate::api) login_uid: Option<u32>,
}

impl LocalPeer {
    /// Returns the peer of a connection.
    pub(in crate::api) fn of(stream: &UnixStream) -> io::Result<LocalPeer> {
        let credentials = getsockopt(stream, sockopt::PeerCredentials)?;
        let (uid, pid) = (credentials.uid(), credentials.pid());
        Ok(LocalPeer { uid, pid, login_uid: login_uid(stream, pid) })
    }
}

fn login_uid(stream: &UnixStream, pid: i32) -> Option<u32> {
    let pidfd = getsockopt(stream, sockopt::PeerPidfd).ok()?;
    let text = std::fs::read_to_string(format!("/proc/{pid}/loginuid")).ok()?;
    // Its id may have been given to another process before the file was read, but not while it lives.
    if has_ended(&pidfd) { None } else { parse(&text) }
}

fn parse(text: &str) -> Option<u32> {
    text.trim().parse().ok().filter(|uid| *uid != UNSET)
}

/// True if the process has ended, or cannot be examined.
fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_describes_the_peer() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let peer = LocalPeer::of(&ours).unwrap();
        assert_eq!(peer.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(peer.pid, i32::try_from(std::process::id()).unwrap());
        if getsockopt(&ours, sockopt::PeerPidfd).is_ok() {
            let own = std::fs::read_to_string("/proc/self/loginuid").ok().and_then(|text| parse(&text));
            assert_eq!(peer.login_uid, own);
        }
    }

    #[test]
    fn a_process_without_a_login_has_no_login_uid() {
        assert_eq!((parse("4294967295\n"), parse("1000\n"), parse("")), (None, Some(1000), None));
    }
}
