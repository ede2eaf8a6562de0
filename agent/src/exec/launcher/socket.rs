//! The launcher's socket, registered with the runtime for reading only.
//!
//! A socket that is registered for writing as well wakes this process each time the launcher has read a request, although nothing
//! waits for that, and at a moment at which launcher and shim need the processor. A write that has to wait registers a duplicate of
//! the socket for that time.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys;

/// See the module.
pub(super) struct LauncherSocket(AsyncFd<UnixStream>);

impl LauncherSocket {
    /// Takes over a connected socket. Must be called within a runtime.
    pub(super) fn new(stream: UnixStream) -> io::Result<LauncherSocket> {
        stream.set_nonblocking(true)?;
        sys::register_socket(stream, Interest::READABLE).map(LauncherSocket)
    }

    /// Reads what is there, or else waits for it; 0 at the end.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|socket| socket.get_ref().read(buffer)) {
                Ok(Ok(read)) => {
                    // There is no more, and what arrives from now on is an event of its own.
                    if read < buffer.len() {
                        ready.clear_ready();
                    }
                    return Ok(read);
                }
                Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }

    /// Writes as much as the socket takes at once.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.get_ref().write(bytes)
    }

    /// Writes everything, and waits where the socket does not take it at once.
    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits until the socket takes more.
    async fn writable(&self) -> io::Result<()> {
        let duplicate = self.0.get_ref().try_clone()?;
        let waiting = sys::register_socket(duplicate, Interest::WRITABLE)?;
        let _ready = waiting.writable().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    /// Returns the events for which a descriptor is registered anywhere in this process. Other tests may have registered others
    /// under its number, so that its inode counts as well.
    fn registered(fd: i32) -> Vec<u32> {
        let inode = std::fs::metadata(format!("/proc/self/fd/{fd}")).unwrap().ino();
        let inode = format!("ino:{inode:x}");
        let mut found = Vec::new();
        for info in std::fs::read_dir("/proc/self/fdinfo").unwrap().flatten() {
            // A descriptor that was closed meanwhile has no content.
            for line in std::fs::read_to_string(info.path()).unwrap_or_default().lines() {
                let words: Vec<&str> = line.split_whitespace().collect();
                if let ["tfd:", target, "events:", events, ..] = words[..]
                    && target.parse() == Ok(fd)
                    && words.contains(&inode.as_str())
                {
                    found.push(u32::from_str_radix(events, 16).unwrap());
                }
            }
        }
        // The runtime has two descriptors of its epoll instance.
        found.dedup();
        found
    }

    #[tokio::test]
    async fn a_launcher_that_reads_does_not_wake_this_process() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let socket = LauncherSocket::new(ours).unwrap();
        let [events] = registered(socket.0.as_raw_fd())[..] else { panic!("it is registered once") };
        let [reading, writing] = [nix::libc::EPOLLIN, nix::libc::EPOLLOUT].map(i32::cast_unsigned);
        assert_eq!(events & (reading | writing), reading, "{events:x}");
        // More than any buffer of a socket holds: the rest is written as the launcher reads.
        let sent = vec![7; 4 << 20];
        let launcher = std::thread::spawn(move || {
            let mut received = vec![0; 4 << 20];
            theirs.read_exact(&mut received).unwrap();
            theirs.write_all(b"read").unwrap();
            received
        });
        socket.write_all(&sent).await.unwrap();
        let mut answer = [0; 16];
        assert_eq!(socket.read(&mut answer).await.unwrap(), 4);
        assert_eq!(launcher.join().unwrap(), sent);
        assert_eq!(socket.read(&mut answer).await.unwrap(), 0, "the launcher has closed its end");
    }
}
