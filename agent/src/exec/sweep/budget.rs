//! How much room the history may take: bytes and files of the state directory, and never more than a share of its disk.

use std::fmt;
use std::path::Path;

use nix::sys::statvfs::statvfs;
use packs_schema::base::quantity::format_bytes;

/// Of the file system that the state directory is on, the history takes at most one part in so many.
const SHARE: u64 = 10;
/// Below this a share of the file system is no bound.
const LEAST_BYTES: u64 = 8 << 20;
/// The same in files.
const LEAST_FILES: u64 = 1_000;
/// When the budget is passed, room is made until so much of it is used, in per cent.
const DOWN_TO: u64 = 95;

/// What may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of outputs and database.
    pub max_bytes: u64,
    /// Files and directories (inodes).
    pub max_files: u64,
}

/// What is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::exec) struct Used {
    pub(in crate::exec) bytes: u64,
    pub(in crate::exec) files: u64,
}

/// Of what there is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Over {
    pub(super) bytes: bool,
    pub(super) files: bool,
}

impl Over {
    pub(super) fn any(self) -> bool {
        self.bytes || self.files
    }
}

impl Budget {
    /// The budget on the file system of `path`.
    pub(super) fn on(self, path: &Path) -> Budget {
        let Ok(stat) = statvfs(path) else { return self };
        let bytes = stat.blocks().saturating_mul(stat.fragment_size()) / SHARE;
        // Some file systems make files as needed, and count none.
        let files = if stat.files() == 0 { u64::MAX } else { stat.files() / SHARE };
        Budget {
            max_bytes: self.max_bytes.min(bytes.max(LEAST_BYTES)),
            max_files: self.max_files.min(files.max(LEAST_FILES)),
        }
    }

    pub(super) fn is_passed(&self, used: &Used) -> bool {
        used.bytes > self.max_bytes || used.files > self.max_files
    }

    /// What there is too much of, once the budget was passed.
    pub(super) fn over(&self, used: &Used) -> Over {
        let down = |max: u64| (u128::from(max) * u128::from(DOWN_TO) / 100) as u64;
        Over { bytes: used.bytes > down(self.max_bytes), files: used.files > down(self.max_files) }
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
