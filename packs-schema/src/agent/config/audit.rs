//! `[audit]`: bounds of the audit log, and its copy in the journal.

use std::path::PathBuf;

use serde::Deserialize;

use crate::base::quantity::Bytes;

/// `[audit]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// Size at which the next file of a chain is begun, in bytes.
    pub file_bytes: Bytes,
    /// Maximum number of files with changes; the oldest is removed.
    pub max_files: u32,
    /// Maximum number of files with refusals; the oldest is removed.
    pub max_refusal_files: u32,
    /// Socket of the journal that gets a copy of each entry.
    pub journal_socket: PathBuf,
}

impl AuditConfig {
    /// Minimum of `file_bytes`: several of the largest entries.
    pub const MIN_FILE_BYTES: u64 = 64 << 10;
    /// Maximum of `file_bytes`: the oldest file is removed as a whole.
    pub const MAX_FILE_BYTES: u64 = 1 << 30;
    /// Maximum of `max_files` and `max_refusal_files`.
    pub const MAX_FILES: usize = 10_000;
}

impl Default for AuditConfig {
    fn default() -> AuditConfig {
        AuditConfig {
            file_bytes: Bytes(8 << 20),
            max_files: 32,
            max_refusal_files: 4,
            journal_socket: "/run/systemd/journal/socket".into(),
        }
    }
}
