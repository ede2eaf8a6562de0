//! The repository's metadata: signed by who may, not expired, and not older than any seen before.

use std::path::Path;

use packs_schema::config::RepositoryConfig;
use tough::error::Error as Tough;
use tough::{ExpirationEnforcement, Limits, Repository, RepositoryLoader};

use super::marks::{self, Marks};
use super::source::Source;
use super::{SyncError, disk};

/// The largest root, in bytes.
const MAX_ROOT: u64 = 1 << 20;

/// Metadata that were verified in full.
#[derive(Debug)]
pub(super) struct Metadata {
    repository: Repository,
}

impl Metadata {
    /// Loads and verifies what `source` has now. `tuf` is the directory of what was seen before.
    pub(super) async fn load(source: &Source, config: &RepositoryConfig, tuf: &Path) -> Result<Metadata, SyncError> {
        let root = disk::read_text(&config.root, MAX_ROOT).map_err(SyncError::file("read", &config.root))?;
        let marks = marks::path(tuf);
        let seen = Marks::read(&marks)?;
        let (metadata, targets) = source.addresses()?;
        let limits = Limits { max_root_updates: 256, ..Limits::default() };
        let repository = RepositoryLoader::new(&root, metadata, targets)
            .transport(source.transport())
            .limits(limits)
            .datastore(tuf)
            .expiration_enforcement(ExpirationEnforcement::Safe)
            .load()
            .await
            .map_err(from_tough)?;
        let found = Marks::of(&repository);
        let advanced = match &seen {
            Some(seen) => seen.advance(&found)?,
            None => found,
        };
        if seen.as_ref() != Some(&advanced) {
            advanced.write(&marks)?;
        }
        Ok(Metadata { repository })
    }

    /// The repository, to read targets from.
    pub(super) fn repository(&self) -> &Repository {
        &self.repository
    }
}

fn from_tough(error: Tough) -> SyncError {
    match error {
        Tough::ExpiredMetadata { role, .. } => SyncError::Expired { role: role.to_string() },
        error => SyncError::Metadata(Box::new(error)),
    }
}
