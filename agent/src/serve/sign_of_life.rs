//! Signs of life to the launcher, which replaces an api that gives none for `api.hang_after`.
//!
//! They are given by a task of the event loop that answers requests, and depend on nothing else: no disk, no lock, no other thread.
//! A question tells the number of the launcher's open descriptors as well, for the metrics.
//! So an api that gives signs accepts connections and runs its tasks; that the history can be written is told by health, not here.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use packs_schema::agent::launch::alive;
use tokio::net::UnixStream;

use crate::metrics::Metrics;

/// Maximum bytes that are read at once; more questions than that have one answer.
const CHUNK: usize = 64;
const _: () = assert!(CHUNK >= alive::MAX_QUESTION);

/// Takes over the api's end of the socket pair.
pub(super) fn register(socket: OwnedFd) -> io::Result<UnixStream> {
    let socket = StdUnixStream::from(socket);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

/// Answers the launcher's questions until it is aborted, or the launcher has closed its end.
pub(super) async fn give(socket: UnixStream, metrics: Arc<Metrics>) {
    while socket.readable().await.is_ok() {
        let mut read = [0; CHUNK];
        match socket.try_read(&mut read) {
            Ok(0) => return,
            Ok(length) => {
                // Full when the launcher has not looked for very long: it has signs enough.
                let _ = socket.try_write(&[1]);
                if let Some(open) = alive::open_fds(&read[..length]) {
                    metrics.launcher_descriptors(open);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
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
    fn questions_tell_the_descriptors_of_the_launcher_and_those_of_an_earlier_one_do_not() {
        let (mut launcher, api) = StdUnixStream::pair().unwrap();
        let metrics = Arc::new(Metrics::default());
        runtime().block_on(async {
            let giving = tokio::spawn(give(register(api.into()).unwrap(), metrics.clone()));
            let mut told = Vec::new();
            for question in [vec![1], alive::question(Some(17)), vec![1], alive::question(Some(23))] {
                launcher.write_all(&question).unwrap();
                let (answered, signed) = tokio::sync::oneshot::channel();
                let mut answers = launcher.try_clone().unwrap();
                answers.set_read_timeout(Some(DEADLINE)).unwrap();
                let reading = std::thread::spawn(move || answered.send(answers.read(&mut [0; CHUNK]).unwrap()));
                assert_eq!(signed.await, Ok(1), "each is answered");
                reading.join().unwrap().unwrap();
                told.push(metrics.told_descriptors());
            }
            assert_eq!(told, [None, Some(17), Some(17), Some(23)]);
            drop(launcher);
            giving.await.unwrap();
        });
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
            let _giving = tokio::spawn(give(register(api.into()).unwrap(), Arc::default()));
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
                let giving = tokio::spawn(give(register(api.into()).unwrap(), Arc::default()));
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
