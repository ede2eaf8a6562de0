//! Floor of the clock: the earliest time that it can be now. It prevents a clock that is behind from making expired metadata
//! look valid.
//!
//! The clock decides which metadata have expired. A clock that is behind the floor (with five minutes of tolerance), or a day
//! behind the newest signed publication time, stops the poll with an error that names the clock. The floor is kept in
//! `.tuf/time.json`. With a directory as repository, and after a boot, the signed publication time is all that is known. The
//! record of the time that the TUF library keeps is not used, because it follows this host's clock.
//!
//! The clock of this host alone never raises the floor: a clock that is ahead for one poll would lock the host out until that
//! time has come. The floor is raised by:
//!
//! - the newest publication time that is signed, a day earlier, since a publisher's clock may be ahead by that much;
//! - the `Date` of the bucket's answers, but never beyond the time of this host: both must be ahead to do harm;
//! - the time since the boot, which cannot be set, until the host is restarted.
//!
//! The floor is never lowered, so that setting a clock and a `Date` back does not make expired metadata valid.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::clock::Clock;
use super::{SyncError, disk};

/// Format of the file that this code writes.
const FORMAT: u32 = 1;
/// Maximum size of the file, in bytes.
const MAX_FILE: u64 = 4 << 10;
/// Amount by which the clock of a publisher may be ahead, in milliseconds.
pub(super) const PUBLISHER_SLACK_MS: u64 = 24 * 3_600_000;

/// Content of the file `time.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ClockFloor {
    format: u32,
    /// Earliest time, in milliseconds since 1970 …
    at_least_ms: u64,
    /// … in the boot with this id …
    boot: String,
    /// … and this many milliseconds after its start.
    boot_ms: u64,
}

impl ClockFloor {
    /// Reads the file; `None` if it does not exist or cannot be used: then only signed times count.
    pub(super) fn read(tuf: &Path) -> Option<ClockFloor> {
        let bytes = disk::read_if_there(&path(tuf), MAX_FILE).ok().flatten()?;
        serde_json::from_slice(&bytes).ok().filter(|floor: &ClockFloor| floor.format == FORMAT)
    }

    /// Returns the earliest time that it can be at the moment `now`.
    pub(super) fn earliest_ms(&self, now: &Clock) -> u64 {
        let passed = if self.boot == now.boot { now.boot_ms.saturating_sub(self.boot_ms) } else { 0 };
        self.at_least_ms.saturating_add(passed)
    }

    /// Raises the floor after metadata were verified at the moment `now`, by the newest signed publication time and the time of
    /// the bucket's clock, where they are known.
    pub(super) fn after(
        before: Option<&ClockFloor>,
        now: &Clock,
        signed_ms: Option<u64>,
        bucket_ms: Option<u64>,
    ) -> ClockFloor {
        let known = [
            before.map(|before| before.earliest_ms(now)),
            signed_ms.map(|at_ms| at_ms.saturating_sub(PUBLISHER_SLACK_MS)),
            bucket_ms.map(|at_ms| at_ms.min(now.wall_ms)),
        ];
        let at_least_ms = known.into_iter().flatten().max().unwrap_or_default();
        ClockFloor { format: FORMAT, at_least_ms, boot: now.boot.clone(), boot_ms: now.boot_ms }
    }

    /// Writes the file durably.
    pub(super) fn write(&self, tuf: &Path) -> Result<(), SyncError> {
        let bytes = serde_json::to_vec(self).expect("a record serialises");
        disk::replace(&path(tuf), &bytes, 0o600).map_err(SyncError::file("write", path(tuf)))
    }
}

fn path(tuf: &Path) -> PathBuf {
    tuf.join("time.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3_600_000;

    fn clock(boot: &str, wall_days: u64, boot_ms: u64) -> Clock {
        Clock { wall_ms: wall_days * DAY, boot_ms, boot: boot.to_owned() }
    }

    #[test]
    fn a_clock_that_is_ahead_moves_nothing_by_itself() {
        let right = ClockFloor::after(None, &clock("a", 100, 0), Some(90 * DAY), Some(100 * DAY));
        assert_eq!(right.earliest_ms(&clock("a", 100, 0)), 100 * DAY);
        // 29 days ahead: the bucket's date and the time since the boot hold it.
        let ahead = ClockFloor::after(Some(&right), &clock("a", 129, 1000), Some(90 * DAY), Some(100 * DAY + 1000));
        assert_eq!(ahead.earliest_ms(&clock("a", 100, 2000)), 100 * DAY + 2000);
        // Without a bucket, at the first poll and after a boot: what is signed.
        let alone = ClockFloor::after(None, &clock("a", 129, 0), Some(90 * DAY), None);
        assert_eq!(alone.earliest_ms(&clock("b", 100, 0)), 89 * DAY);
        assert_eq!(ClockFloor::after(None, &clock("a", 129, 0), None, None).earliest_ms(&clock("a", 1, 5)), 5);
    }

    #[test]
    fn nothing_moves_it_back_and_a_date_in_the_future_moves_it_to_this_clock_at_most() {
        let floor = ClockFloor::after(None, &clock("a", 100, 0), Some(90 * DAY), Some(200 * DAY));
        assert_eq!(floor.earliest_ms(&clock("b", 100, 0)), 100 * DAY);
        let back = ClockFloor::after(Some(&floor), &clock("b", 50, 0), Some(40 * DAY), Some(50 * DAY));
        assert_eq!(back.earliest_ms(&clock("b", 50, 0)), 100 * DAY, "clock and date were set back together");
        // An hour of this boot is an hour, whatever the clock says.
        assert_eq!(back.earliest_ms(&clock("b", 0, DAY / 24)), 100 * DAY + DAY / 24);
    }

    #[test]
    fn the_file_is_read_again_and_a_damaged_one_is_none() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(ClockFloor::read(temp.path()), None);
        let floor = ClockFloor::after(None, &clock("a", 100, 7), Some(90 * DAY), None);
        floor.write(temp.path()).unwrap();
        assert_eq!(ClockFloor::read(temp.path()), Some(floor));
        std::fs::write(path(temp.path()), "{").unwrap();
        assert_eq!(ClockFloor::read(temp.path()), None);
    }
}
