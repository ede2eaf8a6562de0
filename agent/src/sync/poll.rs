//! One poll: every pack of the channel brought as far as it goes, and the status written.

use std::time::{SystemTime, UNIX_EPOCH};

use packs_schema::config::Config;
use packs_schema::name::{PackName, PackVersion};
use packs_schema::rest::FailedVersion;

use super::choose::{Choice, Chosen, choose, packs};
use super::error::{PackFailure, Step, SyncError};
use super::metadata::Metadata;
use super::source::Source;
use super::store::{Active, Store};
use super::{activate, check, fetch, site_config, status, unpack};

/// Polls once: takes the store, brings it up to date, writes the status.
pub fn poll(config: &Config) -> Result<(), SyncError> {
    let began_ms = now_ms();
    let store = Store::open(&config.paths.packs)?;
    let before = status::read(&store);
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(SyncError::Runtime)?;
    let outcome = runtime.block_on(bring_up_to_date(config, &store));
    if let Err(error) = &outcome {
        // What is active stays, and so may its configuration change.
        tracing::warn!(%error, "poll failed; active packs stay as they are");
        refresh_all(config, &store);
    }
    status::write(&store, &status::after(before, began_ms, &outcome))?;
    outcome.map(drop)
}

async fn bring_up_to_date(config: &Config, store: &Store) -> Result<Vec<(PackName, FailedVersion)>, SyncError> {
    let source = Source::new(&config.repository.url)?;
    let metadata = Metadata::load(&source, &config.repository, &store.tuf()).await?;
    let wanted = packs(&metadata, &config.repository.channel);
    let mut failed = Vec::new();
    for pack in &wanted {
        if let Err((version, failure)) = one_pack(config, store, &metadata, pack).await {
            tracing::warn!(%pack, version = version.as_ref().map(ToString::to_string), step = failure.step.as_str(),
                message = %failure.message, "pack failed");
            failed.push((pack.clone(), status::failed(version, failure)));
        }
    }
    for pack in store.packs().map_err(SyncError::file("read", &config.paths.packs))? {
        if !wanted.contains(&pack) {
            tracing::info!(%pack, channel = %config.repository.channel, "pack is no longer in the channel; it stays active");
            if let Err(failure) = refresh(config, store, &pack) {
                failed.push((pack, status::failed(None, failure)));
            }
        }
    }
    tracing::info!(packs = wanted.len(), failed = failed.len(), "poll done");
    Ok(failed)
}

/// Brings one pack up to date. What fails is told with the version that it was to be.
async fn one_pack(
    config: &Config,
    store: &Store,
    metadata: &Metadata,
    pack: &PackName,
) -> Result<(), (Option<PackVersion>, PackFailure)> {
    let active = active(store, pack).map_err(|failure| (None, failure))?;
    let chosen = choose(metadata, config, pack, active.as_ref()).await;
    match chosen {
        Ok(Choice::Activate(chosen)) => {
            let version = chosen.version.clone();
            let done = go(config, store, metadata, chosen).await;
            if done.is_err() {
                clear_staging(store);
            }
            let done = match done {
                Ok(done) => done,
                Err(failure) => {
                    // The version before goes on, also with a new configuration.
                    drop(refresh(config, store, pack));
                    return Err((Some(version), failure));
                }
            };
            tracing::info!(%pack, version = %done.version, directory = %done.directory.display(), "pack activated");
        }
        Ok(Choice::Keep | Choice::NotHere) => {}
        Err(failed) => {
            drop(refresh(config, store, pack));
            return Err(failed);
        }
    }
    let version = self::active(store, pack).ok().flatten().map(|active| active.stored.pack.version);
    refresh(config, store, pack).map_err(|failure| (version, failure))
}

async fn go(
    config: &Config,
    store: &Store,
    metadata: &Metadata,
    chosen: Chosen,
) -> Result<activate::Activated, PackFailure> {
    let fetched = fetch::fetch(metadata, store, chosen, config.repository.max_pack).await?;
    let verified = fetched.verify()?;
    let staged = unpack::unpack(store, verified)?;
    let checked = check::check(staged)?;
    activate::activate(store, checked)
}

fn active(store: &Store, pack: &PackName) -> Result<Option<Active>, PackFailure> {
    store.active(pack).map_err(PackFailure::file(Step::Choose, "read", store.pack(pack)))
}

fn refresh(config: &Config, store: &Store, pack: &PackName) -> Result<(), PackFailure> {
    match active(store, pack)? {
        Some(active) => site_config::refresh(store, config, pack, &active.directory),
        None => Ok(()),
    }
}

fn refresh_all(config: &Config, store: &Store) {
    for pack in store.packs().unwrap_or_default() {
        if let Err(failure) = refresh(config, store, &pack) {
            tracing::warn!(%pack, message = %failure.message, "configuration of the pack failed");
        }
    }
}

/// Gives the space of a failed pack back; what cannot be removed now is swept by the next poll.
fn clear_staging(store: &Store) {
    for entry in std::fs::read_dir(store.staging()).into_iter().flatten().flatten() {
        let path = entry.path();
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        if let Err(error) = removed {
            tracing::warn!(path = %path.display(), %error, "cannot clear staging");
        }
    }
}

/// Milliseconds since 1970.
pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
