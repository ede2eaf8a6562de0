//! The time: of the wall, which may be set, and of the boot, which may not.

use std::fs;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// How far a clock may be set back without anybody being told, in milliseconds.
pub(super) const SLACK_MS: u64 = 5 * 60_000;
/// How long an execution may still wait and run after it was accepted: 24 hours each are the most that an action may ask for.
const IN_USE: Duration = Duration::from_secs(49 * 3600);

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clock {
    /// Milliseconds since 1970.
    pub(super) wall_ms: u64,
    /// Milliseconds since the start of this boot.
    pub(super) boot_ms: u64,
    /// Which boot.
    pub(super) boot: String,
}

/// A moment that no setting of a clock changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Since {
    /// In which boot it was …
    boot: String,
    /// … and how many seconds after its start.
    at_s: u64,
}

impl Clock {
    /// This moment.
    pub(super) fn read() -> io::Result<Clock> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        let since = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
        let ms = since.tv_sec().saturating_mul(1000).saturating_add(since.tv_nsec() / 1_000_000);
        Ok(Clock { wall_ms: now_ms(), boot_ms: u64::try_from(ms).unwrap_or_default(), boot })
    }

    /// For tests.
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
