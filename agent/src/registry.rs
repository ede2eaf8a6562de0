//! Registry of activated packs and their actions, read from the store that the sync writes.
//!
//! Nothing is watched and little is cached: the `current` link tells the active version on each request, and the action
//! definitions used last are kept parsed. Never writes.
//!
//! The status of the sync is what it wrote last (`.status.json`), updated with the end of its last run, which the launcher notes
//! in its run-time directory (`sync.json`): a poll with nothing new writes nothing, and a sync that crashed or was killed could
//! not write, but must degrade health.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use packs_schema::agent::rest::{PushInfo, SyncEnd, SyncStatus};
use packs_schema::agent::store::{self, PushOverlay, StoredPack};
use packs_schema::base::name::{ActionName, ActionRef, Digest, PackName, PackVersion};
use packs_schema::pack::Pack;
use packs_schema::pack::action::Action;
use serde::de::DeserializeOwned;

/// Maximum number of cached definitions.
const CACHED: usize = 16;
/// Maximum size of a file that is read from the store.
const MAX_FILE: u64 = 1 << 20;
/// Size of most files, in bytes: they are read by one call and one that finds the end.
const USUAL_FILE: usize = 4 << 10;

/// Error returned when the store cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A file or directory cannot be read.
    #[error("cannot read {path:?} in the store of packs")]
    Read {
        /// Path of the file or directory.
        path: PathBuf,
        /// Error of the system.
        #[source]
        source: io::Error,
    },
    /// A file has invalid content.
    #[error("{path:?} in the store of packs is damaged: {message}")]
    Damaged {
        /// Path of the file.
        path: PathBuf,
        /// Description of the damage.
        message: String,
    },
}

/// Activated pack.
#[derive(Debug, Clone)]
pub struct ActivePack {
    /// Description from `pack.yaml`.
    pub pack: Pack,
    /// Digest of the pack archive.
    pub digest: Digest,
    /// Push, if the version was pushed and is not signed.
    pub dev: Option<PushInfo>,
    directory: PathBuf,
}

impl ActivePack {
    /// Version of the pack.
    pub fn version(&self) -> &PackVersion {
        &self.pack.version
    }
}

/// Action of an activated pack.
#[derive(Debug)]
pub struct ActiveAction {
    /// Definition of the action.
    pub action: Action,
    /// Version of its pack.
    pub version: PackVersion,
    /// Digest of its pack archive.
    pub digest: Digest,
    /// Push, if the version was pushed and is not signed.
    pub dev: Option<PushInfo>,
}

/// Read access to the store.
pub struct Registry {
    root: PathBuf,
    /// File in which the launcher reports the end of each sync.
    sync_end: Option<PathBuf>,
    /// Cached definitions, by version directory and action, oldest first.
    cache: Mutex<Vec<(PathBuf, Arc<ActiveAction>)>>,
}

impl Registry {
    /// Opens the store at `root`, which need not exist yet.
    pub fn new(root: PathBuf) -> Registry {
        Registry { root, sync_end: None, cache: Mutex::new(Vec::new()) }
    }

    /// Adds the report of the launcher about the end of each sync, from its run-time directory.
    #[must_use]
    pub fn with_runtime(self, directory: &Path) -> Registry {
        Registry { sync_end: Some(directory.join(store::SYNC_END)), ..self }
    }

    /// Lists the packs in the store, sorted by name.
    pub fn packs(&self) -> Result<Vec<PackName>, RegistryError> {
        let entries = match std::fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(read_error(&self.root, e)),
        };
        let mut names: Vec<PackName> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str().and_then(|name| PackName::new(name).ok()))
            .collect();
        names.sort();
        Ok(names)
    }

    /// Returns the active version of a pack; `None` when there is none.
    pub fn pack(&self, name: &PackName) -> Result<Option<ActivePack>, RegistryError> {
        let home = self.root.join(name.as_str());
        let target = match std::fs::read_link(home.join(store::CURRENT)) {
            Ok(target) => target,
            Err(e) if is_absent(&e) => return Ok(None),
            Err(e) => return Err(read_error(&home, e)),
        };
        let damaged = || RegistryError::Damaged {
            path: home.join(store::CURRENT),
            message: "the link does not name a version directory beside it".to_owned(),
        };
        let plain = target.to_str().filter(|t| !t.contains('/') && !t.starts_with('.')).ok_or_else(damaged)?;
        let directory = home.join(plain);
        let Some(stored) = read_json::<StoredPack>(&directory.join(store::META).join(store::PACK))? else {
            return Ok(None);
        };
        Ok(Some(ActivePack { pack: stored.pack, digest: stored.digest, dev: stored.dev, directory }))
    }

    /// Returns the signed version that becomes active again when a pushed one ends.
    pub fn signed_version_under(&self, pack: &ActivePack) -> Option<PackVersion> {
        let shadow: PushOverlay = read_json(&pack.directory.with_file_name(store::PUSH_OVERLAY)).ok().flatten()?;
        store::version_of(&shadow.signed.filter(|_| pack.dev.is_some())?)
    }

    /// Lists the packs whose active version was pushed and is not signed.
    pub fn pushed(&self) -> Result<Vec<(ActivePack, PushInfo)>, RegistryError> {
        let mut pushed = Vec::new();
        for name in self.packs()? {
            if let Some(pack) = self.pack(&name)?
                && let Some(dev) = pack.dev.clone()
            {
                pushed.push((pack, dev));
            }
        }
        Ok(pushed)
    }

    /// Returns the shortest remaining time of the pushed versions; `None` when there are none. Uses the clock of the boot, which no
    /// clock setting changes.
    pub fn push_left_ms(&self, boot: &str, boot_ms: u64) -> Result<Option<u64>, RegistryError> {
        let mut shortest = None;
        for (pack, dev) in self.pushed()? {
            let shadow: Option<PushOverlay> = read_json(&pack.directory.with_file_name(store::PUSH_OVERLAY))?;
            let left = match shadow.and_then(|shadow| shadow.active) {
                Some(active) if active.boot == boot => active.until_boot_ms.saturating_sub(boot_ms),
                Some(_) => 0,
                None => dev.until_ms.saturating_sub(dev.pushed_at_ms),
            };
            shortest = Some(shortest.map_or(left, |shortest: u64| shortest.min(left)));
        }
        Ok(shortest)
    }

    /// Lists the actions of an active pack, sorted by name.
    pub fn actions(&self, pack: &ActivePack) -> Result<Vec<ActionName>, RegistryError> {
        let path = pack.directory.join(store::META).join(store::ACTIONS);
        let entries = std::fs::read_dir(&path).map_err(|e| read_error(&path, e))?;
        let mut names: Vec<ActionName> = entries
            .filter_map(|entry| {
                let name = entry.ok()?.file_name();
                ActionName::new(name.to_str()?.strip_suffix(".json")?).ok()
            })
            .collect();
        names.sort();
        Ok(names)
    }

    /// Reads an action of an active pack, without the cache.
    pub fn action_of(&self, pack: &ActivePack, name: &ActionName) -> Result<Option<ActiveAction>, RegistryError> {
        let action = load(&pack.directory, name, pack.pack.version.clone(), pack.digest.clone())?;
        Ok(action.map(|action| ActiveAction { dev: pack.dev.clone(), ..action }))
    }

    /// Returns an action of the active version of its pack.
    pub fn action(&self, reference: &ActionRef) -> Result<Option<Arc<ActiveAction>>, RegistryError> {
        let home = self.root.join(reference.pack().as_str());
        let Ok(target) = std::fs::read_link(home.join(store::CURRENT)) else { return Ok(None) };
        let key = home.join(target).join(reference.action().as_str());
        if let Some((_, cached)) = self.lock().iter().find(|(path, _)| *path == key) {
            return Ok(Some(cached.clone()));
        }
        let Some(pack) = self.pack(&reference.pack())? else { return Ok(None) };
        let Some(action) = self.action_of(&pack, &reference.action())? else { return Ok(None) };
        let action = Arc::new(action);
        if pack.dev.is_some() {
            // Not cached: it may be pushed again for longer, or become a signed one.
            return Ok(Some(action));
        }
        let mut cache = self.lock();
        if cache.len() >= CACHED {
            cache.remove(0);
        }
        cache.push((pack.directory.join(reference.action().as_str()), action.clone()));
        Ok(Some(action))
    }

    /// Returns an action of a version that need not be active any more, for executions that were accepted earlier.
    pub fn action_in(&self, reference: &ActionRef, version: &PackVersion, digest: &Digest) -> Option<ActiveAction> {
        let directory = self.root.join(reference.pack().as_str()).join(store::version_directory(version, digest));
        load(&directory, &reference.action(), version.clone(), digest.clone()).ok().flatten()
    }

    /// Returns the last status of the sync, updated with the end of its last run; `None` when it has not run yet.
    pub fn status(&self) -> Result<Option<SyncStatus>, RegistryError> {
        let status: Option<SyncStatus> = read_json(&self.root.join(store::STATUS))?;
        let end: Option<SyncEnd> = match &self.sync_end {
            Some(path) => read_json(path)?,
            None => None,
        };
        Ok(match end {
            Some(end) => merge_sync_end(status, &end),
            None => status,
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(PathBuf, Arc<ActiveAction>)>> {
        self.cache.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Updates a status with the end of a sync: one that found nothing new wrote no status, and one that crashed could not.
fn merge_sync_end(status: Option<SyncStatus>, end: &SyncEnd) -> Option<SyncStatus> {
    if status.as_ref().is_some_and(|status| is_newer(status, end)) {
        return status;
    }
    let polled_at_ms = end.began_at_ms;
    if end.status == Some(0) {
        return status.map(|status| SyncStatus { polled_at_ms, succeeded_at_ms: Some(polled_at_ms), ..status });
    }
    let how = match (end.status, end.signal) {
        (Some(status), _) => format!("status {status}"),
        (None, signal) => format!("signal {}", signal.unwrap_or_default()),
    };
    let failure = format!("the sync ended with {how} and left no report; see the agent's log");
    Some(SyncStatus { polled_at_ms, failure: Some(failure), expired: false, ..status.unwrap_or_default() })
}

/// True if the status was written by the sync that ended, or by a later one. The wall clock decides only without another clock: it
/// may have been set back in between.
fn is_newer(status: &SyncStatus, end: &SyncEnd) -> bool {
    match (&status.began, &end.began) {
        (Some(status), Some(end)) if status.boot == end.boot => status.ms >= end.ms,
        // The status is of an earlier boot: the end, in the run-time directory, is of this one.
        (Some(_), Some(_)) => false,
        _ => status.polled_at_ms >= end.began_at_ms,
    }
}

fn load(
    directory: &Path,
    name: &ActionName,
    version: PackVersion,
    digest: Digest,
) -> Result<Option<ActiveAction>, RegistryError> {
    let path = directory.join(store::META).join(store::ACTIONS).join(format!("{name}.json"));
    Ok(read_json::<Action>(&path)?.map(|action| ActiveAction { action, version, digest, dev: None }))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn read_error(path: &Path, source: io::Error) -> RegistryError {
    RegistryError::Read { path: path.to_owned(), source }
}

/// Reads a JSON file of bounded size; `None` when it is not there.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, RegistryError> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if is_absent(&e) => return Ok(None),
        Err(e) => return Err(read_error(path, e)),
    };
    let mut bytes = Vec::with_capacity(USUAL_FILE);
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(|e| read_error(path, e))?;
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|e| RegistryError::Damaged { path: path.to_owned(), message: e.to_string() })
}

#[cfg(test)]
mod tests {
    use packs_schema::agent::rest::BootMoment;

    use super::*;

    #[test]
    fn a_status_is_updated_with_the_end_of_the_last_sync() {
        let root = tempfile::tempdir().unwrap();
        let registry = Registry::new(root.path().to_owned()).with_runtime(root.path());
        let end = |began_at_ms, status: Option<i32>, signal| {
            let end = SyncEnd { began_at_ms, status, signal, began: None };
            std::fs::write(root.path().join(store::SYNC_END), serde_json::to_vec(&end).unwrap()).unwrap();
            registry.status().unwrap()
        };
        assert_eq!(registry.status().unwrap(), None);
        let crashed = end(50, None, Some(9)).unwrap().failure.unwrap();
        assert!(crashed.contains("signal 9"), "{crashed}");
        let written = SyncStatus { polled_at_ms: 100, succeeded_at_ms: Some(100), polls: 3, ..SyncStatus::default() };
        std::fs::write(root.path().join(store::STATUS), serde_json::to_vec(&written).unwrap()).unwrap();
        assert_eq!(end(90, Some(1), None).unwrap(), written, "its own report is newer");
        let idle = end(200, Some(0), None).unwrap();
        assert_eq!((idle.polled_at_ms, idle.succeeded_at_ms, idle.failure), (200, Some(200), None));
        let failed = end(300, Some(1), None).unwrap();
        assert_eq!((failed.polled_at_ms, failed.succeeded_at_ms), (300, Some(100)));
        assert!(failed.failure.unwrap().contains("status 1"));
    }

    #[test]
    fn a_clock_that_was_set_back_hides_no_crash() {
        let moment = |boot: &str, ms| Some(BootMoment { boot: boot.to_owned(), ms });
        let status = |boot, ms| SyncStatus { polled_at_ms: 9000, began: moment(boot, ms), ..SyncStatus::default() };
        let crashed = |boot, ms| SyncEnd { began_at_ms: 100, status: None, signal: Some(9), began: moment(boot, ms) };
        let reported = |status: SyncStatus, end: SyncEnd| merge_sync_end(Some(status), &end).unwrap().failure.is_some();
        assert!(reported(status("a", 50), crashed("a", 60)), "later in this boot, earlier by the wall clock");
        assert!(!reported(status("a", 60), crashed("a", 60)) && !reported(status("a", 61), crashed("a", 60)));
        assert!(reported(status("a", 5000), crashed("b", 60)), "the status is of an earlier boot");
    }
}
