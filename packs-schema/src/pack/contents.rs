//! Contents of a pack: checks its files, `pack.yaml` and actions together.
//!
//! ```text
//!  listing of files ─┐
//!  pack.yaml ────────┼─ read ──▶ CheckedPack, or findings with errors
//!  actions/*.yaml ───┘              └─ lint (authors only) ──▶ warnings
//! ```
//!
//! `bolt pack lint`, `bolt pack build` and the agent's sync all use [`read`], so that every pack that builds also
//! activates. Nothing here opens a file: callers pass a [`FileReader`]. YAML is read by
//! [`document::yaml`](crate::base::document), which the launcher does not need, so [`read`] is behind the feature
//! `yaml`.

mod check;
mod lint;
mod path;
#[cfg(feature = "yaml")]
mod read;
mod requirements;

use std::collections::BTreeMap;

pub use check::check;
pub use lint::lint;
pub use path::{MAX_PATH, PathError, check_path};
#[cfg(feature = "yaml")]
pub use read::{FileReader, config_schema, read};
pub use requirements::{MAX_REQUIREMENTS, Requirement, RequirementError, requirements, without_comments};

use crate::base::finding::Finding;
use crate::pack::action::{Action, ActionFile};
use crate::pack::param::{Parameters, Schema};
use crate::pack::{Pack, PackFile};

/// Description of the pack, in its top directory.
pub const PACK_FILE: &str = "pack.yaml";
/// Schema of the site configuration, in the top directory.
pub const CONFIG_SCHEMA_FILE: &str = "config.schema.yaml";
/// Python dependencies, in the top directory.
pub const REQUIREMENTS_FILE: &str = "requirements.txt";
/// Directory of actions and their entry points.
pub const ACTIONS_DIRECTORY: &str = "actions";
/// Maximum size of a YAML file, in bytes.
pub const MAX_YAML: u64 = 256 << 10;
/// Maximum number of actions in a pack.
pub const MAX_ACTIONS: usize = 1000;

/// Maximum number of files and directories in a pack.
pub const MAX_FILES: usize = 10_000;
/// Maximum size of an unpacked pack, in bytes.
pub const MAX_UNPACKED: u64 = 512 << 20;
/// Maximum ratio of unpacked to archived size …
pub const MAX_RATIO: u64 = 200;
/// … above this number of bytes, so that a small archive of zeros is accepted.
pub const RATIO_FLOOR: u64 = 1 << 20;

/// Returns the maximum unpacked size of an archive of `archived` bytes.
pub fn unpacked_limit(archived: u64) -> u64 {
    archived.saturating_mul(MAX_RATIO).clamp(RATIO_FLOOR, MAX_UNPACKED)
}

/// Kind of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else: a symbolic link, a device, a socket.
    Other,
}

/// File or directory of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackEntry {
    /// Path within the pack, with `/`.
    pub path: String,
    /// Kind.
    pub kind: EntryKind,
    /// Size in bytes.
    pub size: u64,
    /// True if its owner may execute it.
    pub executable: bool,
    /// First bytes, at least two if the file has them: enough to detect a shebang.
    pub head: Vec<u8>,
}

/// Number of bytes that [`PackEntry::head`] should hold.
pub const HEAD_BYTES: usize = 128;

/// Parsed files of a pack, before they are checked together.
#[derive(Debug, Clone)]
pub struct Contents {
    /// `pack.yaml`.
    pub pack: PackFile,
    /// Action files by path: `actions/disk_usage.yaml`.
    pub actions: BTreeMap<String, ActionFile>,
    /// `config.schema.yaml`.
    pub config: BTreeMap<String, Schema>,
    /// `requirements.txt`.
    pub requirements: Vec<Requirement>,
}

/// Pack without errors.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedPack {
    /// Description.
    pub pack: Pack,
    /// Actions, sorted by name.
    pub actions: Vec<Action>,
    /// Schema of the site configuration; empty if the pack has none.
    pub config: Parameters,
    /// Python requirements; empty if the pack needs no virtual environment.
    pub requirements: Vec<Requirement>,
}

/// Result of a check: the pack if no finding is an error, and all findings.
pub type CheckOutcome = (Option<CheckedPack>, Vec<Finding>);

#[cfg(all(test, feature = "yaml"))]
mod tests;
