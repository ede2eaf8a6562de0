//! The clocks, in the unit that records and messages use: that of the wall, which anybody may set, and that of the boot,
//! which nobody does.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// Milliseconds since 1970; 0 on a host whose clock stands before that.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// Milliseconds since the host started, time asleep included (clock_gettime(2), `CLOCK_BOOTTIME`). Only comparable within
/// one boot.
pub fn boottime_ms() -> u64 {
    let since = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The id of this boot of the host; empty when it does not say.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The same, to be reckoned with: what was before this boot has a negative time.
pub fn signed_boottime_ms() -> i64 {
    i64::try_from(boottime_ms()).unwrap_or(i64::MAX)
}
