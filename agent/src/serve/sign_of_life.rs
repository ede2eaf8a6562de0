//! Signs of life to the launcher, which replaces an api that gives none for `api.hang_after`.
//!
//! They are given by a task of the event loop that answers requests, and depend on nothing else: no disk, no lock, no other thread.
//! So an api that gives signs accepts connections and runs its tasks; that the history can be written is told by health, not here.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;

use tokio::net::UnixStream;

/// Maximum bytes that are read at once; more questions than that have one answer.
const CHUNK: usize = 64;

/// Takes over the api's end of the socket pair.
pub(super) fn register(socket: OwnedFd) -> io::Result<UnixStream> {
    let socket = StdUnixStream::from(socket);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

/// Answers the launcher's questions until it is aborted, or the launcher has closed its end.
pub(super) async fn give(socket: UnixStream) {
    while socket.readable().await.is_ok() {
        match socket.try_read(&mut [0; CHUNK]) {
            Ok(0) => return,
            // Full when the launcher has not looked for very long: it has signs enough.
            Ok(_) => _ = socket.try_write(&[1]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    use super::*;

    /// Longest wait for an answer.
    const DEADLINE: Duration = Duration::from_secs(120);
    /// Number of tasks that never wait.
    const BUSY: usize = 500;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn a_busy_event_loop_gives_signs() {
        let (mut launcher, api) = StdUnixStream::pair().unwrap();
        launcher.set_read_timeout(Some(DEADLINE)).unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let finished = done.clone();
        let asking = std::thread::spawn(move || {
            let answered = (0..20).try_for_each(|_| {
                launcher.write_all(&[1])?;
                launcher.read_exact(&mut [0])
            });
            finished.store(true, Ordering::Relaxed);
            answered
        });
        runtime().block_on(async {
            let _giving = tokio::spawn(give(register(api.into()).unwrap()));
            let busy: Vec<_> = (0..BUSY)
                .map(|_| {
                    let done = done.clone();
                    tokio::spawn(async move {
                        while !done.load(Ordering::Relaxed) {
                            tokio::task::yield_now().await;
                        }
                    })
                })
                .collect();
            for task in busy {
                task.await.unwrap();
            }
        });
        asking.join().unwrap().unwrap();
    }

    #[test]
    fn a_blocked_event_loop_gives_none() {
        let (mut launcher, api) = StdUnixStream::pair().unwrap();
        let (blocked, is_blocked) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let loop_thread = std::thread::spawn(move || {
            runtime().block_on(async {
                let giving = tokio::spawn(give(register(api.into()).unwrap()));
                tokio::task::yield_now().await;
                blocked.send(()).unwrap();
                // As a lock that is never released would.
                let _ = released.recv();
                let _ = giving.await;
            });
        });
        is_blocked.recv().unwrap();
        launcher.write_all(&[1]).unwrap();
        // Another thread would answer in this time; the loop cannot, however long it is.
        launcher.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert_eq!(launcher.read(&mut [0; CHUNK]).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(release);
        launcher.set_read_timeout(Some(DEADLINE)).unwrap();
        assert_eq!(launcher.read(&mut [0; CHUNK]).unwrap(), 1, "after it has gone on");
        drop(launcher);
        loop_thread.join().unwrap();
    }
}
