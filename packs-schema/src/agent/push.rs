//! Files through which api and sync exchange pushed packs: the api cannot write to the store, and the sync serves no
//! requests.
//!
//! ```text
//! <packs>/.inbox/           owned by the api, read by the sync; created by the launcher if pushes are allowed
//!     <id>.tar.gz           the pack archive
//!     <id>.json             PushRequest, written last
//! <packs>/.pushes/
//!     <id>.json             by the sync: PushOutcome
//! ```
//!
//! The sync does not trust these files: it checks the archive against the digest, and the request against its own
//! reading of `agent.toml` and `grants.toml`.

use serde::{Deserialize, Serialize};

use crate::agent::rest::{Code, Pushed};
use crate::base::finding::Finding;
use crate::base::name::{Digest, PackName, PackVersion, Principal, PushId};

/// Format of the records that this code writes.
pub const FORMAT: u32 = 1;
/// Directory of requests, in the store.
pub const INBOX: &str = ".inbox";
/// Directory of outcomes, in the store.
pub const OUTCOMES: &str = ".pushes";
/// Maximum size of a request or outcome, in bytes.
pub const MAX_RECORD: u64 = 1 << 20;
/// Maximum number of requests in the inbox; the sync ignores more.
pub const MAX_WAITING: usize = 16;

/// Returns the name of the file of a request or outcome.
pub fn record_file(id: &PushId) -> String {
    format!("{id}.json")
}

/// Returns the name of the archive of a request.
pub fn archive_file(id: &PushId) -> String {
    format!("{id}.tar.gz")
}

/// Request of a caller, as the api received it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushRequest {
    /// [`FORMAT`].
    pub format: u32,
    /// Push id.
    pub id: PushId,
    /// Principal of the caller.
    pub by: Principal,
    /// Time, in milliseconds since 1970.
    pub at_ms: u64,
    /// Pack.
    pub pack: PackName,
    /// Operation.
    #[serde(rename = "ask")]
    pub operation: PushOperation,
}

/// Operation on a pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PushOperation {
    /// Activate the archive beside the request.
    Install {
        /// Version that the archive must have.
        version: PackVersion,
        /// Digest of the archive.
        digest: Digest,
        /// Size in bytes.
        size_bytes: u64,
        /// Time to live, in milliseconds.
        ttl_ms: u64,
    },
    /// Remove the pushed version.
    Remove,
}

/// Outcome of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushOutcome {
    /// [`FORMAT`].
    pub format: u32,
    /// Push id.
    pub id: PushId,
    /// Result.
    pub result: PushResult,
}

/// Result of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PushResult {
    /// The pushed version is active.
    Installed(Pushed),
    /// The pushed version was removed.
    Removed {
        /// Signed version that is active again.
        version: Option<PackVersion>,
    },
    /// Refused: nothing changed.
    Refused {
        /// Kind of problem.
        code: Code,
        /// Problem and remedy.
        message: String,
        /// Findings of the check of the pack.
        findings: Vec<Finding>,
    },
}
