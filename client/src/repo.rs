//! Publishing: a TUF repository in a directory or a bucket, its keys and its channels.
//!
//! ```text
//!  init       keys ──▶ a pinned root beside them, which agents are given out of band, and empty signed metadata
//!  trust      a publisher that did not make the repository pins its root
//!  publish    pack ──build──▶ targets/…tar.gz, targets/channels/… ──sign──▶ targets, snapshot, timestamp (last)
//!  channels   promote, widen, pause, resume, roll back: what a channel holds, and a line of the journal
//!  team       a role of its own for a team's packs
//!  unpublish  a version taken out of the signed metadata; prune: old versions and unneeded files removed
//!  refresh    signatures renewed; rotate: the next root
//!  status     its versions, channels and the expiry of its roles; fetch: verified archives
//! ```
//!
//! A reader that comes at any moment sees the old state or the new one: what the timestamp names was there before the
//! timestamp was. The functions block; call them from outside an asynchronous runtime or inside one.

mod access;
mod archives;
mod change;
mod change_reason;
mod channels;
mod content;
mod error;
mod fetch;
mod init;
mod journal;
mod key_files;
mod key_passphrase;
mod keys;
#[cfg(feature = "kms")]
mod kms;
mod origin;
mod owner;
mod passphrase;
mod prune;
mod publish;
mod refresh;
mod rotate;
mod sign;
mod state;
mod status;
mod storage;
mod team;
mod trust;
mod unpublish;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use access::Access;
pub use change_reason::{ChangeReason, ChangeReasonError};
pub use channels::{Changed, Promotion, pause, promote, rollback, widen, withdraw};
pub use error::{KeyError, PinError, ReleaseError, RepoError, TeamError};
pub use fetch::{Fetched, Wanted, fetch};
pub use init::{InitOptions, Initialized, init};
pub use journal::{Change, Entry};
pub use key_passphrase::key_passphrase;
#[cfg(feature = "kms")]
pub use kms::kms_key;
pub use origin::{By, Source};
pub use passphrase::{Passphrase, Unlock, VARIABLE};
pub use prune::{KeptVersion, Policy, Pruned, PrunedVersion, Reason, prune};
pub use publish::{PublishOptions, Published, publish, publish_archive};
pub use refresh::{Ending, Refreshed, refresh};
pub use rotate::{Rotated, Rotation, rotate_root};
pub use status::{ChannelStatus, RoleStatus, Status, VersionStatus, log, status};
pub use team::{Delegated, TeamKeys, delegate, team_key, undelegate};
pub use tough::schema::RoleType;
pub use trust::{TrustOptions, Trusted, View, trust};
pub use unpublish::{Unpublished, unpublish};

/// The version of TUF's specification that metadata name.
const SPEC_VERSION: &str = "1.0.0";

/// Lifetimes of signatures. Each publication renews all but the root's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// Lifetime of the root, which lists the trusted keys.
    pub root: Duration,
    /// Lifetime of the targets, which list packs and channels.
    pub targets: Duration,
    /// Lifetime of the snapshot, which lists the metadata that belong together.
    pub snapshot: Duration,
    /// Lifetime of the timestamp, which says that this is the newest state.
    pub timestamp: Duration,
}

impl Default for Expiry {
    fn default() -> Expiry {
        let days = |n: u64| Duration::from_secs(n * 86_400);
        Expiry { root: days(365), targets: days(365), snapshot: days(30), timestamp: days(30) }
    }
}

/// Runs `work` on a thread and runtime of its own, so that callers may be asynchronous themselves.
fn block_on<T: Send>(work: impl AsyncFnOnce() -> Result<T, RepoError> + Send) -> Result<T, RepoError> {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RepoError::Runtime)?;
            runtime.block_on(work())
        });
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Returns the time in milliseconds since 1970.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(crate) mod tests;
