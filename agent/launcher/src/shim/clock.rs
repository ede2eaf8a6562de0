//! Time within one execution: the wall clock is read once at the start, then the monotonic clock counts, so that setting the clock
//! neither stops an action early nor reorders its output.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(super) struct Clock {
    wall: Duration,
    begun: Instant,
}

impl Clock {
    pub(super) fn start() -> Clock {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { wall, begun: Instant::now() }
    }

    /// Returns the time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Returns the current time, in microseconds since 1970.
    pub(super) fn now_us(&self) -> u64 {
        u64::try_from((self.wall + self.elapsed()).as_micros()).unwrap_or(u64::MAX)
    }

    /// Returns the time of the start, in milliseconds since 1970.
    pub(super) fn started_ms(&self) -> u64 {
        millis(self.wall)
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
