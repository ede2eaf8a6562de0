//! Sender of entries to the systemd journal, one datagram for each.
//!
//! Sending never blocks. An entry that the journal does not take at once is lost, and the caller is told so; on a host without
//! the journal there is nothing to lose.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
pub use packs_schema::base::journal_entry::{Entry, Priority, SOCKET};

/// Outcome of sending an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The journal has it.
    Sent,
    /// There is no journal on this host.
    Absent,
    /// The journal did not take it, for example because its queue is full.
    Dropped,
}

/// Sender of entries.
#[derive(Debug)]
pub struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Journal {
    /// Creates a sender to the socket at `path`, which need not exist yet.
    pub fn open(path: &Path) -> io::Result<Journal> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Journal { socket, path: path.to_owned() })
    }

    /// Sends an entry if the journal takes it at once.
    pub fn send(&self, entry: &Entry) -> Delivery {
        match self.socket.send_to(entry.bytes(), &self.path) {
            Ok(_) => Delivery::Sent,
            Err(error) if is_absent(&error) => Delivery::Absent,
            Err(_) => Delivery::Dropped,
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::ENOENT | Errno::ENOTDIR | Errno::ECONNREFUSED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_or_full_journal_neither_fails_nor_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = Journal::open(&path).unwrap();
        let entry = Entry::new(Priority::Info, "bolt-agent", "hello");
        assert_eq!(journal.send(&entry), Delivery::Absent);
        let receiver = UnixDatagram::bind(&path).unwrap();
        assert_eq!(journal.send(&entry), Delivery::Sent);
        let mut received = [0; 1000];
        let length = receiver.recv(&mut received).unwrap();
        assert_eq!(&received[..length], entry.bytes());
        let full = (0..100_000).any(|_| journal.send(&entry) == Delivery::Dropped);
        assert!(full, "a journal that reads nothing never blocks its senders");
        drop(receiver);
        assert_eq!(journal.send(&entry), Delivery::Absent);
    }
}
