//! The socket of local access, `local.sock` in the run-time directory: bound here, and passed to each api that is started.
//!
//! The launcher binds it, so that only the launcher's account may connect (mode 0600 from the start, in a directory that the api
//! cannot write): the api can neither open it for others nor put another socket in its place. A client sees in `SO_PEERCRED`
//! who made the socket listen. Like the other sockets, it survives a restart of the api, and is closed while the api cannot be
//! kept running.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::sys::stat::{Mode, fchmod};
use packs_schema::agent::launch::LOCAL_SOCKET;

use crate::dir::Dir;
use crate::log;

/// Maximum number of connections that wait for an api.
const BACKLOG: i32 = 64;

pub(super) struct LocalSocket {
    path: PathBuf,
    socket: Option<UnixListener>,
}

impl LocalSocket {
    /// Returns the socket of this run-time directory, not bound yet.
    pub(super) fn new(runtime: &Dir) -> LocalSocket {
        LocalSocket { path: runtime.path().join(LOCAL_SOCKET), socket: None }
    }

    /// Binds the socket unless it is bound. A failure is logged; the api then runs without local access.
    pub(super) fn bind(&mut self) {
        if self.socket.is_none() {
            match self.bound() {
                Ok(socket) => self.socket = Some(socket),
                Err(e) => {
                    log::warn("cannot listen", &[("socket", &"local"), ("path", &self.path.display()), ("reason", &e)]);
                }
            }
        }
    }

    fn bound(&self) -> io::Result<UnixListener> {
        self.remove()?;
        let address = UnixAddr::new(&self.path)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        // Of the socket that has no file yet: `bind` makes the file with this mode, less the umask.
        fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
        bind(socket.as_raw_fd(), &address)?;
        listen(&socket, Backlog::new(BACKLOG)?)?;
        Ok(UnixListener::from(socket))
    }

    /// Removes what an earlier launcher left. Anything but a socket stays.
    fn remove(&self) -> io::Result<()> {
        match self.path.symlink_metadata() {
            Ok(meta) if meta.file_type().is_socket() => std::fs::remove_file(&self.path),
            Ok(_) => Err(io::Error::other("another file is in its place; remove it")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Returns the socket for an api that is being started.
    pub(super) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// Closes and removes the socket: clients learn at once that no api runs.
    pub(super) fn close(&mut self) {
        if self.socket.take().is_some()
            && let Err(e) = self.remove()
        {
            log::warn("cannot remove", &[("path", &self.path.display()), ("reason", &e)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn only_its_owner_may_connect_and_a_stale_socket_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let runtime = Dir::open(directory.path()).unwrap();
        let path = directory.path().join(LOCAL_SOCKET);
        // Left behind by a launcher that was killed.
        drop(UnixListener::bind(&path).unwrap());
        let mut socket = LocalSocket::new(&runtime);
        assert!(socket.as_fd().is_none());
        socket.bind();
        assert!(socket.as_fd().is_some());
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
        // No process accepts, and the connection is not refused.
        drop(UnixStream::connect(&path).unwrap());
        socket.close();
        assert!(!path.exists());
        socket.bind();
        drop(UnixStream::connect(&path).unwrap());
        drop(socket);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "kept").unwrap();
        let mut socket = LocalSocket::new(&runtime);
        socket.bind();
        assert!(socket.as_fd().is_none());
        socket.close();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept");
    }
}
