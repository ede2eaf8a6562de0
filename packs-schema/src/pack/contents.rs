//! The contents of a pack as a whole: its files, its `pack.yaml` and its actions held against each other.
//!
//! ```text
//!  listing of files ─┐
//!  pack.yaml ────────┼─ read ──▶ CheckedPack, or the findings that stop it
//!  actions/*.yaml ───┘              └─ lint (authors only) ──▶ warnings
//! ```
//!
//! `bolt pack lint`, `bolt pack build` and the agent's sync all go through [`read`], so that what builds also
//! activates. Nothing here opens a file: the caller hands in a [`FileReader`]. YAML is read by
//! [`document::yaml`](crate::base::document), which the launcher does not need, so [`read`] is behind the feature `yaml`.

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
pub use requirements::{MAX_REQUIREMENTS, Requirement, RequirementError, requirements};

use crate::base::finding::Finding;
use crate::pack::action::{Action, ActionFile};
use crate::pack::param::{Parameters, Schema};
use crate::pack::{Pack, PackFile};

/// The pack's description, in its top directory.
pub const PACK_FILE: &str = "pack.yaml";
/// The types of the per-site configuration, in the top directory.
pub const CONFIG_SCHEMA_FILE: &str = "config.schema.yaml";
/// Python dependencies, in the top directory.
pub const REQUIREMENTS_FILE: &str = "requirements.txt";
/// The directory of actions and their entry points.
pub const ACTIONS_DIRECTORY: &str = "actions";
/// The largest YAML file that is read, in bytes.
pub const MAX_YAML: u64 = 256 << 10;
/// The most actions of a pack.
pub const MAX_ACTIONS: usize = 1000;

/// The most files and directories of a pack.
pub const MAX_FILES: usize = 10_000;
/// The most that a pack's archive may unpack to, in bytes.
pub const MAX_UNPACKED: u64 = 512 << 20;
/// The most bytes that one byte of an archive may unpack to …
pub const MAX_RATIO: u64 = 200;
/// … beyond these, so that a small archive of empty space is no bomb.
pub const RATIO_FLOOR: u64 = 1 << 20;

/// What an archive of `archived` bytes may unpack to.
pub fn unpacked_limit(archived: u64) -> u64 {
    archived.saturating_mul(MAX_RATIO).clamp(RATIO_FLOOR, MAX_UNPACKED)
}

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else: a link, a device, a socket.
    Other,
}

/// One file of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackEntry {
    /// Path within the pack, with `/`.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Its length in bytes.
    pub size: u64,
    /// Its owner's run bit.
    pub executable: bool,
    /// Its first bytes, at least two when it has them: enough to see a shebang.
    pub head: Vec<u8>,
}

/// How many first bytes [`PackEntry::head`] should hold.
pub const HEAD_BYTES: usize = 128;

/// A pack's files as parsed, before they are held against each other.
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

/// A pack in which nothing is wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedPack {
    /// Its description.
    pub pack: Pack,
    /// Its actions, by name.
    pub actions: Vec<Action>,
    /// The types of its per-site configuration; empty when it has none.
    pub config: Parameters,
    /// What it needs of Python; empty when it needs no virtual environment.
    pub requirements: Vec<Requirement>,
}

/// What a check came to: a pack when no finding is an error, and all findings.
pub type CheckOutcome = (Option<CheckedPack>, Vec<Finding>);

#[cfg(all(test, feature = "yaml"))]
mod tests;
