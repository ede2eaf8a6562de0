//! Preallocated disk space for the ends of running executions: a file of [`RESERVE_BYTES`], released when writing an end meets a
//! full disk.
//!
//! ```text
//!  allocated ──an end does not fit──▶ released ──the disk has space──▶ allocated
//!    └── accepts                         └── 507, health `disk_full`
//! ```
//!
//! Nothing new is accepted without the reserve. It is allocated again by itself: before each acceptance, and every few seconds.
//!
//! Three more measures keep space for ends: the launcher preallocates an exit record (`exit.new`) before an action exists, shims
//! drop and count output while the disk has less than a threshold free, and below a smaller threshold the api accepts nothing
//! new. `packs-schema/src/agent/execution/reserve.rs` has their sizes.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::fcntl::{OFlag, posix_fallocate};

use super::{Exec, directory};

/// Size of the reserve: some hundred ends with the largest result.
const RESERVE_BYTES: i64 = 4 << 20;
/// File name in the state directory.
const NAME: &str = "reserve";
/// Interval of checks while the disk is full.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Health code: the disk is full, or nearly so.
pub(super) const DISK_FULL: &str = "disk_full";
/// Message of [`DISK_FULL`].
pub(super) const DISK_FULL_MESSAGE: &str = "the disk of the state directory is full, or nearly so: nothing new is accepted; \
                                            free some space, the agent resumes by itself";
/// Health code: the disk returns I/O errors.
pub(super) const DISK_FAILED: &str = "disk_failed";

/// Disk reserve of a state directory.
#[derive(Debug)]
pub(super) struct DiskReserve {
    path: PathBuf,
    /// True while the file has its blocks.
    allocated: AtomicBool,
    /// True while a task checks the disk and will allocate the reserve again.
    recovering: AtomicBool,
}

impl DiskReserve {
    /// Creates the handle; allocates nothing yet.
    pub(super) fn new(state: &Path) -> DiskReserve {
        DiskReserve { path: state.join(NAME), allocated: AtomicBool::new(false), recovering: AtomicBool::new(false) }
    }

    /// Allocates the reserve unless it is allocated; false if that is not possible.
    fn ensure(&self) -> bool {
        if self.allocated.load(Ordering::Relaxed) {
            return true;
        }
        let made = self.allocate();
        if let Err(error) = &made {
            tracing::debug!(%error, "cannot allocate the disk reserve");
            // A part of it is of no use, and takes space.
            let _ = std::fs::remove_file(&self.path);
        }
        self.allocated.store(made.is_ok(), Ordering::Relaxed);
        made.is_ok()
    }

    fn allocate(&self) -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
        let file: File = options.open(&self.path)?;
        let blocks = u64::try_from(RESERVE_BYTES / 512).unwrap_or(u64::MAX);
        if file.metadata()?.blocks() < blocks {
            posix_fallocate(&file, 0, RESERVE_BYTES)?;
        }
        Ok(())
    }

    /// Frees the reserved space; false if none was allocated.
    pub(super) fn release(&self) -> bool {
        self.allocated.swap(false, Ordering::Relaxed) && std::fs::remove_file(&self.path).is_ok()
    }
}

impl Exec {
    /// True if the disk has space for another execution and for the ends of all running ones.
    pub(super) fn has_disk_space(self: &Arc<Self>) -> bool {
        // Free space first: allocating the reserve from the last bytes would take them from running executions.
        let has = !directory::is_low_on_space(&self.settings.executions) && self.disk_reserve.ensure();
        if !has {
            self.report_disk_problem(DISK_FULL, DISK_FULL_MESSAGE.to_owned());
        }
        has
    }

    /// Reports a disk problem in health, until the disk has space again.
    pub(super) fn report_disk_problem(self: &Arc<Self>, code: &'static str, message: String) {
        self.health.set(code, message);
        if self.disk_reserve.recovering.swap(true, Ordering::Relaxed) {
            return;
        }
        let exec = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(CHECK_INTERVAL).await;
                let Some(exec) = exec.upgrade() else { return };
                if !directory::is_low_on_space(&exec.settings.executions) && exec.disk_reserve.ensure() {
                    exec.disk_reserve.recovering.store(false, Ordering::Relaxed);
                    exec.health.clear(DISK_FULL);
                    exec.health.clear(DISK_FAILED);
                    return tracing::info!("the disk has space again: executions are accepted");
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_allocates_blocks_and_is_released_once() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = DiskReserve::new(dir.path());
        let path = dir.path().join(NAME);
        assert!(!reserve.release(), "not allocated yet");
        assert!(reserve.ensure() && reserve.ensure());
        let blocks = std::fs::metadata(&path).unwrap().blocks();
        assert!(blocks * 512 >= RESERVE_BYTES as u64, "allocated, not sparse: {blocks} blocks");
        assert!(DiskReserve::new(dir.path()).ensure(), "a file from an earlier run is used");
        assert!(reserve.release());
        assert!(!path.exists() && !reserve.release());
        assert!(reserve.ensure() && path.exists());
    }

    #[test]
    fn a_reserve_that_cannot_be_allocated_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/null", dir.path().join(NAME)).unwrap();
        let reserve = DiskReserve::new(dir.path());
        assert!(!reserve.ensure(), "a link is not followed");
        assert!(!DiskReserve::new(&dir.path().join("missing")).ensure());
    }
}
