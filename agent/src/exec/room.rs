//! Room on the disk for the ends of what runs: a file of [`RESERVE`] bytes that is given up when an end meets a full disk.
//!
//! ```text
//!  held ──an end does not fit──▶ given up ──there is room──▶ held
//!    └── accepts                    └── 507, health `disk_full`
//! ```
//!
//! Nothing new is accepted without it. It comes back by itself: tried before each acceptance, and every few seconds.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::fcntl::{OFlag, posix_fallocate};

use super::{Exec, directory};

/// What is held for ends: some hundred of them with the largest result.
const RESERVE: i64 = 4 << 20;
/// Its name in the state directory.
const NAME: &str = "reserve";
/// How often a full disk is looked at.
const EVERY: Duration = Duration::from_secs(5);
/// The code of health.
pub(super) const DISK_FULL: &str = "disk_full";
/// What it says.
pub(super) const FULL: &str = "the disk of the state directory is full, or nearly so: nothing new is accepted; make room, \
                               the agent goes on by itself";

/// The reserve.
#[derive(Debug)]
pub(super) struct Room {
    path: PathBuf,
    held: AtomicBool,
    mending: AtomicBool,
}

impl Room {
    /// That of this state directory; not yet held.
    pub(super) fn new(state: &Path) -> Room {
        Room { path: state.join(NAME), held: AtomicBool::new(false), mending: AtomicBool::new(false) }
    }

    /// True if it is held, or can be.
    fn hold(&self) -> bool {
        if self.held.load(Ordering::Relaxed) {
            return true;
        }
        let made = self.make();
        if let Err(error) = &made {
            tracing::debug!(%error, "no reserve can be made");
            // A part of it is of no use, and in the way.
            let _ = std::fs::remove_file(&self.path);
        }
        self.held.store(made.is_ok(), Ordering::Relaxed);
        made.is_ok()
    }

    fn make(&self) -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
        let file: File = options.open(&self.path)?;
        let blocks = u64::try_from(RESERVE / 512).unwrap_or(u64::MAX);
        if file.metadata()?.blocks() < blocks {
            posix_fallocate(&file, 0, RESERVE)?;
        }
        Ok(())
    }

    /// Gives its room to whoever writes next; false when there was none.
    pub(super) fn give_up(&self) -> bool {
        self.held.swap(false, Ordering::Relaxed) && std::fs::remove_file(&self.path).is_ok()
    }
}

impl Exec {
    /// True if there is room for another execution, and for the ends of all.
    pub(super) fn has_room(self: &Arc<Self>) -> bool {
        // Short first: to make a reserve of the last bytes would take them from what runs.
        let has = !directory::is_short(&self.settings.executions) && self.room.hold();
        if !has {
            self.mend(DISK_FULL, FULL.to_owned());
        }
        has
    }

    /// Says what is wrong with the disk, until it is well again.
    pub(super) fn mend(self: &Arc<Self>, code: &'static str, message: String) {
        self.health.set(code, message);
        if self.room.mending.swap(true, Ordering::Relaxed) {
            return;
        }
        let exec = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(EVERY).await;
                let Some(exec) = exec.upgrade() else { return };
                if !directory::is_short(&exec.settings.executions) && exec.room.hold() {
                    exec.room.mending.store(false, Ordering::Relaxed);
                    exec.health.clear(DISK_FULL);
                    exec.health.clear(DISK_FAILED);
                    return tracing::info!("there is room on the disk again: executions are accepted");
                }
            }
        });
    }
}

/// The code of health when the disk does not do what it is told.
pub(super) const DISK_FAILED: &str = "disk_failed";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_takes_real_room_and_gives_it_up_once() {
        let dir = tempfile::tempdir().unwrap();
        let room = Room::new(dir.path());
        let path = dir.path().join(NAME);
        assert!(!room.give_up(), "not held yet");
        assert!(room.hold() && room.hold());
        let blocks = std::fs::metadata(&path).unwrap().blocks();
        assert!(blocks * 512 >= RESERVE as u64, "allocated, not only long: {blocks} blocks");
        assert!(Room::new(dir.path()).hold(), "one of before is taken over");
        assert!(room.give_up());
        assert!(!path.exists() && !room.give_up());
        assert!(room.hold() && path.exists());
    }

    #[test]
    fn a_reserve_that_cannot_be_made_is_not_held() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/null", dir.path().join(NAME)).unwrap();
        let room = Room::new(dir.path());
        assert!(!room.hold(), "a link is not followed");
        assert!(!Room::new(&dir.path().join("missing")).hold());
    }
}
