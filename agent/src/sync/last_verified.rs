//! Record of the last complete verification (`.tuf/seen.json`), so that a poll with nothing new reads one small file and writes
//! neither a file, nor a file time, nor a log line.
//!
//! While `timestamp.json` is byte for byte the one that was verified, everything below it is unchanged, too: it names the
//! snapshot by version, the snapshot the targets, the targets every archive by hash. All other inputs of a decision (the
//! configuration, the pinned root, the agent's version, the active versions, no newer root) are compared with this record as
//! well. If anything differs, or if expiry or this clock is in doubt, the poll verifies everything.
//!
//! An idle poll of a bucket is one request, with `If-None-Match` of the recorded `ETag`. The `ETag` saves a transfer and is never
//! taken for the content.
//!
//! The record saves work and grants nothing: without it, or with a damaged one, everything is verified again.

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

/// Format of the file that this code writes.
const FORMAT: u32 = 1;
/// Maximum size of the record, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// Content of the file `seen.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LastVerified {
    format: u32,
    /// SHA-256 of the timestamp.
    timestamp: String,
    /// `ETag` of the timestamp in the bucket; it saves a transfer and grants nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    /// SHA-256 of all other inputs of decisions.
    inputs: String,
    /// Version of the root.
    root: u64,
    /// Time of the verification.
    verified_at_ms: u64,
    /// First expiry of a role.
    expires_at_ms: u64,
    /// Active versions at that time: packs, and the directories of their versions.
    active: BTreeMap<PackName, PathBuf>,
}

impl LastVerified {
    /// Reads the file; `None` if it does not exist or cannot be used.
    pub(super) fn read(tuf: &Path) -> Option<LastVerified> {
        let bytes = disk::read_if_there(&path(tuf), MAX_FILE).ok().flatten()?;
        LastVerified::parse(&bytes)
    }

    /// Parses the content of the file; `None` if it cannot be used.
    pub(super) fn parse(bytes: &[u8]) -> Option<LastVerified> {
        serde_json::from_slice(bytes).ok().filter(|seen: &LastVerified| seen.format == FORMAT)
    }

    /// Builds the record of a complete verification. `timestamp` is the digest of the timestamp before it was loaded, with its
    /// `ETag`.
    pub(super) fn of(
        repository: &Repository,
        (timestamp, etag): (String, Option<String>),
        inputs: String,
        store: &Store,
        now_ms: u64,
    ) -> LastVerified {
        let expires = [
            repository.root().signed.expires,
            repository.targets().signed.expires,
            repository.snapshot().signed.expires,
            repository.timestamp().signed.expires,
        ];
        let teams =
            lookup::roles(&repository.targets().signed).filter_map(|role| Some(role.targets.as_ref()?.signed.expires));
        // A role that has expired already does not change any more; the poll that saw it has reported it.
        let teams = teams.map(|at| at.as_millisecond()).filter(|at| u64::try_from(*at).is_ok_and(|at| at > now_ms));
        let first = expires.iter().map(|at| at.as_millisecond()).chain(teams).min().unwrap_or_default();
        LastVerified {
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

    /// Writes the file durably.
    pub(super) fn write(&self, tuf: &Path) -> Result<(), SyncError> {
        let bytes = serde_json::to_vec(self).expect("a record serialises");
        disk::replace(&path(tuf), &bytes, 0o600).map_err(SyncError::file("write", path(tuf)))
    }

    /// True if the decisions were made with inputs other than `inputs`.
    pub(super) fn has_other_inputs(&self, inputs: &str) -> bool {
        self.inputs != inputs
    }

    /// Returns the `ETag` for a conditional request of the timestamp.
    pub(super) fn etag(&self) -> Option<Etag> {
        self.etag.as_deref().and_then(Etag::new)
    }

    /// Returns the SHA-256 of the timestamp that was verified last, in hexadecimal.
    pub(super) fn timestamp_sha256(&self) -> &str {
        &self.timestamp
    }

    /// Returns digest and `ETag` of `found` for the record; `None` if they are unknown.
    pub(super) fn timestamp(seen: Option<&LastVerified>, found: Timestamp) -> Option<(String, Option<String>)> {
        match found {
            Timestamp::Unchanged => seen.map(|seen| (seen.timestamp.clone(), seen.etag.clone())),
            Timestamp::Found { sha256, etag } => Some((sha256, etag.map(|etag| etag.as_str().to_owned()))),
            Timestamp::Unknown => None,
        }
    }

    /// True if a complete verification would have the same result.
    pub(super) async fn is_current(
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

/// Returns the digest of all inputs besides the repository's content: its address, the instance's facts, the pinned root, and the
/// version of the agent.
pub(super) fn inputs(config: &Config, instance: &Facts) -> Result<String, SyncError> {
    let repository = &config.repository;
    let root =
        disk::read_text(&repository.root, super::root::MAX_ROOT).map_err(SyncError::file("read", &repository.root))?;
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
