//! Connection to the launcher: framed JSON over the inherited socket, replies matched by sequence number.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use packs_schema::agent::launch::{MAX_FRAME, Operation, Outcome, Reply, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// Error returned when the launcher did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LauncherError {
    /// The launcher has closed its end.
    #[error("the launcher has exited")]
    Gone,
    /// The request does not fit into a frame.
    #[error("a request of {0} bytes is too large for the launcher")]
    TooLarge(usize),
    /// The socket cannot be used.
    #[error("the launcher's socket cannot be used: {0}")]
    Socket(String),
}

type Pending = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Outcome>>>>>;

/// Connection to the launcher. When the launcher exits, every request fails with [`LauncherError::Gone`].
pub struct Launcher {
    /// Sequence number of the next request.
    seq: AtomicU64,
    /// Requests without a reply; `None` once the launcher has exited.
    pending: Pending,
    /// Write half; locked for a whole frame.
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    /// Becomes true when the launcher has exited.
    gone: watch::Receiver<bool>,
    /// Task that reads replies; aborted on drop.
    reader: JoinHandle<()>,
}

impl Launcher {
    /// Takes over the socket. Must be called within a runtime.
    pub fn connect(socket: OwnedFd) -> Result<Launcher, LauncherError> {
        let wrong = |e: io::Error| LauncherError::Socket(e.to_string());
        let stream = std::os::unix::net::UnixStream::from(socket);
        stream.set_nonblocking(true).map_err(wrong)?;
        let (read, writer) = UnixStream::from_std(stream).map_err(wrong)?.into_split();
        let pending: Pending = Arc::new(Mutex::new(Some(HashMap::new())));
        let (tell, gone) = watch::channel(false);
        let waiting = pending.clone();
        let reader = tokio::spawn(async move {
            if let Err(error) = replies(read, &waiting).await
                && error.kind() != io::ErrorKind::UnexpectedEof
            {
                tracing::error!(%error, "the launcher's socket failed");
            }
            // Dropping the senders fails all pending requests.
            lock(&waiting).take();
            tell.send_replace(true);
        });
        Ok(Launcher { seq: AtomicU64::new(1), pending, writer: tokio::sync::Mutex::new(writer), gone, reader })
    }

    /// Sends a request and waits for the reply.
    pub async fn ask(&self, ask: Operation) -> Result<Outcome, LauncherError> {
        let seq = self.seq.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        let body = serde_json::to_vec(&Request::new(seq, ask)).expect("a request serialises");
        let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_FRAME);
        let length = length.ok_or(LauncherError::TooLarge(body.len()))?;
        let mut frame = Vec::with_capacity(4 + body.len());
        frame.extend_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(&body);
        lock(&self.pending).as_mut().ok_or(LauncherError::Gone)?.insert(seq, reply);
        // After a partial frame the connection cannot be used any more.
        let sent = self.writer.lock().await.write_all(&frame).await;
        if sent.is_err() {
            if let Some(pending) = lock(&self.pending).as_mut() {
                pending.remove(&seq);
            }
            return Err(LauncherError::Gone);
        }
        answer.await.map_err(|_| LauncherError::Gone)
    }

    /// Becomes true when the launcher has closed its end.
    pub fn gone(&self) -> watch::Receiver<bool> {
        self.gone.clone()
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn replies(mut read: OwnedReadHalf, pending: &Pending) -> io::Result<()> {
    let invalid = |message: String| io::Error::new(io::ErrorKind::InvalidData, message);
    loop {
        let mut length = [0; 4];
        read.read_exact(&mut length).await?;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_FRAME {
            return Err(invalid(format!("a reply of {length} bytes")));
        }
        let mut body = vec![0; length];
        read.read_exact(&mut body).await?;
        let reply: Reply = serde_json::from_slice(&body).map_err(|e| invalid(e.to_string()))?;
        let waiting = lock(pending).as_mut().and_then(|pending| pending.remove(&reply.seq));
        if let Some(waiting) = waiting {
            // The requester may have been cancelled.
            let _ = waiting.send(reply.outcome);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use packs_schema::base::name::ExecutionId;

    fn kill() -> Operation {
        Operation::Kill { execution: ExecutionId::new("01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa").unwrap() }
    }

    #[tokio::test]
    async fn replies_match_their_requests_in_any_order() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let launcher = Launcher::connect(ours.into()).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut theirs = UnixStream::from_std(theirs).unwrap();
        let answer = async {
            let mut seqs = Vec::new();
            for _ in 0..2 {
                let length = theirs.read_u32_le().await.unwrap();
                let mut body = vec![0; length as usize];
                theirs.read_exact(&mut body).await.unwrap();
                seqs.push(serde_json::from_slice::<Request>(&body).unwrap().seq);
            }
            for seq in seqs.into_iter().rev() {
                let message = seq.to_string();
                let code = packs_schema::agent::launch::Refusal::Resources;
                let reply = Reply { seq, outcome: Outcome::Refused { code, message } };
                let body = serde_json::to_vec(&reply).unwrap();
                theirs.write_u32_le(body.len() as u32).await.unwrap();
                theirs.write_all(&body).await.unwrap();
            }
            theirs
        };
        let (one, two, theirs) = tokio::join!(launcher.ask(kill()), launcher.ask(kill()), answer);
        let message = |o| match o {
            Ok(Outcome::Refused { message, .. }) => message,
            other => panic!("{other:?}"),
        };
        assert_eq!((message(one).as_str(), message(two).as_str()), ("1", "2"));
        let waiting = launcher.ask(kill());
        drop(theirs);
        assert!(matches!(waiting.await, Err(LauncherError::Gone)));
        launcher.gone().wait_for(|gone| *gone).await.unwrap();
    }
}
