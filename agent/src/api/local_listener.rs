//! Local access: root of this instance reads and kills executions over a Unix socket, without certificates and grants.
//!
//! ```text
//!  accept ──▶ SO_PEERCRED: the launcher's account? ──▶ HTTP/1.1 ──▶ router, with the routes of OPERATIONS
//!              └── no: closed, and logged
//! ```
//!
//! The launcher binds the socket, with mode 0600, and passes it. The account that it runs as is the only one admitted: root, or in
//! development the user who started the agent. Nothing can be started here: root needs no agent to run a program, and what runs
//! through the agent has a grant.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use nix::sys::socket::{getsockopt, sockopt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::App;
use super::body::stopped;
use super::listener::{DRAIN_TIMEOUT, WRITE_TIMEOUT, drive};
use super::local::LocalPeer;
use super::router::{self, Origin};
use super::write_timeout::WriteTimeout;

/// Maximum number of connections; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 16;
/// Pause before the next attempt to accept after a failure.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Listening socket, and the account that may use it.
#[derive(Debug)]
pub(crate) struct LocalSocket {
    listener: UnixListener,
    /// User id of the launcher.
    uid: u32,
}

impl LocalSocket {
    /// Returns the socket that the launcher passed; `launcher` is the socket pair to it, which tells its account.
    pub(crate) fn of_launcher(listener: StdUnixListener, launcher: &OwnedFd) -> io::Result<LocalSocket> {
        let uid = getsockopt(launcher, sockopt::PeerCredentials)?.uid();
        listener.set_nonblocking(true)?;
        Ok(LocalSocket { listener: UnixListener::from_std(listener)?, uid })
    }
}

/// Serves until `stop` becomes true, then drains requests in progress.
pub(crate) async fn serve(app: Arc<App>, socket: LocalSocket, mut stop: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            // Never closed.
            let slot = slots.clone().acquire_owned().await.ok();
            (slot, socket.listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                if let Some(peer) = admit(&stream, socket.uid) {
                    let (app, stop) = (app.clone(), stop.clone());
                    connections.spawn(async move {
                        connection(app, stream, peer, stop).await;
                        drop(slot);
                    });
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of local access");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    drop(socket);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        connections.abort_all();
    }
}

/// Returns the peer if it runs as the account of the launcher.
fn admit(stream: &UnixStream, uid: u32) -> Option<LocalPeer> {
    match LocalPeer::of(stream) {
        Ok(peer) if peer.uid == uid => Some(peer),
        Ok(peer) => {
            tracing::warn!(uid = peer.uid, pid = peer.pid, "local access refused: only the launcher's account has it");
            None
        }
        Err(error) => {
            tracing::warn!(%error, "local access refused: the kernel does not say who connects");
            None
        }
    }
}

async fn connection(app: Arc<App>, stream: UnixStream, peer: LocalPeer, stop: watch::Receiver<bool>) {
    let service = service_fn(move |request| {
        let (app, origin) = (app.clone(), Origin::Local(peer));
        async move { Ok::<_, Infallible>(router::answer(app, origin, request).await) }
    });
    drive(WriteTimeout::new(stream, WRITE_TIMEOUT), service, stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_account_of_the_launcher_is_admitted() {
        let (launcher, _ours) = std::os::unix::net::UnixStream::pair().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let listener = StdUnixListener::bind(directory.path().join("local.sock")).unwrap();
        let socket = LocalSocket::of_launcher(listener, &launcher.into()).unwrap();
        let us = nix::unistd::geteuid().as_raw();
        assert_eq!(socket.uid, us);
        let (stream, _theirs) = UnixStream::pair().unwrap();
        assert_eq!(admit(&stream, us).map(|peer| peer.uid), Some(us));
        assert_eq!(admit(&stream, us + 1), None);
    }
}
