//! What api and sync say to each other about pushed packs, in files: the one may not write the store, the other takes
//! no requests.
//!
//! ```text
//! <packs>/.inbox/           owned by the api, read by the sync; made by the launcher, and only where pushes are allowed
//!     <id>.tar.gz           the archive
//!     <id>.json             PushRequest, written last
//! <packs>/.pushes/
//!     <id>.json             by the sync: PushOutcome
//! ```
//!
//! The sync trusts none of it: it holds the archive against the digest, and the request against its own reading of
//! `agent.toml` and `grants.toml`.

use serde::{Deserialize, Serialize};

use crate::agent::rest::{Code, Pushed};
use crate::base::finding::Finding;
use crate::base::name::{Digest, PackName, PackVersion, Principal, PushId};

/// The version of the records that this code writes.
pub const FORMAT: u32 = 1;
/// The directory of requests, in the store.
pub const INBOX: &str = ".inbox";
/// The directory of outcomes, in the store.
pub const OUTCOMES: &str = ".pushes";
/// The largest record of either, in bytes.
pub const MAX_RECORD: u64 = 1 << 20;
/// The most requests that lie in the inbox at once; the sync looks at no more.
pub const MAX_WAITING: usize = 16;

/// The name of a request's or an outcome's file.
pub fn record_file(id: &PushId) -> String {
    format!("{id}.json")
}

/// The name of a request's archive.
pub fn archive_file(id: &PushId) -> String {
    format!("{id}.tar.gz")
}

/// What somebody asked for, as the api heard it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushRequest {
    /// [`FORMAT`].
    pub format: u32,
    /// Which request.
    pub id: PushId,
    /// Who asked.
    pub by: Principal,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Of which pack.
    pub pack: PackName,
    /// What.
    #[serde(rename = "ask")]
    pub operation: PushOperation,
}

/// What is asked of a pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PushOperation {
    /// Put the archive beside the request in the place of what is active.
    Install {
        /// The version that the archive must be.
        version: PackVersion,
        /// SHA-256 of the archive.
        digest: Digest,
        /// Its length.
        size_bytes: u64,
        /// How long it stays, in milliseconds.
        ttl_ms: u64,
    },
    /// Take the pushed version back.
    Remove,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushOutcome {
    /// [`FORMAT`].
    pub format: u32,
    /// Which request.
    pub id: PushId,
    /// What.
    pub result: PushResult,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PushResult {
    /// The pushed version is the active one.
    Installed(Pushed),
    /// The pushed version is gone.
    Removed {
        /// The signed version that is active again.
        version: Option<PackVersion>,
    },
    /// Nothing has changed.
    Refused {
        /// The kind of problem.
        code: Code,
        /// What was wrong and what to do about it.
        message: String,
        /// What the check of the pack found.
        findings: Vec<Finding>,
    },
}
