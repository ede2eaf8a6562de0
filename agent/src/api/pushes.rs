//! Pushed packs, the part of the api: it writes archive and request to the inbox, asks the launcher to run the sync, and waits
//! for the outcome that the sync writes. It writes nothing else in the store, and the sync checks again what it accepts. The
//! whole path of a push is described in `sync::push`.
//!
//! A task asks for the sync when the time to live of a pushed version has expired: the next poll may be minutes away.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use packs_schema::agent::config::{Config, DevConfig};
use packs_schema::agent::launch::{Operation, Outcome};
use packs_schema::agent::push::{
    MAX_WAITING, OUTCOMES, PushOutcome, PushRequest, PushResult, archive_file, record_file,
};
use packs_schema::base::name::PushId;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::App;
use crate::clock;
use crate::registry::read_json;

/// Maximum number of archives received at the same time.
const UPLOADS: usize = 2;
/// Time limit for the sync's outcome.
const OUTCOME_TIMEOUT: Duration = Duration::from_secs(60);
/// Interval at which the outcome is checked for: the sync is another process and sends no notification.
const OUTCOME_INTERVAL: Duration = Duration::from_millis(50);
/// Longest interval between two checks of pushed versions.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// Shortest interval between two requests for the sync when a pushed version has expired.
const EXPIRED_RETRY: Duration = Duration::from_secs(2);
/// Age at which a file of the inbox that no push owns is removed.
const ORPHAN_AGE: Duration = Duration::from_secs(15 * 60);

/// Pushes in progress, and their limits.
pub(crate) struct Pushes {
    pub(super) dev: DevConfig,
    /// Maximum size of an archive, in bytes.
    pub(super) max_archive: u64,
    pub(super) uploads: Semaphore,
    inbox: PathBuf,
    outcomes: PathBuf,
    under_way: Mutex<BTreeSet<PushId>>,
    installed: Notify,
}

/// Push in progress; its files are removed when this is dropped.
pub(super) struct Ticket<'a> {
    pushes: &'a Pushes,
    pub(super) id: PushId,
    /// True while the sync has not answered: it may still need the files.
    unanswered: bool,
}

impl Pushes {
    pub(crate) fn new(config: &Config) -> Pushes {
        let pushes = Pushes {
            dev: config.dev.clone(),
            max_archive: config.repository.max_pack.0.min(config.dev.max_bytes.0),
            uploads: Semaphore::new(UPLOADS),
            inbox: config.paths.inbox(),
            outcomes: config.paths.packs.join(OUTCOMES),
            under_way: Mutex::new(BTreeSet::new()),
            installed: Notify::new(),
        };
        // No caller waits for pushes that a previous process accepted.
        pushes.prune_inbox(Duration::ZERO);
        pushes
    }

    /// Begins a push; `None` when the inbox has too many already.
    pub(super) fn begin(&self) -> Option<Ticket<'_>> {
        let mut under_way = self.lock();
        let waiting = fs::read_dir(&self.inbox).map_or(0, Iterator::count);
        if under_way.len() >= MAX_WAITING || waiting >= 2 * MAX_WAITING {
            return None;
        }
        let id = PushId::new(uuid::Uuid::now_v7().hyphenated().to_string()).expect("a UUID is a push id");
        under_way.insert(id.clone());
        Some(Ticket { pushes: self, id, unanswered: false })
    }

    /// Removes orphaned files that are older than `age`.
    fn prune_inbox(&self, age: Duration) {
        let under_way = self.lock().clone();
        for entry in fs::read_dir(&self.inbox).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let id = name.split('.').next().and_then(|id| PushId::new(id).ok());
            let old = entry.metadata().ok().and_then(|meta| meta.modified().ok()?.elapsed().ok());
            let answered = id.as_ref().is_some_and(|id| self.outcomes.join(record_file(id)).exists());
            let ours = id.is_some_and(|id| under_way.contains(&id));
            if !ours && (answered || old.is_none_or(|old| old >= age)) {
                remove(&entry.path());
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<PushId>> {
        self.under_way.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Ticket<'_> {
    /// Creates the file for the archive. The sync, another account, reads it.
    pub(super) fn archive(&self) -> io::Result<fs::File> {
        create(&self.pushes.inbox.join(archive_file(&self.id)))
    }

    /// Writes the request, which completes the push, asks for the sync, and waits. `None`: the sync has not answered in time.
    pub(super) async fn ask(&mut self, app: &App, request: &PushRequest) -> io::Result<Option<PushResult>> {
        let path = self.pushes.inbox.join(record_file(&self.id));
        let temporary = path.with_extension("new");
        let mut file = create(&temporary)?;
        file.write_all(&serde_json::to_vec(request)?)?;
        drop(file);
        self.unanswered = true;
        fs::rename(&temporary, &path)?;
        match app.exec.launcher().ask(Operation::Sync).await.map_err(io::Error::other)? {
            Outcome::Done => {}
            Outcome::Refused { message, .. } => return Err(io::Error::other(message)),
        }
        let outcome = self.pushes.outcomes.join(record_file(&self.id));
        let deadline = Instant::now() + OUTCOME_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(outcome) = read_json::<PushOutcome>(&outcome).map_err(io::Error::other)? {
                self.unanswered = false;
                self.pushes.installed.notify_one();
                return Ok(Some(outcome.result));
            }
            tokio::time::sleep(OUTCOME_INTERVAL).await;
        }
        Ok(None)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.pushes.lock().remove(&self.id);
        if !self.unanswered {
            remove(&self.pushes.inbox.join(record_file(&self.id)));
            remove(&self.pushes.inbox.join(archive_file(&self.id)));
        }
    }
}

/// Asks for the sync when a pushed version has expired, and prunes the inbox. Never returns.
pub(crate) async fn expire_pushed(app: Arc<App>) {
    loop {
        app.pushes.prune_inbox(ORPHAN_AGE);
        let left = app.registry.push_left_ms(&clock::boot_id(), clock::boottime_ms()).unwrap_or_default();
        let next = left.map(Duration::from_millis);
        let pause = match next {
            Some(Duration::ZERO) => {
                tracing::info!("a pushed version has expired; asking for a sync");
                if let Err(error) = app.exec.launcher().ask(Operation::Sync).await {
                    tracing::warn!(%error, "cannot ask for a sync");
                }
                EXPIRED_RETRY
            }
            Some(left) => left.min(CHECK_INTERVAL),
            None if app.pushes.dev.push => CHECK_INTERVAL,
            None => return std::future::pending().await,
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = app.pushes.installed.notified() => {}
        }
    }
}

fn create(path: &Path) -> io::Result<fs::File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    // Only the sync may enter the directory.
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    Ok(file)
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot remove a file from the inbox of pushed packs");
        }
        _ => {}
    }
}
