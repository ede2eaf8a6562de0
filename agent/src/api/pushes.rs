//! Pushed packs, as far as the api goes: it leaves archive and request in the inbox, has the launcher run the sync, and
//! waits for what the sync says of it. It writes nothing of the store, and what it lets in the sync judges again.
//!
//! Also looks after the time of what was pushed: a poll may be minutes away when it is over.

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

/// Archives that come in at once.
const UPLOADS: usize = 2;
/// How long the sync's word is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked for. The sync is a process of its own that tells nobody.
const LOOK: Duration = Duration::from_millis(50);
/// The longest time between two looks at what was pushed, and the shortest between two asks for its end.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_secs(2);
/// The age at which what lies in the inbox goes.
const OLD: Duration = Duration::from_secs(15 * 60);

/// What handlers need for pushes.
pub(crate) struct Pushes {
    pub(super) dev: DevConfig,
    /// The largest archive.
    pub(super) max_archive: u64,
    pub(super) uploads: Semaphore,
    inbox: PathBuf,
    outcomes: PathBuf,
    under_way: Mutex<BTreeSet<PushId>>,
    installed: Notify,
}

/// A push whose files are there until this is dropped.
pub(super) struct Ticket<'a> {
    pushes: &'a Pushes,
    pub(super) id: PushId,
    /// The sync has not answered: it may still want the files.
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
        // Nobody waits any more for what a process before this one took.
        pushes.sweep(Duration::ZERO);
        pushes
    }

    /// A new push; `None` when too many lie there already.
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

    /// Removes what nobody waits for and is older than `age`.
    fn sweep(&self, age: Duration) {
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
    /// The file that the archive goes into. The sync, another account, reads it.
    pub(super) fn archive(&self) -> io::Result<fs::File> {
        create(&self.pushes.inbox.join(archive_file(&self.id)))
    }

    /// Leaves the request, which makes it one, has the sync run, and waits; `None`: it has not answered yet.
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
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(outcome) = read_json::<PushOutcome>(&outcome).map_err(io::Error::other)? {
                self.unanswered = false;
                self.pushes.installed.notify_one();
                return Ok(Some(outcome.result));
            }
            tokio::time::sleep(LOOK).await;
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

/// Asks for the sync when the time of a pushed version is over, and keeps the inbox tidy. Never ends.
pub(crate) async fn look_after(app: Arc<App>) {
    loop {
        app.pushes.sweep(OLD);
        let left = app.registry.push_left_ms(&clock::boot_id(), clock::boottime_ms()).unwrap_or_default();
        let next = left.map(Duration::from_millis);
        let pause = match next {
            Some(Duration::ZERO) => {
                tracing::info!("the time of a pushed pack is over; asking for the sync");
                if let Err(error) = app.exec.launcher().ask(Operation::Sync).await {
                    tracing::warn!(%error, "the sync cannot be asked for");
                }
                SHORT
            }
            Some(left) => left.min(LONG),
            None if app.pushes.dev.push => LONG,
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
    // The directory lets nobody in but the sync.
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    Ok(file)
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot be removed from the inbox of pushed packs");
        }
        _ => {}
    }
}
