//! The wall clock and the clock of the boot.

use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// Returns the wall-clock time, in milliseconds since 1970. It may be set.
pub(crate) fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Returns the time since boot including suspended time (`CLOCK_BOOTTIME`), in milliseconds. It cannot be set.
pub(crate) fn boot_ms() -> nix::Result<u64> {
    let since = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
    let ms = since.tv_sec().saturating_mul(1000).saturating_add(since.tv_nsec() / 1_000_000);
    Ok(u64::try_from(ms).unwrap_or_default())
}
