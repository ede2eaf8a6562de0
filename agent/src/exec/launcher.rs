//! Connection to the launcher: framed JSON over the inherited socket, replies matched by sequence number.

mod socket;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use packs_schema::agent::launch::{MAX_FRAME, Operation, Outcome, Refusal, Reply, Request, Start};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use socket::LauncherSocket;

/// Maximum bytes of one read: several replies, which are short.
const CHUNK: usize = 1 << 10;

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
    socket: Arc<LauncherSocket>,
    /// Locked while a frame is written.
    writing: Arc<tokio::sync::Mutex<()>>,
    /// False once the launcher has refused to prepare starts because it is of an earlier version.
    prepares: Arc<AtomicBool>,
    /// Its process id; `None` if it is outside this process's PID namespace.
    pid: Option<i32>,
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
        // Of a socket pair: the process that made it.
        let peer = getsockopt(&stream, PeerCredentials).ok();
        let pid = peer.map(|peer| peer.pid()).filter(|pid| *pid > 0);
        let socket = Arc::new(LauncherSocket::new(stream).map_err(wrong)?);
        let pending: Pending = Arc::new(Mutex::new(Some(HashMap::new())));
        let (tell, gone) = watch::channel(false);
        let (seq, prepares) = (AtomicU64::new(1), Arc::new(AtomicBool::new(true)));
        let (read, waiting, known) = (socket.clone(), pending.clone(), prepares.clone());
        let reader = tokio::spawn(async move {
            if let Err(error) = replies(&read, &waiting, &known).await
                && error.kind() != io::ErrorKind::UnexpectedEof
            {
                tracing::error!(%error, "the launcher's socket failed");
            }
            // Dropping the senders fails all pending requests.
            lock(&waiting).take();
            tell.send_replace(true);
        });
        Ok(Launcher { seq, pending, socket, writing: Arc::default(), prepares, pid, gone, reader })
    }

    /// Returns its process id, if it is known.
    pub fn pid(&self) -> Option<i32> {
        self.pid
    }

    /// Sends a request and waits for the reply.
    pub async fn ask(&self, ask: Operation) -> Result<Outcome, LauncherError> {
        let seq = self.seq.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        let frame = encode(&Request::new(seq, ask))?;
        lock(&self.pending).as_mut().ok_or(LauncherError::Gone)?.insert(seq, reply);
        if self.send(&frame).await.is_err() {
            if let Some(pending) = lock(&self.pending).as_mut() {
                pending.remove(&seq);
            }
            return Err(LauncherError::Gone);
        }
        answer.await.map_err(|_| LauncherError::Gone)
    }

    /// Returns true unless the launcher has said that it prepares no starts.
    pub fn prepares(&self) -> bool {
        self.prepares.load(Ordering::Relaxed)
    }

    /// Sends a request to prepare a start, unless that would take time: an acceptance must not wait for a launcher that is busy.
    /// There is no answer to wait for: the start itself decides, and is refused for the same reasons.
    pub fn prepare(&self, start: Box<Start>) {
        let Ok(writing) = self.writing.clone().try_lock_owned() else { return };
        let seq = self.seq.fetch_add(1, Ordering::Relaxed);
        // A request that is too large is too large for the start as well, which reports it.
        let Ok(frame) = encode(&Request::new(seq, Operation::Prepare(start))) else { return };
        match self.socket.try_write(&frame) {
            Ok(sent) if sent < frame.len() => {
                let socket = self.socket.clone();
                // The rest must follow before any other frame does: the task holds the lock.
                tokio::spawn(async move {
                    let _writing = writing;
                    socket.write_all(&frame[sent..]).await
                });
            }
            // Sent, or not begun: the buffer is full, or the launcher has gone, which the start reports.
            Ok(_) | Err(_) => {}
        }
    }

    /// Sends a frame. After a partial one the connection cannot be used any more.
    async fn send(&self, frame: &[u8]) -> io::Result<()> {
        let _writing = self.writing.lock().await;
        self.socket.write_all(frame).await
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

/// Returns the frame of a request.
fn encode(request: &Request) -> Result<Vec<u8>, LauncherError> {
    let body = serde_json::to_vec(request).expect("a request serialises");
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_FRAME);
    let length = length.ok_or(LauncherError::TooLarge(body.len()))?;
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Hands replies to the requesters. Sets `prepares` to false if the launcher does not know the only request without one.
async fn replies(socket: &LauncherSocket, pending: &Pending, prepares: &AtomicBool) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut received = Vec::new();
    loop {
        let read = socket.read(&mut chunk).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        received.extend_from_slice(&chunk[..read]);
        while let Some(reply) = take_reply(&mut received)? {
            let waiting = lock(pending).as_mut().and_then(|pending| pending.remove(&reply.seq));
            match waiting {
                // The requester may have been cancelled.
                Some(waiting) => drop(waiting.send(reply.outcome)),
                None if matches!(reply.outcome, Outcome::Refused { code: Refusal::Unsupported, .. }) => {
                    prepares.store(false, Ordering::Relaxed);
                }
                None => {}
            }
        }
    }
}

/// Takes the first reply out of what was received; `None` while it is not complete.
fn take_reply(received: &mut Vec<u8>) -> io::Result<Option<Reply>> {
    let invalid = |message: String| io::Error::new(io::ErrorKind::InvalidData, message);
    let Some((length, rest)) = received.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length > MAX_FRAME {
        return Err(invalid(format!("a reply of {length} bytes")));
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let reply = serde_json::from_slice(body).map_err(|e| invalid(e.to_string()))?;
    received.drain(..4 + length);
    Ok(Some(reply))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use packs_schema::base::name::ExecutionId;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    fn kill() -> Operation {
        Operation::Kill { execution: ExecutionId::new("01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa").unwrap() }
    }

    #[tokio::test]
    async fn an_earlier_launcher_is_not_asked_to_prepare_again() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let launcher = Launcher::connect(ours.into()).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut theirs = UnixStream::from_std(theirs).unwrap();
        let start = serde_json::json!({
            "execution": "01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa", "pack": "linux", "version": "1.0.0",
            "digest": "a".repeat(64), "action": "a", "parameters": {}, "noop": false, "timeout_ms": null, "run": null,
        });
        launcher.prepare(serde_json::from_value(start).unwrap());
        assert!(launcher.prepares(), "no news is good news");
        let answer = async {
            for code in [Refusal::Unsupported, Refusal::Resources] {
                let length = theirs.read_u32_le().await.unwrap();
                let mut body = vec![0; length as usize];
                theirs.read_exact(&mut body).await.unwrap();
                let seq = serde_json::from_slice::<Request>(&body).unwrap().seq;
                let outcome = Outcome::Refused { code, message: String::new() };
                let body = serde_json::to_vec(&Reply { seq, outcome }).unwrap();
                theirs.write_u32_le(body.len() as u32).await.unwrap();
                theirs.write_all(&body).await.unwrap();
            }
        };
        let (killed, ()) = tokio::join!(launcher.ask(kill()), answer);
        assert!(matches!(killed, Ok(Outcome::Refused { code: Refusal::Resources, .. })), "{killed:?}");
        assert!(!launcher.prepares());
    }

    #[tokio::test]
    async fn a_launcher_that_reads_nothing_holds_no_acceptance_up() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let launcher = Launcher::connect(ours.into()).unwrap();
        let start = serde_json::json!({
            "execution": "01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa", "pack": "linux", "version": "1.0.0",
            "digest": "a".repeat(64), "action": "a", "parameters": {"text": "x".repeat(60_000)}, "noop": false,
            "timeout_ms": null, "run": null,
        });
        let start: Start = serde_json::from_value(start).unwrap();
        // More than any buffer of a socket holds. Each call returns at once; one of them begins a frame that it cannot finish.
        for _ in 0..1000 {
            launcher.prepare(Box::new(start.clone()));
        }
        // The launcher reads again, and finds whole frames only.
        theirs.set_nonblocking(true).unwrap();
        let mut theirs = UnixStream::from_std(theirs).unwrap();
        let read = async {
            loop {
                let length = theirs.read_u32_le().await.unwrap();
                let mut body = vec![0; length as usize];
                theirs.read_exact(&mut body).await.unwrap();
                let request: Request = serde_json::from_slice(&body).unwrap();
                if matches!(request.operation, Operation::Kill { .. }) {
                    return;
                }
            }
        };
        tokio::select! {
            () = read => {}
            _ = launcher.ask(kill()) => panic!("nothing answers"),
        }
    }

    #[test]
    fn replies_are_taken_as_they_arrive_in_parts_or_together() {
        let frame = |seq: u64| {
            let body = serde_json::to_vec(&Reply { seq, outcome: Outcome::Done }).unwrap();
            [&u32::try_from(body.len()).unwrap().to_le_bytes()[..], &body].concat()
        };
        let all = [frame(1), frame(2)].concat();
        for at_once in [1, 3, all.len() - 1, all.len()] {
            let (mut received, mut seqs) = (Vec::new(), Vec::new());
            for part in all.chunks(at_once) {
                received.extend_from_slice(part);
                while let Some(reply) = take_reply(&mut received).unwrap() {
                    seqs.push(reply.seq);
                }
            }
            assert_eq!((seqs, received.len()), (vec![1, 2], 0), "{at_once} bytes at once");
        }
        let too_long = u32::try_from(MAX_FRAME + 1).unwrap().to_le_bytes();
        assert!(take_reply(&mut too_long.to_vec()).is_err());
        assert!(take_reply(&mut b"\x02\0\0\0??".to_vec()).is_err());
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
