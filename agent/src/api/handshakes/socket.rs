//! Socket of a peer that is not authenticated yet: records when the peer has sent something, bounds the number of reads, and
//! leaves nothing behind in the kernel when the agent gives it up.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Maximum number of reads before a peer is authenticated: a handshake takes a few, some forty with the longest certificate chain.
/// Each byte that a peer trickles wakes the agent.
const PIECES: u32 = 64;

/// Progress of the peer.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pieces: AtomicU32,
    complete: AtomicBool,
    given_up: AtomicBool,
}

impl Progress {
    /// True if the peer has sent something.
    pub(super) fn has_sent(&self) -> bool {
        self.pieces.load(Ordering::Relaxed) > 0
    }

    /// Ends the bound on reads: the peer is authenticated.
    pub(super) fn complete(&self) {
        self.complete.store(true, Ordering::Relaxed);
    }

    /// Makes the socket reset the connection when it is dropped.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Relaxed)
    }
}

/// Socket with its progress.
#[derive(Debug)]
pub(in crate::api) struct Socket {
    stream: TcpStream,
    progress: Arc<Progress>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, progress: Arc<Progress>) -> Socket {
        Socket { stream, progress }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.progress.given_up.load(Ordering::Relaxed) {
            // A reset: an orderly close would leave each such socket in the kernel for a minute.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before
            && !self.progress.is_complete()
            && self.progress.pieces.fetch_add(1, Ordering::Relaxed) >= PIECES
        {
            return Poll::Ready(Err(io::Error::new(ErrorKind::InvalidData, "the peer sends too many small pieces")));
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (Socket, Arc<Progress>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let progress = Arc::<Progress>::default();
        (Socket::new(listener.accept().await.unwrap().0, progress.clone()), progress, theirs)
    }

    #[tokio::test]
    async fn a_peer_that_sends_single_bytes_is_refused_until_it_is_authenticated() {
        let (mut ours, progress, mut theirs) = pair().await;
        assert!(!progress.has_sent());
        for _ in 0..PIECES {
            theirs.write_all(b"x").await.unwrap();
            ours.read_u8().await.unwrap();
        }
        assert!(progress.has_sent());
        theirs.write_all(b"x").await.unwrap();
        assert_eq!(ours.read_u8().await.unwrap_err().kind(), ErrorKind::InvalidData);
        progress.complete();
        theirs.write_all(b"y").await.unwrap();
        assert_eq!(ours.read_u8().await.unwrap(), b'y');
    }

    #[tokio::test]
    async fn a_socket_that_is_given_up_is_reset_and_another_one_closed() {
        for (give_up, end) in [(true, Err(ErrorKind::ConnectionReset)), (false, Ok(0))] {
            let (ours, progress, mut theirs) = pair().await;
            if give_up {
                progress.give_up();
            }
            drop(ours);
            assert_eq!(theirs.read(&mut [0]).await.map_err(|e| e.kind()), end);
        }
    }
}
