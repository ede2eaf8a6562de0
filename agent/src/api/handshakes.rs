//! Sockets of unknown peers: those that have not shown a certificate, and those of the plain health listener.
//!
//! ```text
//!  accept ──▶ begin ──▶ Slot ──▶ ClientHello ──▶ turn ──▶ key exchange ──▶ turn ──▶ certificate ──▶ connection slot
//!               │                                 └── one step at a time, alternating with all other work
//!               └── full: a slot of the source with the highest score is evicted, or the new socket is closed (see `table`)
//! ```
//!
//! The number of slots is bounded separately from that of connections, in total and for each source, and a slot is released
//! when the certificate is verified. Until then a caller cannot be distinguished from an attacker, so a source is scored by its
//! recent failures (see `failures`) and by the slots that it holds for longer than a handshake takes. Sources with a low score
//! are served first and evicted last.

mod failures;
mod report;
mod socket;
mod step_scheduler;
mod table;

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
use step_scheduler::Turns;
use table::Table;

/// Maximum numbers of slots.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// In total.
    pub(super) total: usize,
    /// For one source.
    pub(super) per_source: usize,
}

/// Time limit for the first byte of a handshake, or of a probe.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(2);
/// Time limit for a whole handshake, or a whole probe.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Slots of one listener.
pub(super) struct Handshakes {
    table: Mutex<Table>,
    turns: Turns,
    report: Report,
}

/// Slot of a socket, until this is dropped. It counts as a failure of its source unless it ended with [`Slot::succeed`].
pub(super) struct Slot {
    id: u64,
    from: SocketAddr,
    began: Instant,
    progress: Arc<Progress>,
    evicted: oneshot::Receiver<()>,
    all: Arc<Handshakes>,
}

/// Reason for a handshake or probe that was not completed.
#[derive(Debug)]
pub(super) enum Incomplete {
    /// The slot was given to another peer.
    Evicted,
    /// The peer sent nothing, or took too long.
    TimedOut,
    /// The connection failed, or TLS refused the peer.
    Failed(std::io::Error),
}

impl Handshakes {
    /// Creates the slots, all of them free. `listener` is the name in log and metrics.
    pub(super) fn new(bounds: Bounds, listener: &'static str, metrics: Arc<Metrics>) -> Arc<Handshakes> {
        let table = Mutex::new(Table::new(bounds));
        Arc::new(Handshakes { table, turns: Turns::default(), report: Report::new(listener, metrics) })
    }

    /// Returns a slot for a socket from `from`, and may evict another one for it. `None`: reset the socket ([`reset`]).
    pub(super) fn begin(self: &Arc<Self>, from: SocketAddr) -> Option<Slot> {
        let now = Instant::now();
        let Some((id, evicted)) = self.table().begin(from.ip(), now) else {
            self.report.count(Reason::Dropped, from, None);
            return None;
        };
        let progress = Arc::default();
        Some(Slot { id, from, began: now, progress, evicted, all: self.clone() })
    }

    /// Counts a caller whose certificate was verified and for which no connection slot was free.
    pub(super) fn count_no_connection_slot(&self, from: SocketAddr) {
        self.report.count(Reason::NoConnectionSlot, from, None);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Wraps the socket: it reports its progress to this slot, and is reset when the agent gives it up.
    pub(super) fn socket(&self, stream: TcpStream) -> Socket {
        Socket::new(stream, self.progress.clone())
    }

    /// Runs `work` within the time limits: the peer must send something soon, finish in time, and not be evicted.
    pub(super) async fn run_in_time<T>(
        &mut self,
        work: impl Future<Output = std::io::Result<T>>,
    ) -> Result<T, Incomplete> {
        let progress = self.progress.clone();
        let first_byte = async {
            tokio::time::sleep_until(self.began + FIRST_BYTE_TIMEOUT).await;
            if progress.has_sent() {
                std::future::pending::<()>().await;
            }
        };
        let mut work = std::pin::pin!(work);
        let done = tokio::select! {
            biased;
            _ = &mut self.evicted => Err(Incomplete::Evicted),
            done = work.as_mut() => done.map_err(Incomplete::Failed),
            () = first_byte => Err(Incomplete::TimedOut),
            () = tokio::time::sleep_until(self.began + HANDSHAKE_TIMEOUT) => Err(Incomplete::TimedOut),
        };
        // The socket ends with `work`, on return.
        if let Err(Incomplete::Evicted | Incomplete::TimedOut) = done {
            self.progress.give_up();
        }
        done
    }

    /// Returns the slots that this one belongs to.
    pub(super) fn all(&self) -> &Arc<Handshakes> {
        &self.all
    }

    /// Releases the slot: the certificate is verified, or the probe answered.
    pub(super) fn succeed(self) {
        self.progress.complete();
        self.all.table().succeed(self.id, self.from.ip());
    }

    /// Releases the slot, and counts the reason.
    pub(super) fn fail(self, why: &Incomplete) {
        let (reason, error) = match why {
            Incomplete::Evicted => (Reason::Evicted, None),
            Incomplete::TimedOut => (Reason::TimedOut, None),
            Incomplete::Failed(error) if is_disconnect(error) => (Reason::Abandoned, Some(error)),
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

/// Closes a socket with a reset, so that nothing of it remains in the kernel.
pub(super) fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
    drop(stream);
}

fn is_disconnect(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe | NotConnected)
}

/// Returns the source that an address counts for: itself, or the /64 of an IPv6 address, since one host may have all of it.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}
