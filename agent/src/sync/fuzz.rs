//! Doors for the fuzz targets to the sync: archives, metadata, and the record of the last verification.

use std::collections::BTreeMap;
use std::path::Path;

use packs_schema::agent::config::RepositoryConfig;
use packs_schema::agent::store::ManifestFile;
use serde_json::json;

use super::clock::Clock;
use super::last_verified::LastVerified;
use super::metadata::Metadata;
use super::source::Source;
use super::{SyncError, directory, error, unpack};

/// Metadata that the sync has verified.
#[derive(Debug, PartialEq, Eq)]
pub struct Verified {
    /// Versions of root, timestamp, snapshot and targets.
    pub versions: [u64; 4],
    /// Earliest end of their signatures, in milliseconds since 1970.
    pub ends_ms: u64,
    /// Most signatures that the root wants of one of these roles.
    pub threshold: u64,
    /// SHA-256 of each target, by name.
    pub targets: BTreeMap<String, Vec<u8>>,
}

/// Verifies the metadata in the directory `repository` at the time `now_ms`, from the pinned `root` on. `tuf` keeps the marks from
/// one call to the next.
pub fn verify_metadata(repository: &Path, root: &Path, tuf: &Path, now_ms: u64) -> Result<Verified, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|e| e.to_string())?;
    runtime.block_on(load(repository, root, tuf, now_ms)).map_err(|e| error::chain(&e))
}

async fn load(repository: &Path, root: &Path, tuf: &Path, now_ms: u64) -> Result<Verified, SyncError> {
    let url = format!("file://{}", repository.display());
    let source = Source::Directory(directory::directory_url(&url)?);
    let config: RepositoryConfig = serde_json::from_value(json!({ "url": url, "root": root, "channel": "prod" }))
        .expect("a configuration of a directory");
    let clock = Clock { wall_ms: now_ms, boot_ms: 1000, boot: "fuzz".to_owned() };
    let metadata = Metadata::load(&source, &config, tuf, &clock).await?;
    let verified = metadata.repository();
    let root = &verified.root().signed;
    let versions = [
        root.version,
        verified.timestamp().signed.version,
        verified.snapshot().signed.version,
        verified.targets().signed.version,
    ];
    let ends = metadata.expires();
    let named = verified.all_targets();
    Ok(Verified {
        versions: versions.map(Into::into),
        ends_ms: ends.iter().take(versions.len()).map(|end| end.expires_at_ms).min().unwrap_or_default(),
        threshold: root.roles.values().map(|role| role.threshold.get()).max().unwrap_or_default(),
        targets: named.map(|(name, target)| (name.raw().to_owned(), target.hashes.sha256.to_vec())).collect(),
    })
}

/// Unpacks an archive into an empty directory, as the sync does; returns the files that are in it then.
pub fn unpack_archive(archive: &[u8], directory: &Path) -> Result<Vec<ManifestFile>, String> {
    unpack::unpack_bytes(archive, directory)
}

/// Reads the record of the last verification; returns what would be written again.
pub fn last_verified(bytes: &[u8]) -> Option<Vec<u8>> {
    let seen = LastVerified::parse(bytes)?;
    let _ = seen.etag();
    let written = serde_json::to_vec(&seen).expect("a record serialises");
    assert_eq!(LastVerified::parse(&written), Some(seen), "what was written reads back");
    Some(written)
}
