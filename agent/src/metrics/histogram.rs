//! Distribution of durations in fixed buckets. Recording is one search in a short table.

use std::time::Duration;

/// Upper bounds of buckets, in microseconds, ascending.
pub(crate) type Bounds = [u64; 12];

const MS: u64 = 1000;
const S: u64 = 1000 * MS;

/// Bounds for executions and their waits: 10 ms to 4 hours.
pub(crate) const EXECUTIONS: Bounds =
    [10 * MS, 100 * MS, 500 * MS, S, 5 * S, 10 * S, 30 * S, 60 * S, 300 * S, 900 * S, 3600 * S, 14_400 * S];
/// Bounds for requests: 1 ms to 60 s, the longest `wait`.
pub(crate) const REQUESTS: Bounds =
    [MS, 2500, 5 * MS, 10 * MS, 25 * MS, 50 * MS, 100 * MS, 500 * MS, S, 5 * S, 15 * S, 60 * S];

/// Distribution of durations.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    bounds: &'static Bounds,
    /// Number of durations by bucket; the last counts those above all bounds.
    counts: [u64; 13],
    sum_us: u64,
}

impl Histogram {
    /// Creates an empty one.
    pub(crate) fn new(bounds: &'static Bounds) -> Histogram {
        Histogram { bounds, counts: [0; 13], sum_us: 0 }
    }

    /// Counts a duration.
    pub(crate) fn record(&mut self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.counts[self.bounds.partition_point(|bound| *bound < us)] += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }

    /// Returns the bounds in seconds, each with the number of durations up to it; the last is `+Inf`.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let bounds = self.bounds.iter().map(|us| decimal(*us)).chain(std::iter::once("+Inf".to_owned()));
        let mut sum = 0;
        bounds.zip(&self.counts).map(move |(bound, count)| {
            sum += count;
            (bound, sum)
        })
    }

    /// Returns the number of durations.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the sum of all durations, in microseconds.
    pub(crate) fn sum_us(&self) -> u64 {
        self.sum_us
    }
}

/// Formats microseconds as seconds.
pub(crate) fn seconds(us: u64) -> String {
    format!("{}.{:06}", us / 1_000_000, us % 1_000_000)
}

/// Formats microseconds as seconds without trailing zeros.
fn decimal(us: u64) -> String {
    seconds(us).trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_its_bucket_and_all_above() {
        let mut histogram = Histogram::new(&EXECUTIONS);
        for ms in [10, 11, 60_000, 20_000_000] {
            histogram.record(Duration::from_millis(ms));
        }
        let counts: Vec<(String, u64)> = histogram.cumulative().collect();
        let of = |bound: &str| counts.iter().find(|(name, _)| name == bound).unwrap().1;
        assert_eq!((of("0.01"), of("0.1"), of("30"), of("60"), of("14400"), of("+Inf")), (1, 2, 2, 3, 3, 4));
        assert_eq!((histogram.count(), histogram.sum_us()), (4, 20_060_021_000));
    }

    #[test]
    fn bounds_ascend() {
        for bounds in [EXECUTIONS, REQUESTS] {
            assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        }
    }
}
