//! The slots in use, and which one has to go.
//!
//! - A source at its share evicts its own oldest slot. Closing its new socket would be cheaper, and would let silent sockets keep
//!   out a caller of the same address.
//! - When all slots are in use, the source with the highest score loses its oldest slot. The score is the number of its recent
//!   failures and of its slots that are not [`FRESH`] any more. If the source of the new socket has the highest score, the new
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

/// A slot younger than this does not count against its source: a caller may open many at once. More than a handshake over a
/// slow line takes.
pub(super) const FRESH: Duration = Duration::from_millis(500);
/// Scores up to this are held against nobody.
const TOLERATED: u32 = 2;
/// Scores from this on are those of a few sources that open very many sockets.
const EXCESSIVE: u32 = 64;

/// The slots.
#[derive(Debug)]
pub(super) struct Table {
    bounds: Bounds,
    /// Oldest first.
    entries: VecDeque<Entry>,
    /// How many of the first entries are not fresh any more.
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

    /// Makes a slot for a new socket, and evicts another one for it at a bound: its id, and what ends when it is evicted.
    /// `None`: the new socket is to be closed.
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

    /// Takes a slot back that ended well.
    pub(super) fn succeed(&mut self, id: u64, source: IpAddr) {
        if let Some(at) = self.find(id) {
            self.remove(at);
        }
        // Also when it was evicted in this very moment.
        let cells = self.failures.cells(network(source));
        self.failures.clear(cells);
    }

    /// Takes a slot back that came to nothing, unless it was taken back before.
    pub(super) fn fail(&mut self, id: u64) {
        if let Some(at) = self.find(id) {
            self.evict(at);
        }
    }

    /// Returns the class of a slot's source; the last one for a slot that was evicted, whose task has not ended yet.
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

/// The class of a score. Exact scores would single out the one caller in the table that shares its count with others.
fn class(score: u32) -> u32 {
    match score {
        ..=TOLERATED => 0,
        score if score < EXCESSIVE => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests;
