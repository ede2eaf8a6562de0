//! Free-space check for output: actions must not use up the disk reserve that exit records are written into (see
//! `packs_schema::agent::execution::reserve`). Output is dropped and counted while the disk has less free space than the reserve.
//!
//! Checked with the first bytes, again after 64 KiB, and then for each MiB; while the disk is short of space, also every second, so
//! that the output of a quiet action is recorded again soon after space was freed.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::statvfs::fstatvfs;
use packs_schema::agent::execution::reserve;

/// Bytes of output between two checks.
const INTERVAL: u64 = 1 << 20;
/// Bytes of output between the first and the second check: the short output of most actions may use more of the reserve than a
/// long one.
const FIRST_INTERVAL: u64 = 64 << 10;
/// Time between two checks of a disk that is short of space.
const RETRY: Duration = Duration::from_secs(1);

/// State of the check.
#[derive(Default)]
pub(super) struct FreeSpaceCheck {
    checks: u64,
    /// Bytes that may be written, or dropped, before the next check.
    until_next: u64,
    /// Time of the check that found too little free space; absent while there is enough.
    short_since: Option<Instant>,
}

impl FreeSpaceCheck {
    /// Returns true if `bytes` more may be written. `place` is any descriptor on the file system.
    pub(super) fn allows(&mut self, place: impl AsFd, bytes: u64) -> bool {
        if self.until_next < bytes || self.short_since.is_some_and(|since| since.elapsed() >= RETRY) {
            let first = self.checks == 0;
            self.checks += 1;
            self.until_next = if first { FIRST_INTERVAL } else { INTERVAL };
            self.short_since = is_short(place, first).then(Instant::now);
        }
        self.until_next = self.until_next.saturating_sub(bytes);
        self.short_since.is_none()
    }
}

fn is_short(place: impl AsFd, first: bool) -> bool {
    // If the check fails, the write shows whether there is space.
    let Ok(stat) = fstatvfs(place) else { return false };
    let kept = if first {
        (reserve::ACCEPT_BYTES, reserve::ACCEPT_FILES)
    } else {
        (reserve::OUTPUT_BYTES, reserve::OUTPUT_FILES)
    };
    let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
    let bytes = (bytes(stat.blocks()), bytes(stat.blocks_available()));
    reserve::is_within(bytes, (stat.files(), stat.files_available()), kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_space_is_checked_for_each_mebibyte_and_not_for_each_frame() {
        let directory = tempfile::tempdir().unwrap();
        let place = std::fs::File::open(directory.path()).unwrap();
        let mut check = FreeSpaceCheck::default();
        for _ in 0..(10 << 20) / 4096 {
            check.allows(&place, 4096);
        }
        // The first check and one for each MiB. On a full disk, one more for each second that this test took.
        assert!(check.checks >= 11 && (check.short_since.is_some() || check.checks == 11), "{}", check.checks);
    }
}
