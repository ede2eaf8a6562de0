//! Sockets of unknown peers: those that have not shown a certificate, and those of the plain health listener.
//!
//! ```text
//!  accept ──▶ begin ──▶ Slot ──▶ handshake ──▶ a place among the connections
//!               └── full: another slot is evicted
//! ```
//!
//! They never take the place of a caller: their number is bounded apart from connections, in all and for each source
//! address, and a new one is always admitted. At a bound the oldest socket that has not sent anything goes, else the oldest
//! one: of the same source when that source has its share, else of any. So whoever opens sockets and stays silent evicts
//! his own.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The bounds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Slots in all.
    pub(super) total: usize,
    /// Slots of one source address.
    pub(super) per_source: usize,
}

/// The slots in use, oldest first.
#[derive(Debug)]
pub(super) struct Handshakes {
    bounds: Bounds,
    entries: Mutex<VecDeque<Entry>>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    source: IpAddr,
    spoke: Arc<AtomicBool>,
    /// Dropped to evict.
    _keep: oneshot::Sender<()>,
}

/// A slot, until this is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    id: u64,
    /// Set when the peer has sent something.
    pub(super) spoke: Arc<AtomicBool>,
    evicted: oneshot::Receiver<()>,
    table: Arc<Handshakes>,
}

impl Handshakes {
    pub(super) fn new(bounds: Bounds) -> Arc<Handshakes> {
        Arc::new(Handshakes { bounds, entries: Mutex::default(), next: AtomicU64::new(0) })
    }

    /// A slot for a socket from `source`; evicts another one at a bound.
    pub(super) fn begin(self: &Arc<Self>, source: IpAddr) -> Slot {
        let source = network(source);
        let mut entries = self.lock();
        let from_here = entries.iter().filter(|entry| entry.source == source).count();
        if from_here >= self.bounds.per_source {
            self.evict(&mut entries, Some(source));
        } else if entries.len() >= self.bounds.total {
            self.evict(&mut entries, None);
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let spoke = Arc::new(AtomicBool::new(false));
        let (keep, evicted) = oneshot::channel();
        entries.push_back(Entry { id, source, spoke: spoke.clone(), _keep: keep });
        Slot { id, spoke, evicted, table: self.clone() }
    }

    fn evict(&self, entries: &mut VecDeque<Entry>, source: Option<IpAddr>) {
        let of_source = |entry: &Entry| source.is_none_or(|source| entry.source == source);
        let silent = |entry: &Entry| !entry.spoke.load(Ordering::Relaxed);
        let victim = entries.iter().position(|entry| of_source(entry) && silent(entry));
        if let Some(at) = victim.or_else(|| entries.iter().position(of_source)) {
            entries.remove(at);
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Ends when the slot is evicted.
    pub(super) async fn evicted(&mut self) {
        let _ = (&mut self.evicted).await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.table.lock().retain(|entry| entry.id != self.id);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_evicted(slot: &mut Slot) -> bool {
        slot.evicted.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    fn table(total: usize, per_source: usize) -> Arc<Handshakes> {
        Handshakes::new(Bounds { total, per_source })
    }

    #[test]
    fn a_source_at_its_share_evicts_its_own() {
        let table = table(10, 2);
        let mut other = table.begin(ip("192.0.2.9"));
        let mut slots: Vec<Slot> = (0..100).map(|_| table.begin(ip("192.0.2.1"))).collect();
        assert_eq!(
            slots.iter_mut().filter_map(|slot| (!is_evicted(slot)).then_some(slot.id)).collect::<Vec<_>>(),
            [99, 100]
        );
        assert!(!is_evicted(&mut other));
        assert_eq!(table.lock().len(), 3);
    }

    #[test]
    fn at_the_bound_the_oldest_silent_one_goes_and_a_new_one_comes_in() {
        let table = table(3, 2);
        let mut slots: Vec<Slot> = (1..=3).map(|n| table.begin(ip(&format!("192.0.2.{n}")))).collect();
        slots[0].spoke.store(true, Ordering::Relaxed);
        let mut fourth = table.begin(ip("192.0.2.4"));
        let gone: Vec<bool> = slots.iter_mut().map(is_evicted).collect();
        assert_eq!(gone, [false, true, false], "the oldest that has not sent anything");
        assert!(!is_evicted(&mut fourth));
        slots[2].spoke.store(true, Ordering::Relaxed);
        fourth.spoke.store(true, Ordering::Relaxed);
        let _fifth = table.begin(ip("192.0.2.5"));
        assert!(is_evicted(&mut slots[0]), "all have sent something: the oldest");
    }

    #[test]
    fn a_slot_that_is_dropped_comes_free_and_a_network_is_one_source() {
        let table = table(10, 1);
        drop(table.begin(ip("192.0.2.1")));
        let mut second = table.begin(ip("192.0.2.1"));
        assert!(!is_evicted(&mut second) && table.lock().len() == 1);
        let mut mapped = table.begin(ip("::ffff:192.0.2.1"));
        assert!(is_evicted(&mut second) && !is_evicted(&mut mapped));
        let mut one = table.begin(ip("2001:db8:1:2::1"));
        let _two = table.begin(ip("2001:db8:1:2:ffff::9"));
        assert!(is_evicted(&mut one));
    }
}
