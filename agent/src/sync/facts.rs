//! What is known of this instance: what the configuration says, and what its metadata service does when the configuration
//! wants it asked. The answer is left in the store for api and launcher, who ask nobody.
//!
//! A service that cannot be asked costs nothing that is known already: tags change rarely, and the rest never does.

use packs_schema::agent::config::InstanceConfig;
use packs_schema::delivery::facts::Facts;
use packs_schema::delivery::facts::{self, StoredFacts};

use super::clock::Clock;
use super::store::Store;
use super::{SyncError, disk};

/// The largest record of facts, in bytes.
const MAX_FILE: u64 = 256 << 10;

/// Asks, where it is wanted, and puts it together.
pub(super) async fn know(config: &InstanceConfig, store: &Store) -> Result<Facts, SyncError> {
    let found = if config.metadata { Some(ask(store).await?) } else { None };
    config.facts(found.as_ref()).ok_or(SyncError::Nameless)
}

async fn ask(store: &Store) -> Result<StoredFacts, SyncError> {
    let boot = Clock::read().map_err(SyncError::file("read", "/proc/sys/kernel/random/boot_id"))?.boot;
    let path = store.facts();
    let bytes = disk::read_if_there(&path, MAX_FILE).ok().flatten();
    let before = bytes.and_then(|bytes| serde_json::from_slice::<StoredFacts>(&bytes).ok()?.of_boot(&boot));
    let found = match (bolt_aws::fetch_instance_metadata().await, before.clone()) {
        (Ok(found), _) => found,
        (Err(error), Some(before)) => {
            tracing::warn!(%error, "what was known of this instance goes on to count");
            return Ok(before);
        }
        (Err(error), None) => return Err(error.into()),
    };
    let bolt_aws::InstanceMetadata { id, region, zone, tags } = found;
    let tags = tags.unwrap_or_else(|error| {
        tracing::warn!(%error, "the tags of this instance cannot be had; those that were known go on to count");
        before.as_ref().map(|before| before.tags.clone()).unwrap_or_default()
    });
    let found = StoredFacts { format: facts::FORMAT, boot, id, region, zone, tags };
    if before.as_ref() != Some(&found) {
        tracing::info!(instance = %found.id, region = found.region, zone = found.zone, tags = found.tags.len(), "instance");
        let bytes = serde_json::to_vec(&found).expect("facts serialise");
        // We know it, and the others will when there is room again.
        if let Err(error) = disk::replace(&path, &bytes, 0o644) {
            tracing::warn!(path = %path.display(), %error, "what is known of this instance cannot be written");
        }
    }
    Ok(found)
}
