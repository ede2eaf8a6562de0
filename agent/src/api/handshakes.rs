//! Sockets of unknown peers: those that have not shown a certificate, and those of the plain health listener.
//!
//! ```text
//!  accept ──▶ begin ──▶ Slot ──▶ ClientHello ──▶ turn ──▶ key exchange ──▶ turn ──▶ certificate ──▶ a place (see `places`)
//!               │                                 └── one step at a time, between the work of everybody else
//!               └── full: a slot of the source with the highest score is evicted, or the new socket is closed (see `table`)
//! ```
//!
//! Their number is bounded apart from that of connections, in all and for each source, and a slot ends when the certificate is
//! verified. Before that a caller looks like an attacker, so a source is judged by its recent failures (see `failures`) and by
//! the slots that it holds for longer than a handshake takes. Sources with a low score are served first and evicted last.

mod failures;
mod report;
mod socket;
mod table;
mod turns;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::metrics::Metrics;
use report::{Reason, Report};
use socket::Progress;
pub(super) use socket::Socket;
use table::Table;
use turns::Turns;

/// The bounds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Slots in all.
    pub(super) total: usize,
    /// Slots of one source.
    pub(super) per_source: usize,
}

/// Time for the first byte of a handshake, or of a probe.
const SILENT: Duration = Duration::from_secs(2);
/// Time for a whole handshake, or a whole probe.
const WHOLE: Duration = Duration::from_secs(5);

/// The slots of one listener.
pub(super) struct Handshakes {
    table: Mutex<Table>,
    turns: Turns,
    report: Report,
}

/// A slot, until this is dropped. It counts as a failure of its source unless it ended with [`Slot::succeed`].
pub(super) struct Slot {
    id: u64,
    from: SocketAddr,
    began: Instant,
    progress: Arc<Progress>,
    evicted: oneshot::Receiver<()>,
    all: Arc<Handshakes>,
}

/// Reasons why a peer did not come as far as it should.
#[derive(Debug)]
pub(super) enum Incomplete {
    /// Its slot went to another peer.
    Evicted,
    /// It sent nothing, or took too long.
    TimedOut,
    /// The connection failed, or TLS refused the peer.
    Failed(std::io::Error),
}

impl Handshakes {
    /// No slots in use. `listener` is the name that log and metrics give it.
    pub(super) fn new(bounds: Bounds, listener: &'static str, metrics: Arc<Metrics>) -> Arc<Handshakes> {
        let table = Mutex::new(Table::new(bounds));
        Arc::new(Handshakes { table, turns: Turns::default(), report: Report::new(listener, metrics) })
    }

    /// Returns a slot for a socket from `from`, and may evict another one for it. `None`: the socket is to be reset ([`reset`]).
    pub(super) fn begin(self: &Arc<Self>, from: SocketAddr) -> Option<Slot> {
        let now = Instant::now();
        let Some((id, evicted)) = self.table().begin(from.ip(), now) else {
            self.report.count(Reason::Dropped, from, None);
            return None;
        };
        let progress = Arc::default();
        Some(Slot { id, from, began: now, progress, evicted, all: self.clone() })
    }

    /// Counts that a caller whose certificate was verified found no place among the connections.
    pub(super) fn no_place(&self, from: SocketAddr) {
        self.report.count(Reason::NoPlace, from, None);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// The socket, which tells this slot of its progress, and is reset when the agent gives it up.
    pub(super) fn socket(&self, stream: TcpStream) -> Socket {
        Socket::new(stream, self.progress.clone())
    }

    /// Waits for `work` as long as the slot is there: the peer must send something soon, and be done in time.
    pub(super) async fn in_time<T>(&mut self, work: impl Future<Output = std::io::Result<T>>) -> Result<T, Incomplete> {
        let progress = self.progress.clone();
        let silent = async {
            tokio::time::sleep_until(self.began + SILENT).await;
            if progress.has_spoken() {
                std::future::pending::<()>().await;
            }
        };
        let mut work = std::pin::pin!(work);
        let done = tokio::select! {
            biased;
            _ = &mut self.evicted => Err(Incomplete::Evicted),
            done = work.as_mut() => done.map_err(Incomplete::Failed),
            () = silent => Err(Incomplete::TimedOut),
            () = tokio::time::sleep_until(self.began + WHOLE) => Err(Incomplete::TimedOut),
        };
        // The socket ends with `work`, on return.
        if let Err(Incomplete::Evicted | Incomplete::TimedOut) = done {
            self.progress.give_up();
        }
        done
    }

    /// The slots that this one is of.
    pub(super) fn all(&self) -> &Arc<Handshakes> {
        &self.all
    }

    /// Gives the slot back: the certificate is verified, or the probe answered.
    pub(super) fn succeed(self) {
        self.progress.complete();
        self.all.table().succeed(self.id, self.from.ip());
    }

    /// Gives the slot back, and counts why.
    pub(super) fn fail(self, why: &Incomplete) {
        let (reason, error) = match why {
            Incomplete::Evicted => (Reason::Evicted, None),
            Incomplete::TimedOut => (Reason::TimedOut, None),
            Incomplete::Failed(error) if is_gone(error) => (Reason::Abandoned, Some(error)),
            Incomplete::Failed(error) => (Reason::Refused, Some(error)),
        };
        self.all.report.count(reason, self.from, error);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.all.table().fail(self.id);
    }
}

/// Closes a socket at once, so that nothing of it stays in the kernel.
pub(super) fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
    drop(stream);
}

fn is_gone(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe | NotConnected)
}

/// The source that an address counts for: itself, or the /64 of an IPv6 address, which one host can have whole.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}
