//! Disk budget of the history: bytes and files in the state directory, and never more than a share of its file system.

use std::fmt;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use packs_schema::base::quantity::format_bytes;

/// Share of the file system that the history may use: one part in this many.
const SHARE: u64 = 10;
/// Bytes that the history may use even on a file system of which they are more than its share.
const MIN_BYTES: u64 = 8 << 20;
/// Files that the history may use even on a file system of which they are more than its share.
const MIN_FILES: u64 = 1_000;
/// Percentage of the budget to reduce the use to, once the budget is exceeded.
const TARGET_PERCENT: u64 = 95;

/// Disk budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Maximum bytes of outputs and database.
    pub max_bytes: u64,
    /// Maximum number of files and directories (inodes).
    pub max_files: u64,
}

/// Disk use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::exec) struct Used {
    pub(in crate::exec) bytes: u64,
    pub(in crate::exec) files: u64,
}

/// Tells of which there is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Excess {
    pub(super) bytes: bool,
    pub(super) files: bool,
}

impl Excess {
    pub(super) fn any(self) -> bool {
        self.bytes || self.files
    }
}

impl Budget {
    /// Returns the budget, limited to the share of the file system of `path`.
    pub(super) fn on(self, path: &Path) -> Budget {
        let Ok(stat) = statvfs(path) else { return self };
        let bytes = stat.blocks().saturating_mul(stat.fragment_size()) / SHARE;
        // Some file systems have no fixed number of inodes and report 0.
        let files = if stat.files() == 0 { u64::MAX } else { stat.files() / SHARE };
        Budget {
            max_bytes: self.max_bytes.min(bytes.max(MIN_BYTES)),
            max_files: self.max_files.min(files.max(MIN_FILES)),
        }
    }

    pub(super) fn is_exceeded(&self, used: &Used) -> bool {
        used.bytes > self.max_bytes || used.files > self.max_files
    }

    /// Tells what is still to be reduced, once the budget was exceeded.
    pub(super) fn excess(&self, used: &Used) -> Excess {
        let target = |max: u64| (u128::from(max) * u128::from(TARGET_PERCENT) / 100) as u64;
        Excess { bytes: used.bytes > target(self.max_bytes), files: used.files > target(self.max_files) }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {} files", format_bytes(self.max_bytes), self.max_files)
    }
}

impl fmt::Display for Used {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} and {} files", format_bytes(self.bytes), self.files)
    }
}
