//! The clocks: the wall clock in the unit that records and messages use, and the one since the host started.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970; 0 on a host whose clock stands before that.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// Milliseconds since the host started, suspended time included; no setting of the wall clock changes it.
pub fn boot_ms() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map_or(0, |now| {
        let milliseconds = now.tv_sec().saturating_mul(1000).saturating_add(now.tv_nsec() / 1_000_000);
        u64::try_from(milliseconds).unwrap_or(0)
    })
}

/// The id of this boot of the host; empty when it does not say.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
