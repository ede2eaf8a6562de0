//! Time within one execution: the wall clock is read once at the start, then the monotonic clock counts, so that setting the clock
//! neither stops an action early nor reorders its output.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// The start of an execution. All processes of the host read the same two clocks: the launcher sends it to a shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Clock {
    wall: Duration,
    /// By the monotonic clock.
    begun: Duration,
}

impl Clock {
    pub(crate) fn start() -> Clock {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { wall, begun: monotonic() }
    }

    /// Returns the time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        monotonic().saturating_sub(self.begun)
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

fn monotonic() -> Duration {
    // Every Linux has this clock.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default()
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_from_the_start_that_another_process_has_sent() {
        let sent = Clock { begun: monotonic().saturating_sub(Duration::from_secs(5)), ..Clock::start() };
        let received: Clock = serde_json::from_str(&serde_json::to_string(&sent).unwrap()).unwrap();
        assert_eq!(received, sent);
        assert!(received.elapsed() >= Duration::from_secs(5), "{received:?}");
        assert!(received.now_us() / 1000 >= received.started_ms() + 5000, "{received:?}");
    }
}
