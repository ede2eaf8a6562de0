//! Executions from acceptance to end. Knows nothing of HTTP.
//!
//! ```text
//!  submit ──▶ admission ──▶ exec/<id>/spec ──▶ history (on disk) ──▶ answer
//!                 │                                │
//!                 └──── waits ──── pump ──▶ launcher: Start
//!                                                  │
//!  waiters, followers ◀── settle ◀── reconcile ◀── inotify: started, exit, lock
//! ```
//!
//! Every change of state goes through `state`, is written to the history, and only then shown. An
//! execution that has not ended stands in `Core::live`; what has ended is the history's. Nothing
//! here signals a process: the launcher is asked to.

mod admission;
mod adopt;
mod directory;
mod kill;
mod launcher;
pub mod output;
mod recovery;
mod settle;
mod state;
mod submit;
mod sweep;
pub mod tail;
mod watch;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use inotify::{Inotify, WatchDescriptor};
use packs_schema::launch::{Ask, Outcome, Refusal, Start};
use packs_schema::name::{ExecutionId, InstanceId};
use packs_schema::rest::Execution;
use packs_schema::run::{Spec, State};
use tokio::sync::watch as channel;
use tokio::task::AbortHandle;

pub use kill::KillError;
pub use launcher::{Launcher, LauncherError};
pub use submit::{Order, SubmitError};

use crate::health::Health;
use crate::history::{History, HistoryError};
use crate::metrics::Metrics;
use crate::registry::Registry;
use admission::{Board, Claim};
use watch::{Care, Watcher};

/// What does not change while the agent runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The directory of executions.
    pub executions: PathBuf,
    /// This instance.
    pub instance: InstanceId,
    /// The most that run.
    pub max_running: u32,
    /// The most that wait.
    pub max_queued: u32,
    /// How long executions are remembered.
    pub keep: Duration,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
}

/// Why executions of before cannot be looked after.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The history failed.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The directory of executions cannot be read.
    #[error("cannot read {0:?}")]
    Directory(PathBuf, #[source] io::Error),
    /// A directory cannot be watched.
    #[error("cannot watch execution directories (see fs.inotify.max_user_watches and max_user_instances)")]
    Watch(#[source] io::Error),
}

/// How far an execution has come, for those who wait for it.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// How it ended, when it has.
    pub ended: Option<Arc<Execution>>,
    /// Rises when its output may have grown.
    pub generation: u64,
}

/// An execution that has not ended.
struct Live {
    record: Execution,
    /// What the launcher is to be asked; taken when it is.
    start: Option<Box<Start>>,
    progress: channel::Sender<Progress>,
    watch: Option<WatchDescriptor>,
    followers: usize,
    expiry: Option<AbortHandle>,
    /// Its end is on the way to the history.
    ending: bool,
}

struct Core {
    board: Board,
    live: HashMap<ExecutionId, Live>,
}

/// The handle.
pub struct Exec {
    settings: Settings,
    history: Arc<History>,
    registry: Arc<Registry>,
    launcher: Launcher,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    watcher: Watcher,
    core: Mutex<Core>,
}

impl Exec {
    /// Looks after the executions of before, then begins to watch. Nothing is accepted before this returns.
    pub async fn begin(
        settings: Settings,
        history: Arc<History>,
        registry: Arc<Registry>,
        launcher: Launcher,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Exec>, RecoverError> {
        let (inotify, watcher): (Inotify, Watcher) = Watcher::new().map_err(RecoverError::Watch)?;
        let board = Board::new(settings.max_running, settings.max_queued);
        let core = Mutex::new(Core { board, live: HashMap::new() });
        let exec = Arc::new(Exec { settings, history, registry, launcher, health, metrics, watcher, core });
        recovery::recover(&exec).await?;
        let watching = exec.clone();
        tokio::spawn(async move {
            if let Err(error) = watch::run(inotify, watching.clone()).await {
                tracing::error!(%error, "watching execution directories failed");
                watching.health.set(settle::HISTORY_FAILED, format!("watching execution directories failed: {error}"));
                watching.health.set_ready(false);
            }
        });
        tokio::spawn(sweep::run(Arc::downgrade(&exec)));
        Ok(exec)
    }

    /// The line to the launcher.
    pub fn launcher(&self) -> &Launcher {
        &self.launcher
    }

    /// How many run and how many wait.
    pub fn counts(&self) -> (u32, u32) {
        let core = self.lock();
        (core.board.running(), core.board.queued())
    }

    /// The bounds of both.
    pub fn bounds(&self) -> (u32, u32) {
        (self.settings.max_running, self.settings.max_queued)
    }

    /// The directory of an execution.
    pub fn directory(&self, id: &ExecutionId) -> PathBuf {
        self.settings.executions.join(id.as_str())
    }

    /// An execution as it stands.
    pub async fn view(&self, id: &ExecutionId) -> Result<Option<Execution>, HistoryError> {
        let live = self.lock().live.get(id).map(|live| live.record.clone());
        match live {
            Some(record) => Ok(Some(record)),
            None => self.history.get(id).await,
        }
    }

    /// How an execution goes on; `None` when it has ended or is not known.
    pub fn progress(&self, id: &ExecutionId) -> Option<channel::Receiver<Progress>> {
        self.lock().live.get(id).map(|live| live.progress.subscribe())
    }

    /// Waits for the end at most so long, then answers with the execution as it stands.
    pub async fn wait(&self, id: &ExecutionId, most: Duration) -> Result<Option<Execution>, HistoryError> {
        if let Some(mut progress) = self.progress(id) {
            let end = progress.wait_for(|progress| progress.ended.is_some());
            if let Ok(Ok(ended)) = tokio::time::timeout(most, end).await
                && let Some(record) = &ended.ended
            {
                return Ok(Some(Execution::clone(record)));
            }
        }
        self.view(id).await
    }

    /// Follows the output of an execution; `None` when it has ended or is not known.
    pub fn follow(self: &Arc<Self>, id: &ExecutionId) -> Option<Follow> {
        let mut core = self.lock();
        let live = core.live.get_mut(id)?;
        live.followers += 1;
        if live.followers == 1
            && let Err(error) = self.watcher.watch(&self.directory(id), id, Care::Output)
        {
            tracing::warn!(execution = %id, %error, "its output cannot be watched; followers see it at its end");
        }
        Some(Follow { exec: self.clone(), id: id.clone(), progress: live.progress.subscribe() })
    }

    /// Starts what has a place now.
    fn pump(self: &Arc<Self>) {
        let next = self.lock().board.next();
        for id in next {
            self.launch(&id);
        }
    }

    /// Asks the launcher to start an execution that has a place.
    fn launch(self: &Arc<Self>, id: &ExecutionId) {
        let start = {
            let mut core = self.lock();
            let Some(live) = core.live.get_mut(id) else { return };
            if let Some(expiry) = live.expiry.take() {
                expiry.abort();
            }
            if live.ending { None } else { live.start.take() }
        };
        let Some(start) = start else { return };
        let (exec, id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            match exec.launcher.ask(Ask::Start(start)).await {
                Ok(Outcome::Done) => {}
                Ok(Outcome::Refused { code: Refusal::AlreadyStarted, .. }) => exec.reconcile(&id),
                Ok(Outcome::Refused { code, message }) => {
                    tracing::warn!(execution = %id, ?code, message, "the launcher refused to start it");
                    let gone = exec.is_gone(&id);
                    let message = if gone { format!("the pushed version has gone: {message}") } else { message };
                    exec.abort(&id, State::Error, message);
                }
                // Without a launcher this process ends; its successor looks after the execution.
                Err(LauncherError::Gone) => {}
                Err(error @ (LauncherError::TooLarge(_) | LauncherError::Socket(_))) => {
                    exec.abort(&id, State::Error, error.to_string());
                }
            }
        });
    }

    /// True if an execution is of a pushed version whose time was over before its start.
    fn is_gone(&self, id: &ExecutionId) -> bool {
        let record = self.lock().live.get(id).map(|live| live.record.clone());
        record.is_some_and(|record| {
            let Execution { action, version, digest, dev, .. } = &record;
            dev.is_some() && self.registry.action_in(action, version, digest).is_none()
        })
    }

    /// Wakes those who follow an execution's output.
    fn stir(&self, id: &ExecutionId) {
        if let Some(live) = self.lock().live.get(id) {
            live.progress.send_modify(|progress| progress.generation += 1);
        }
    }

    fn live_ids(&self) -> Vec<ExecutionId> {
        self.lock().live.keys().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn claim_of(&self, record: &Execution) -> Claim {
        match self.registry.action_in(&record.action, &record.version, &record.digest) {
            Some(active) => Claim::of(&active.action),
            None => Claim::bare(&record.action),
        }
    }

    /// From here on the execution is live.
    fn track(&self, record: Execution, start: Option<Box<Start>>) -> Result<(), RecoverError> {
        let id = record.id.clone();
        let watch = self.watcher.watch(&self.directory(&id), &id, Care::States).map_err(RecoverError::Watch)?;
        let (progress, _) = channel::channel(Progress::default());
        let live = Live { record, start, progress, watch: Some(watch), followers: 0, expiry: None, ending: false };
        self.lock().live.insert(id, live);
        Ok(())
    }

    /// Ends an execution that still waits after so long.
    fn expire_in(self: &Arc<Self>, id: &ExecutionId, most: Duration) {
        let (exec, expiring) = (Arc::downgrade(self), id.clone());
        let timer = tokio::spawn(async move {
            tokio::time::sleep(most).await;
            let Some(exec) = exec.upgrade() else { return };
            let waits = exec.lock().live.get_mut(&expiring).is_some_and(|live| live.start.take().is_some());
            if waits {
                exec.abort(&expiring, State::Expired, "it waited past its start deadline".to_owned());
            }
        });
        if let Some(live) = self.lock().live.get_mut(id) {
            live.expiry = Some(timer.abort_handle());
        }
    }

    /// What a spec says of an execution, before anything happened to it.
    fn record_of(&self, spec: &Spec) -> Execution {
        Execution {
            id: spec.id.clone(),
            instance: self.settings.instance.clone(),
            action: spec.action.clone(),
            version: spec.version.clone(),
            digest: spec.digest.clone(),
            dev: spec.dev.clone(),
            state: State::Queued,
            reason: None,
            parameters: spec.parameters.clone(),
            noop: spec.noop,
            principal: spec.principal.clone(),
            note: spec.note.clone(),
            killed_by: None,
            run: spec.run.clone(),
            created_at_ms: spec.created_at_ms,
            started_at_ms: None,
            ended_at_ms: None,
            duration_ms: None,
            exit_status: None,
            signal: None,
            usage: None,
            stdout: None,
            stderr: None,
            leftovers: None,
            unenforced: Vec::new(),
            result: None,
            result_error: None,
        }
    }
}

/// Someone who follows an execution's output; the directory is watched more closely until the last has gone.
pub struct Follow {
    exec: Arc<Exec>,
    id: ExecutionId,
    /// Changes whenever the output may have grown, and at the end.
    pub progress: channel::Receiver<Progress>,
}

impl Drop for Follow {
    fn drop(&mut self) {
        let mut core = self.exec.lock();
        let Some(live) = core.live.get_mut(&self.id) else { return };
        live.followers = live.followers.saturating_sub(1);
        if live.followers == 0 {
            // At worst it goes on waking nobody.
            let _ = self.exec.watcher.watch(&self.exec.directory(&self.id), &self.id, Care::States);
        }
    }
}
