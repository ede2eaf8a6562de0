//! Clocks in milliseconds, as records and messages use them: the wall clock, which can be set, and the clock of the boot, which
//! cannot.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// Returns the wall clock in milliseconds since 1970; 0 if it is set to an earlier time.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// Returns the milliseconds since the boot, including time in suspend (clock_gettime(2), `CLOCK_BOOTTIME`). Comparable only
/// within one boot.
pub fn boottime_ms() -> u64 {
    let since = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Formats milliseconds since 1970 for people: RFC 3339 in UTC, to the second.
pub fn rfc3339(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// Returns the id of this boot; empty if it cannot be read.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// As [`boottime_ms`], signed for arithmetic: a time before this boot is negative.
pub fn signed_boottime_ms() -> i64 {
    i64::try_from(boottime_ms()).unwrap_or(i64::MAX)
}
