//! `bolt repo prune`: removes versions and files that are no longer needed.
//!
//! ```text
//!  1. Choose and sign   old versions leave the signed metadata, old parts of the journal too; a line of the journal says so
//!  2. Sweep             metadata that were superseded a while ago, and files that no metadata names, are removed
//! ```
//!
//! A version stays while a channel holds it, while a rollback could need it, while it is one of the newest of its pack, while
//! it is young, and while an instance runs it, when instances were asked. Files are removed last, and only a grace period after the
//! last change of the repository, or after the metadata that named them were superseded twice, so that an agent in the middle of
//! a poll still finds everything that its timestamp leads to. A sweep that is stopped leaves files that the next one removes. Roots are never removed.
//!
//! The grace period is 24 hours by default. A file that does not look like a publisher's is left alone.

mod choose;
mod sweep;

use std::collections::BTreeSet;
use std::time::Duration;

use packs_schema::base::name::{PackName, PackVersion};
use serde::Serialize;

use super::access::Access;
use super::change::change;
use super::keys::KeyRing;
use super::state::State;
use super::storage::Storage;
use super::{RepoError, now_ms};

/// Policy of [`prune`].
#[derive(Debug, Clone)]
pub struct Policy {
    /// Number of newest versions of each pack to keep, and of versions that a channel can be rolled back to.
    pub keep_versions: usize,
    /// Age up to which versions stay, since they were published or held by a channel.
    pub older_than: Duration,
    /// Parts of the journal whose lines are all older than this are removed; `None` keeps all of it.
    pub journal_older_than: Option<Duration>,
    /// Grace period: time for which files stay after no metadata names them.
    pub grace: Duration,
    /// Versions that instances run, which stay.
    pub running: BTreeSet<(PackName, PackVersion)>,
    /// Dry run: only report what would be removed.
    pub dry_run: bool,
}

impl Default for Policy {
    fn default() -> Policy {
        let days = |n: u64| Duration::from_secs(n * 86_400);
        Policy {
            keep_versions: 5,
            older_than: days(90),
            journal_older_than: None,
            grace: days(1),
            running: BTreeSet::new(),
            dry_run: false,
        }
    }
}

/// Result of [`prune`]: removed, or what would be removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// True for a dry run, which changes nothing.
    pub dry_run: bool,
    /// Versions that are no longer published.
    pub versions: Vec<PrunedVersion>,
    /// Versions that stay although they are older than the policy keeps.
    pub kept: Vec<KeptVersion>,
    /// Parts of the journal.
    pub journal: Vec<String>,
    /// Roles whose keys are not here: none of their versions was chosen.
    pub unsigned: Vec<String>,
    /// Files that were removed.
    pub files: Vec<String>,
    /// Bytes of those files.
    pub bytes: u64,
    /// Number of files that the newest state does not need, and that stay until the grace period is over.
    pub waiting: usize,
    /// Time from which on these files can be removed, in milliseconds since 1970; each change before then makes it later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prunable_at_ms: Option<u64>,
}

/// Version that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrunedVersion {
    /// The pack.
    pub pack: PackName,
    /// The version.
    pub version: PackVersion,
    /// Bytes of its archive.
    pub size_bytes: u64,
}

/// Version that stays although it is old.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptVersion {
    /// The pack.
    pub pack: PackName,
    /// The version.
    pub version: PackVersion,
    /// Reason for keeping it.
    pub reason: Reason,
}

/// Reason for keeping a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// A channel holds it.
    Held,
    /// A channel may be rolled back to it.
    Rollback,
    /// An instance runs it.
    Running,
}

/// Removes what `policy` allows, and nothing that a channel, a rollback or an agent may need.
pub fn prune(access: &Access, policy: &Policy) -> Result<Pruned, RepoError> {
    let now = now_ms();
    let storage = Storage::at(&access.repository)?;
    let edit = async |state: &mut State, ring: &mut KeyRing| choose::choose(state, ring, policy, now).await;
    let (chosen, _) = change(access, edit)?;
    let look = async |state: &mut State, _: &mut KeyRing| sweep::sweep(state, &storage, policy, now);
    let (swept, _) = change(access, look)?;
    let pruned = Pruned {
        dry_run: policy.dry_run,
        files: swept.files.into_iter().collect(),
        bytes: swept.bytes,
        waiting: swept.waiting,
        prunable_at_ms: swept.prunable_at_ms,
        ..chosen
    };
    if policy.dry_run || pruned.files.is_empty() {
        return Ok(pruned);
    }
    // In a bucket another publisher may have begun to use what was just removed.
    let check = async |state: &mut State, _: &mut KeyRing| Ok(sweep::needed(state));
    let (needed, _) = change(access, check)?;
    match pruned.files.iter().find(|file| needed.contains(*file)) {
        Some(file) => Err(RepoError::PrunedInUse(file.clone())),
        None => Ok(pruned),
    }
}
