//! What the last whole verification came to, so that a poll with nothing new reads one small file and writes none.
//!
//! While the timestamp is byte for byte the one that was verified, everything below it is the same too: it names the
//! snapshot by version, the snapshot the targets, the targets every archive by hash. What else a decision rests on
//! (the configuration, the trusted root, the agent's version, what is active) is held against this record as well,
//! and where anything differs, or the time of the signatures or of this clock is doubtful, the poll goes the whole way.
//!
//! The record saves work and grants nothing: without it, or with a damaged one, everything is verified anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bolt_aws::Etag;
use packs_schema::agent::config::Config;
use packs_schema::base::name::PackName;
use packs_schema::delivery::facts::Facts;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tough::Repository;

use super::source::{Source, Timestamp};
use super::store::Store;
use super::{SyncError, disk, lookup};

/// The version of the file that this code writes.
const FORMAT: u32 = 1;
/// The largest file of ours, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// The largest root, in bytes.
const MAX_ROOT: u64 = 1 << 20;

/// The file `seen.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Seen {
    format: u32,
    /// SHA-256 of the timestamp.
    timestamp: String,
    /// What the bucket calls that timestamp; it saves a transfer and grants nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    /// SHA-256 of what else decides.
    inputs: String,
    /// The version of the root.
    root: u64,
    /// This clock, when everything was verified.
    verified_at_ms: u64,
    /// When the first of the signatures ends.
    expires_at_ms: u64,
    /// What was active then: the packs and the directories of their versions.
    active: BTreeMap<PackName, PathBuf>,
}

impl Seen {
    /// Reads the file; `None` when it is not there or of no use.
    pub(super) fn read(tuf: &Path) -> Option<Seen> {
        let bytes = disk::read_if_there(&path(tuf), MAX_FILE).ok().flatten()?;
        serde_json::from_slice(&bytes).ok().filter(|seen: &Seen| seen.format == FORMAT)
    }

    /// What is to be remembered of a poll that went the whole way. `timestamp` is what lay in the repository before it was
    /// loaded, and its `ETag`.
    pub(super) fn of(
        repository: &Repository,
        (timestamp, etag): (String, Option<String>),
        inputs: String,
        store: &Store,
        now_ms: u64,
    ) -> Seen {
        let expires = [
            repository.root().signed.expires,
            repository.targets().signed.expires,
            repository.snapshot().signed.expires,
            repository.timestamp().signed.expires,
        ];
        let teams =
            lookup::roles(&repository.targets().signed).filter_map(|role| Some(role.targets.as_ref()?.signed.expires));
        // What has expired already changes nothing more; it was said by the poll that saw it.
        let teams = teams.map(|at| at.as_millisecond()).filter(|at| u64::try_from(*at).is_ok_and(|at| at > now_ms));
        let first = expires.iter().map(|at| at.as_millisecond()).chain(teams).min().unwrap_or_default();
        Seen {
            format: FORMAT,
            timestamp,
            etag,
            inputs,
            root: repository.root().signed.version.get(),
            verified_at_ms: now_ms,
            expires_at_ms: u64::try_from(first).unwrap_or_default(),
            active: active(store),
        }
    }

    /// Writes the file and has it on the disk.
    pub(super) fn write(&self, tuf: &Path) -> Result<(), SyncError> {
        let bytes = serde_json::to_vec(self).expect("a record serialises");
        disk::replace(&path(tuf), &bytes, 0o600).map_err(SyncError::file("write", path(tuf)))
    }

    /// True if a configuration or an agent other than `inputs` made the decisions.
    pub(super) fn decided_otherwise(&self, inputs: &str) -> bool {
        self.inputs != inputs
    }

    /// What to ask a bucket about: whether the timestamp is still in this state.
    pub(super) fn etag(&self) -> Option<Etag> {
        self.etag.as_deref().and_then(Etag::new)
    }

    /// SHA-256 of the timestamp that was verified last, in hexadecimal.
    pub(super) fn timestamp_sha256(&self) -> &str {
        &self.timestamp
    }

    /// What is to be remembered of `found`; `None` when it is unknown.
    pub(super) fn timestamp(seen: Option<&Seen>, found: Timestamp) -> Option<(String, Option<String>)> {
        match found {
            Timestamp::Unchanged => seen.map(|seen| (seen.timestamp.clone(), seen.etag.clone())),
            Timestamp::Found { sha256, etag } => Some((sha256, etag.map(|etag| etag.as_str().to_owned()))),
            Timestamp::Unknown => None,
        }
    }

    /// True if a poll that went the whole way would come to the same again.
    pub(super) async fn still_holds(
        &self,
        source: &Source,
        store: &Store,
        timestamp: Option<&str>,
        inputs: &str,
        now_ms: u64,
    ) -> bool {
        timestamp == Some(self.timestamp.as_str())
            && self.inputs == inputs
            && (self.verified_at_ms..self.expires_at_ms).contains(&now_ms)
            && self.active == active(store)
            && source.no_newer_root(self.root).await
    }
}

/// What decides beside the repository: which repository, who this is, what is trusted, and the code itself.
pub(super) fn inputs(config: &Config, instance: &Facts) -> Result<String, SyncError> {
    let repository = &config.repository;
    let root = disk::read_text(&repository.root, MAX_ROOT).map_err(SyncError::file("read", &repository.root))?;
    let instance = serde_json::to_vec(instance).expect("facts serialise");
    let mut hash = Sha256::new();
    let (channel, max_pack) = (repository.channel.as_str().as_bytes(), repository.max_pack.0.to_le_bytes());
    let endpoint = repository.endpoint.as_deref().unwrap_or_default().as_bytes();
    let (version, url) = (crate::VERSION.as_bytes(), repository.url.as_bytes());
    for part in [version, url, endpoint, channel, &max_pack, &instance, root.as_bytes()] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    Ok(hex(hash))
}

/// The signed versions that are active, or are again when a pushed one has gone.
fn active(store: &Store) -> BTreeMap<PackName, PathBuf> {
    let packs = store.packs().unwrap_or_default();
    let active = packs.into_iter().filter_map(|pack| Some((store.signed(&pack).ok()??.directory, pack)));
    active.map(|(directory, pack)| (pack, directory)).collect()
}

fn path(tuf: &Path) -> PathBuf {
    tuf.join("seen.json")
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
