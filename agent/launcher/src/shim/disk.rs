//! Whether the disk takes more output. What runs must not eat the space that ends are written into (see
//! `packs_schema::agent::execution::reserve`): output is dropped, and counted, while there is no more free than that.
//!
//! Looked at with the first bytes, once more soon after, and then once for each MiB; while it is short of space, also when
//! a second has passed, so that a quiet action is heard again soon after room was made.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::statvfs::fstatvfs;
use packs_schema::agent::execution::reserve;

/// Written between two looks.
const STEP: u64 = 1 << 20;
/// Written after the first look: the little that most actions say may go further into the reserve than a flood.
const FIRST: u64 = 64 << 10;
/// Between two looks at a disk that is short of space.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Disk {
    looks: u64,
    /// How much may be written, or dropped, before the next look.
    left: u64,
    /// When the disk was found short of space; absent while it is not.
    short: Option<Instant>,
}

impl Disk {
    /// True if `bytes` more may be written. `place` is any descriptor on the disk.
    pub(super) fn takes(&mut self, place: impl AsFd, bytes: u64) -> bool {
        if self.left < bytes || self.short.is_some_and(|since| since.elapsed() >= AGAIN) {
            let first = self.looks == 0;
            self.looks += 1;
            self.left = if first { FIRST } else { STEP };
            self.short = is_short(place, first).then(Instant::now);
        }
        self.left = self.left.saturating_sub(bytes);
        self.short.is_none()
    }
}

fn is_short(place: impl AsFd, first: bool) -> bool {
    // What cannot be asked is found out by writing.
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
    fn it_is_looked_at_for_each_mebibyte_and_not_for_each_frame() {
        let directory = tempfile::tempdir().unwrap();
        let place = std::fs::File::open(directory.path()).unwrap();
        let mut disk = Disk::default();
        for _ in 0..(10 << 20) / 4096 {
            disk.takes(&place, 4096);
        }
        // The first, and one for each MiB of what followed. One more for each second that this test took on a full disk.
        assert!(disk.looks >= 11 && (disk.short.is_some() || disk.looks == 11), "{}", disk.looks);
    }
}
