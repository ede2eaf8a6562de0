//! Facts of this instance from the metadata service, where `[instance] metadata = true`: id, region and zone from the identity
//! document, and tags where the instance's metadata options include them.
//!
//! ```text
//!  agent.toml [instance] ──────────────────────────────┐ written values take precedence
//!  metadata service ─▶ sync ─▶ packs/.facts.json ──────┴▶ Facts: sync (choices), api (id, info), launcher (BOLT_INSTANCE_ID, …)
//! ```
//!
//! Each poll asks before it reads the repository: three requests and one for each tag, to the host itself and never through a
//! proxy. The result is written to `.facts.json` in the store, for api and launcher, which do not ask the service. The file is
//! owned by the sync's account and checked like the store (owner, mode, no link). It is valid only in the boot in which it was
//! written: an image made from an instance contains that instance's file.
//!
//! A service that fails does not invalidate known facts: tags change rarely, and the rest never does. After a failure the known
//! facts, tags included, remain in use, at the cost of one log line and at most ten seconds of a poll. If only the tags cannot
//! be read, the known ones remain, or are left out. Where `id` is written, actions get the written facts, but nothing new is
//! activated until the service has answered once in this boot, because facts decide which version is chosen. Until
//! the id is known, the api does not listen, asks for another poll after five seconds, ten, up to a minute, and nothing is
//! started. The facts grant nothing: callers compare the api's certificate with the id that they mean.

use packs_schema::agent::config::InstanceConfig;
use packs_schema::delivery::facts::Facts;
use packs_schema::delivery::facts::{self, StoredFacts};

use super::clock::Clock;
use super::store::Store;
use super::{SyncError, disk};

/// Maximum size of the record, in bytes.
const MAX_FILE: u64 = 256 << 10;

/// Determines the facts: from the service where it is configured, merged with the configuration.
pub(super) async fn determine(config: &InstanceConfig, store: &Store) -> Result<Facts, SyncError> {
    let found = if config.metadata { Some(ask(store).await?) } else { None };
    config.facts(found.as_ref()).ok_or(SyncError::Nameless)
}

/// Returns the facts that the metadata service gave in the boot `boot`; `None` if there are none, or the record is damaged.
pub(super) fn stored(store: &Store, boot: &str) -> Option<StoredFacts> {
    let bytes = disk::read_if_there(&store.facts(), MAX_FILE).ok().flatten()?;
    serde_json::from_slice::<StoredFacts>(&bytes).ok()?.of_boot(boot)
}

async fn ask(store: &Store) -> Result<StoredFacts, SyncError> {
    let boot = Clock::read().map_err(SyncError::file("read", "/proc/sys/kernel/random/boot_id"))?.boot;
    let path = store.facts();
    let before = stored(store, &boot);
    let found = match (bolt_aws::fetch_instance_metadata().await, before.clone()) {
        (Ok(found), _) => found,
        (Err(error), Some(before)) => {
            tracing::warn!(%error, "using the known facts of this instance");
            return Ok(before);
        }
        (Err(error), None) => return Err(error.into()),
    };
    let bolt_aws::InstanceMetadata { id, region, zone, tags } = found;
    let tags = tags.unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot read the tags of this instance; using the known ones");
        before.as_ref().map(|before| before.tags.clone()).unwrap_or_default()
    });
    let found = StoredFacts { format: facts::FORMAT, boot, id, region, zone, tags };
    if before.as_ref() != Some(&found) {
        tracing::info!(instance = %found.id, region = found.region, zone = found.zone, tags = found.tags.len(), "instance");
        let bytes = serde_json::to_vec(&found).expect("facts serialise");
        // This process has the facts; api and launcher get them when the disk has space again.
        if let Err(error) = disk::replace(&path, &bytes, 0o644) {
            tracing::warn!(path = %path.display(), %error, "cannot write the facts of this instance");
        }
    }
    Ok(found)
}
