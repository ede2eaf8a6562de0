//! Time of the wall clock, which may be set, and of the boot clock, which cannot.

use std::fs;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Amount, in milliseconds, by which a clock may be behind before it is reported.
pub(super) const SLACK_MS: u64 = 5 * 60_000;
/// Maximum time from the acceptance of an execution to its end: 24 hours each for waiting and running, the most that an action
/// may set.
const IN_USE: Duration = Duration::from_secs(49 * 3600);

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Moment by both clocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clock {
    /// Milliseconds since 1970.
    pub(super) wall_ms: u64,
    /// Milliseconds since the start of this boot.
    pub(super) boot_ms: u64,
    /// Id of the boot.
    pub(super) boot: String,
}

/// Moment by the boot clock, which setting the clock does not change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Since {
    /// Id of the boot …
    boot: String,
    /// … and seconds since its start.
    at_s: u64,
}

impl Clock {
    /// Reads both clocks.
    pub(super) fn read() -> io::Result<Clock> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        let since = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
        let ms = since.tv_sec().saturating_mul(1000).saturating_add(since.tv_nsec() / 1_000_000);
        Ok(Clock { wall_ms: now_ms(), boot_ms: u64::try_from(ms).unwrap_or_default(), boot })
    }

    /// Moment for tests.
    #[cfg(test)]
    pub(super) fn at(boot: &str, at_s: u64) -> Clock {
        Clock { wall_ms: 0, boot_ms: at_s * 1000, boot: boot.to_owned() }
    }

    /// This moment, to be remembered.
    pub(super) fn since(&self) -> Since {
        Since { boot: self.boot.clone(), at_s: self.boot_ms / 1000 }
    }

    /// True if an execution may still run that was accepted before `since`. A boot ends every execution.
    pub(super) fn may_run_since(&self, since: &Since) -> bool {
        since.boot == self.boot && (self.boot_ms / 1000).saturating_sub(since.at_s) < IN_USE.as_secs()
    }
}
