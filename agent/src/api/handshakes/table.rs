//! Table of the slots in use, and the choice of the slot to evict.
//!
//! - A source at its limit evicts its own oldest slot. Closing its new socket would be cheaper, and would let silent sockets
//!   keep out a caller of the same address.
//! - When all slots are in use, the source with the highest score loses its oldest slot. The score is the number of its recent
//!   failures and of its slots that are older than [`FRESH`]. If the source of the new socket has the highest score, the new
//!   socket is closed instead. Scores are compared in three classes (see [`class`]); among equals the oldest slot is evicted. So
//!   a caller stays for as long as others of its class need to open `total` sockets, however many sources they have, and that
//!   holds also for a caller that shares its count of failures with others by chance (see `failures`).

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::failures::{Cells, Failures};
use super::{Bounds, network};

/// Age below which a slot does not count against its source, because a caller may open many at once: more than a handshake
/// over a slow line takes.
pub(super) const FRESH: Duration = Duration::from_millis(500);
/// Score up to which a source is in the best class.
const TOLERATED: u32 = 2;
/// Score from which a source is in the worst class: a few sources that open very many sockets.
const EXCESSIVE: u32 = 64;

/// Slots of one listener.
#[derive(Debug)]
pub(super) struct Table {
    bounds: Bounds,
    /// Oldest first.
    entries: VecDeque<Entry>,
    /// Number of entries, from the first, that are older than [`FRESH`].
    aged: usize,
    sources: HashMap<IpAddr, Held>,
    failures: Failures,
    next: u64,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    source: IpAddr,
    cells: Cells,
    since: Instant,
    /// Dropped to evict.
    _keep: oneshot::Sender<()>,
}

/// Slots of a source.
#[derive(Debug, Default)]
struct Held {
    all: usize,
    aged: u32,
}

impl Table {
    pub(super) fn new(bounds: Bounds) -> Table {
        let (entries, sources) = (VecDeque::new(), HashMap::new());
        Table { bounds, entries, aged: 0, sources, failures: Failures::new(), next: 0 }
    }

    /// Creates a slot for a new socket, and evicts another one at a limit. Returns its id, and a receiver that ends when it is
    /// evicted. `None`: close the new socket.
    pub(super) fn begin(&mut self, source: IpAddr, now: Instant) -> Option<(u64, oneshot::Receiver<()>)> {
        let source = network(source);
        self.age(now);
        let cells = self.failures.cells(source);
        if self.held(source) >= self.bounds.per_source {
            let oldest = self.entries.iter().position(|entry| entry.source == source)?;
            self.evict(oldest);
        } else if self.entries.len() >= self.bounds.total {
            let worst = self.worst()?;
            if self.class(source, cells) > self.class_of(&self.entries[worst]) {
                self.failures.add(cells);
                return None;
            }
            self.evict(worst);
        }
        let id = self.next;
        self.next += 1;
        let (keep, evicted) = oneshot::channel();
        self.entries.push_back(Entry { id, source, cells, since: now, _keep: keep });
        self.sources.entry(source).or_default().all += 1;
        Some((id, evicted))
    }

    /// Releases a slot whose handshake or probe succeeded.
    pub(super) fn succeed(&mut self, id: u64, source: IpAddr) {
        if let Some(at) = self.find(id) {
            self.remove(at);
        }
        // Also if the slot has just been evicted.
        let cells = self.failures.cells(network(source));
        self.failures.clear(cells);
    }

    /// Releases a slot that failed, unless it was released before.
    pub(super) fn fail(&mut self, id: u64) {
        if let Some(at) = self.find(id) {
            self.evict(at);
        }
    }

    /// Returns the class of a slot's source; the worst one for a slot that was evicted and whose task has not ended yet.
    pub(super) fn class_of_slot(&self, id: u64) -> u32 {
        self.find(id).map_or(u32::MAX, |at| self.class_of(&self.entries[at]))
    }

    /// Slots in use.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    fn worst(&self) -> Option<usize> {
        let mut worst: Option<(usize, u32)> = None;
        for (at, entry) in self.entries.iter().enumerate() {
            let class = self.class_of(entry);
            if worst.is_none_or(|(_, most)| class > most) {
                worst = Some((at, class));
            }
        }
        worst.map(|(at, _)| at)
    }

    fn class_of(&self, entry: &Entry) -> u32 {
        self.class(entry.source, entry.cells)
    }

    fn class(&self, source: IpAddr, cells: Cells) -> u32 {
        let aged = self.sources.get(&source).map_or(0, |held| held.aged);
        class(self.failures.count(cells) + aged)
    }

    fn held(&self, source: IpAddr) -> usize {
        self.sources.get(&source).map_or(0, |held| held.all)
    }

    fn find(&self, id: u64) -> Option<usize> {
        self.entries.binary_search_by_key(&id, |entry| entry.id).ok()
    }

    fn age(&mut self, now: Instant) {
        self.failures.decay(now);
        while let Some(entry) = self.entries.get(self.aged)
            && now.saturating_duration_since(entry.since) >= FRESH
        {
            self.sources.entry(entry.source).or_default().aged += 1;
            self.aged += 1;
        }
    }

    fn evict(&mut self, at: usize) {
        if let Some(entry) = self.remove(at) {
            self.failures.add(entry.cells);
        }
    }

    fn remove(&mut self, at: usize) -> Option<Entry> {
        let entry = self.entries.remove(at)?;
        let was_aged = at < self.aged;
        self.aged -= usize::from(was_aged);
        if let Some(held) = self.sources.get_mut(&entry.source) {
            held.all -= 1;
            held.aged -= u32::from(was_aged);
            if held.all == 0 {
                self.sources.remove(&entry.source);
            }
        }
        Some(entry)
    }
}

/// Returns the class of a score. Exact scores would single out the one caller in the table that shares its count with others.
fn class(score: u32) -> u32 {
    match score {
        ..=TOLERATED => 0,
        score if score < EXCESSIVE => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests;
