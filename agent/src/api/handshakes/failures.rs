//! Counts the recent failures of each source, that is sockets that ended before their peer was authenticated, in memory of a
//! fixed size, however many sources there are.
//!
//! A count-min sketch of two rows: a source has one cell in each, and its count is the smaller one. Sources that share both
//! cells share the count: with 6,000 sources that fail, about one in a hundred others does. The hash is keyed by random numbers
//! of this process, so an attacker cannot choose addresses that share cells with a caller's. Twice the average of a row is
//! subtracted from each count, so that very many sources that fail once raise no count. Counts are halved every [`HALF_LIFE`].

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// Counts are halved after this time.
const HALF_LIFE: Duration = Duration::from_secs(30);
/// Cells in a row, a power of two.
const CELLS: usize = 1 << 16;

/// Counts of failures.
#[derive(Debug)]
pub(super) struct Failures {
    /// Empty until the first failure.
    rows: [Vec<u8>; 2],
    keys: RandomState,
    /// Approximate sum of a row.
    total: usize,
    halved: Option<Instant>,
}

/// Cells of a source.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cells([usize; 2]);

impl Failures {
    pub(super) fn new() -> Failures {
        Failures { rows: [Vec::new(), Vec::new()], keys: RandomState::new(), total: 0, halved: None }
    }

    pub(super) fn cells(&self, source: IpAddr) -> Cells {
        let hash = self.keys.hash_one(source);
        let index = |bits: u64| usize::try_from(bits).unwrap_or(0) % CELLS;
        Cells([index(hash & 0xffff_ffff), index(hash >> 32)])
    }

    pub(super) fn count(&self, cells: Cells) -> u32 {
        let counts = self.rows.iter().zip(cells.0).map(|(row, at)| row.get(at).copied().unwrap_or(0));
        // A flood of sources that connect once fills the cells of all sources.
        let noise = u32::try_from(2 * self.total / CELLS).unwrap_or(u32::MAX);
        u32::from(counts.min().unwrap_or(0)).saturating_sub(noise)
    }

    pub(super) fn add(&mut self, cells: Cells) {
        self.total = self.total.saturating_add(1);
        for (row, at) in self.rows.iter_mut().zip(cells.0) {
            row.resize(CELLS, 0);
            row[at] = row[at].saturating_add(1);
        }
    }

    /// Forgets the failures of a source.
    pub(super) fn clear(&mut self, cells: Cells) {
        for (row, at) in self.rows.iter_mut().zip(cells.0) {
            if let Some(count) = row.get_mut(at) {
                *count = 0;
            }
        }
    }

    /// Halves the counts when it is time.
    pub(super) fn decay(&mut self, now: Instant) {
        let halved = *self.halved.get_or_insert(now);
        let times = now.saturating_duration_since(halved).as_secs() / HALF_LIFE.as_secs();
        if times == 0 {
            return;
        }
        let shift = u32::try_from(times).unwrap_or(u32::MAX);
        for count in self.rows.iter_mut().flatten() {
            *count = count.checked_shr(shift).unwrap_or(0);
        }
        self.total = self.total.checked_shr(shift).unwrap_or(0);
        self.halved = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn counts_are_of_one_source_fade_and_are_forgotten() {
        let (mut failures, start) = (Failures::new(), Instant::now());
        failures.decay(start);
        let (bad, other) = (failures.cells(ip(1)), failures.cells(ip(2)));
        (0..300).for_each(|_| failures.add(bad));
        assert_eq!(failures.count(bad), 255);
        assert!(bad.0 == other.0 || failures.count(other) == 0);
        failures.decay(start + HALF_LIFE - Duration::from_millis(1));
        assert_eq!(failures.count(bad), 255);
        failures.decay(start + HALF_LIFE);
        assert_eq!(failures.count(bad), 127);
        failures.decay(start + 100 * HALF_LIFE);
        assert_eq!(failures.count(bad), 0);
        failures.add(bad);
        failures.clear(bad);
        assert_eq!(failures.count(bad), 0);
    }

    #[test]
    fn a_thousand_failing_sources_leave_nearly_all_others_without_a_count() {
        let mut failures = Failures::new();
        for n in 0..1000 {
            failures.add(failures.cells(ip(n)));
        }
        let marked = (1_000_000..1_010_000).filter(|n| failures.count(failures.cells(ip(*n))) > 0).count();
        // Two or three are expected; the keys are random.
        assert!(marked < 50, "{marked} of 10000");
    }

    #[test]
    fn a_flood_of_sources_that_connect_once_raises_no_count() {
        let mut failures = Failures::new();
        for n in 0..200_000 {
            failures.add(failures.cells(ip(n)));
        }
        let marked = (1_000_000..1_010_000).filter(|n| failures.count(failures.cells(ip(*n))) > 2).count();
        assert!(marked < 20, "{marked} of 10000");
    }
}
