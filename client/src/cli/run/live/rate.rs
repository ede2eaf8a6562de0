//! How fast instances end, over a moving window.

use std::collections::VecDeque;
use std::time::Duration;

/// Windows over which the rate is measured: the first one in which enough instances ended.
const WINDOWS: [u64; 2] = [10, 60];
/// Number of ends that a window needs.
const ENOUGH: u32 = 3;

/// Ends of the last minute, by second.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// Second since the beginning, and the number of ends in it.
    seconds: VecDeque<(u64, u32)>,
    all: u32,
}

impl Rate {
    /// Counts an instance that ended `now` after the beginning.
    pub(super) fn ended(&mut self, now: Duration) {
        let second = now.as_secs();
        self.all += 1;
        match self.seconds.back_mut() {
            Some((last, count)) if *last == second => *count += 1,
            _ => self.seconds.push_back((second, 1)),
        }
        while self.seconds.front().is_some_and(|(first, _)| first + WINDOWS[1] < second) {
            self.seconds.pop_front();
        }
    }

    /// Returns the number of ends per second lately, if enough instances have ended.
    pub(super) fn recent(&self, now: Duration) -> Option<f64> {
        WINDOWS.iter().find_map(|window| {
            let first = (now.as_secs() + 1).saturating_sub(*window);
            let count: u32 = self.seconds.iter().filter(|(second, _)| *second >= first).map(|(_, count)| count).sum();
            per_second(count, now.saturating_sub(Duration::from_secs(first)))
        })
    }

    /// Returns the number of ends per second since the beginning, pauses included.
    pub(super) fn overall(&self, now: Duration) -> Option<f64> {
        per_second(self.all, now)
    }
}

fn per_second(count: u32, time: Duration) -> Option<f64> {
    (count >= ENOUGH && time >= Duration::from_secs(1)).then(|| f64::from(count) / time.as_secs_f64())
}

/// Returns a rate for people: `68/s`, `3.4/s`, `12/min`.
pub(super) fn describe(per_second: f64) -> String {
    match per_second {
        fast if fast >= 9.95 => format!("{fast:.0}/s"),
        slow if slow >= 1.0 => format!("{slow:.1}/s"),
        slower => format!("{:.0}/min", (slower * 60.0).max(1.0)),
    }
}

/// Returns the time that `count` more ends take at the slowest and the fastest of `rates`: the shorter and the longer time.
/// `None` if they are too far apart to say anything.
pub(super) fn time_for(count: usize, rates: &[f64]) -> Option<(Duration, Duration)> {
    let fastest = rates.iter().copied().fold(0.0, f64::max);
    let slowest = rates.iter().copied().fold(f64::INFINITY, f64::min);
    if fastest <= 0.0 || slowest * 10.0 < fastest {
        return None;
    }
    let time = |rate: f64| Duration::try_from_secs_f64(count as f64 / rate).ok();
    time(fastest).zip(time(slowest))
}

/// Returns a range of times for people: `about 40s left`, `1m20s to 2m left`.
pub(super) fn describe_left((short, long): (Duration, Duration)) -> String {
    let (rounded_short, rounded_long) = (rounded(short), rounded(long));
    if long.as_secs_f64() <= short.as_secs_f64() * 1.25 || rounded_short == rounded_long {
        format!("about {rounded_long} left")
    } else {
        format!("{rounded_short} to {rounded_long} left")
    }
}

/// Rounds up to a step that fits the length: an estimate is not exact to the second.
fn rounded(time: Duration) -> String {
    let seconds = time.as_secs_f64().ceil() as u64;
    let step = match seconds {
        0..60 => 1,
        60..600 => 10,
        600..7200 => 60,
        _ => 600,
    };
    packs_schema::base::quantity::format_duration(Duration::from_secs(seconds.max(1).div_ceil(step) * step))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: f64) -> Duration {
        Duration::from_secs_f64(second)
    }

    #[test]
    fn a_rate_is_of_the_last_seconds_and_needs_a_few_ends() {
        let mut rate = Rate::default();
        assert_eq!(rate.recent(at(5.0)), None);
        for n in 0..100 {
            rate.ended(at(f64::from(n) / 20.0));
        }
        assert_eq!(rate.recent(at(5.0)), Some(20.0));
        assert_eq!(rate.recent(at(10.0)), Some(80.0 / 9.0), "nine whole seconds of the window have passed");
        assert_eq!(rate.recent(at(20.0)), Some(5.0), "the longer window, as far as the run is old");
        assert_eq!((rate.recent(at(90.0)), rate.overall(at(100.0))), (None, Some(1.0)));
    }

    #[test]
    fn memory_is_bounded_by_the_longest_window() {
        let mut rate = Rate::default();
        (0..10_000).for_each(|n| rate.ended(Duration::from_secs(n)));
        assert!(rate.seconds.len() <= 61);
    }

    #[test]
    fn time_left_is_a_range_or_nothing() {
        let said = |count, rates: &[f64]| time_for(count, rates).map(describe_left);
        assert_eq!(said(400, &[10.0]).as_deref(), Some("about 40s left"));
        assert_eq!(said(400, &[10.0, 11.0]).as_deref(), Some("about 40s left"));
        assert_eq!(said(400, &[5.0, 3.3]).as_deref(), Some("1m20s to 2m10s left"));
        assert_eq!(said(400, &[10.0, 0.5]), None);
        assert_eq!(said(400, &[]), None);
        assert_eq!((describe(68.4), describe(3.42), describe(0.2)), ("68/s".into(), "3.4/s".into(), "12/min".into()));
    }
}
