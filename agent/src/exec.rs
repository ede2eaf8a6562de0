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
mod directory;
mod kill;
mod launcher;
pub mod output;
mod recovery;
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

use crate::clock;
use crate::health::Health;
use crate::history::{History, HistoryError};
use crate::metrics::Metrics;
use crate::registry::Registry;
use admission::{Board, Claim};
use directory::{Evidence, Lock, evidence};
use state::{Change, advance};
use watch::{Care, Watcher};

/// How long the launcher may take to clean up after a shim that was killed, in recovery.
const CLEAN_UP: Duration = Duration::from_secs(15);
/// Between two tries to write to the history what cannot be lost.
const RETRY: Duration = Duration::from_secs(2);
/// The code of health when the history cannot be written.
const HISTORY_FAILED: &str = "history_failed";

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
                watching.health.set("history_failed", format!("watching execution directories failed: {error}"));
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

    /// Reads an execution's directory and takes over what it says.
    fn reconcile(self: &Arc<Self>, id: &ExecutionId) {
        if !self.lock().live.contains_key(id) {
            return;
        }
        let found = evidence(&self.directory(id));
        if let directory::Found::Good(exit) = found.exit {
            return self.settle(id, Change::Ended(Box::new(exit)));
        }
        let queued = self.lock().live.get(id).is_some_and(|live| live.record.state == State::Queued);
        if queued && let directory::Found::Good(started) = found.started {
            self.settle(id, Change::Started(started));
        }
        if found.lock == Lock::Free {
            // Cleaning up may take its time; other executions do not wait for it.
            let (exec, id) = (self.clone(), id.clone());
            tokio::spawn(async move { exec.bury(&id).await });
        }
    }

    /// Ends an execution whose shim has gone without a word.
    async fn bury(self: &Arc<Self>, id: &ExecutionId) {
        let left = match evidence(&self.directory(id)) {
            // A shim that was just about to take it: to ask for the end would end it.
            Evidence { lock: Lock::Held, exit: directory::Found::Absent, .. } => return,
            _ => self.clean_up(id).await,
        };
        match evidence(&self.directory(id)).exit.good() {
            Some(exit) => self.settle(id, Change::Ended(Box::new(exit))),
            None => {
                let left = left.map(|left| format!("; {left}")).unwrap_or_default();
                self.abort(id, State::Lost, format!("its shim was killed{left}"));
            }
        }
    }

    /// Has the launcher stop whatever is left of an execution without a shim; answers why that failed, if it did.
    async fn clean_up(&self, id: &ExecutionId) -> Option<String> {
        let ask = self.launcher.ask(Ask::Kill { execution: id.clone() });
        let failed = match tokio::time::timeout(CLEAN_UP, ask).await {
            Ok(Ok(Outcome::Done)) => return None,
            Ok(Ok(Outcome::Refused { message, .. })) => format!("the launcher did not clean up after it: {message}"),
            Ok(Err(error)) => format!("nobody cleaned up after it: {error}"),
            Err(_) => "the launcher did not clean up after it in time".to_owned(),
        };
        tracing::error!(execution = %id, "{failed}");
        Some(failed)
    }

    fn abort(self: &Arc<Self>, id: &ExecutionId, state: State, reason: String) {
        self.settle(id, Change::Aborted { state, reason, at_ms: clock::now_ms() });
    }

    /// Takes over a change: into the history first, then to whoever waits. An end is tried until it is written.
    fn settle(self: &Arc<Self>, id: &ExecutionId, change: Change) {
        let by_us = matches!(change, Change::Aborted { .. });
        let (record, changes) = {
            let mut core = self.lock();
            let Some(live) = core.live.get_mut(id).filter(|live| !live.ending) else { return };
            let mut record = live.record.clone();
            let changes = match advance(&mut record, change) {
                Ok(changes) => changes,
                Err(error) => return tracing::error!(execution = %id, %error, "a change of state was passed over"),
            };
            if record.state.is_terminal() {
                live.ending = true;
            } else {
                live.record = record.clone();
            }
            (record, changes)
        };
        let exec = self.clone();
        tokio::spawn(async move {
            let ended = record.state.is_terminal();
            if by_us {
                exec.leave_exit(&record);
            }
            exec.remember(&record, &changes).await;
            for (state, _) in &changes {
                exec.metrics.execution(&record.action, *state);
            }
            if ended {
                exec.finish(record);
            }
        });
    }

    /// Leaves in its directory how an execution without a shim ended: should the history be lost, it is not started again.
    fn leave_exit(&self, record: &Execution) {
        if let Err(error) = directory::write_exit(&self.directory(&record.id), &state::exit_of(record)) {
            tracing::error!(execution = %record.id, %error, "its end is in the history only");
        }
    }

    /// Writes to the history, and tries again until it can when the execution has ended.
    async fn remember(&self, record: &Execution, changes: &[(State, u64)]) {
        loop {
            match self.history.update(record.clone(), changes.to_vec()).await {
                Ok(_) => {
                    self.health.clear(HISTORY_FAILED);
                    return;
                }
                Err(error @ (HistoryError::Closed | HistoryError::OldSqlite(_))) => {
                    return tracing::error!(execution = %record.id, %error, "not written to the history");
                }
                Err(
                    error @ (HistoryError::DiskFull
                    | HistoryError::Sqlite(_)
                    | HistoryError::Open { .. }
                    | HistoryError::SetAside { .. }),
                ) => {
                    tracing::error!(execution = %record.id, %error, "not written to the history");
                    self.health.set(HISTORY_FAILED, error.to_string());
                    if !record.state.is_terminal() {
                        return;
                    }
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The end is in the history: tells those who wait, and gives its place to the next.
    fn finish(self: &Arc<Self>, record: Execution) {
        let live = {
            let mut core = self.lock();
            core.board.release(&record.id);
            core.live.remove(&record.id)
        };
        tracing::info!(execution = %record.id, action = %record.action, state = %record.state, "ended");
        if let Some(live) = live {
            if let Some(watch) = live.watch {
                self.watcher.forget(watch);
            }
            if let Some(expiry) = live.expiry {
                expiry.abort();
            }
            live.progress.send_modify(|progress| {
                progress.generation += 1;
                progress.ended = Some(Arc::new(record));
            });
        }
        self.pump();
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

    /// Ends an execution of before a restart, which nobody waits for.
    async fn conclude(&self, mut record: Execution, change: Change) -> Result<(), RecoverError> {
        let id = record.id.clone();
        let by_us = matches!(change, Change::Aborted { .. });
        match advance(&mut record, change) {
            Ok(changes) => {
                if by_us {
                    self.leave_exit(&record);
                }
                tracing::info!(execution = %id, state = %record.state, "recovered");
                self.history.update(record, changes).await?;
            }
            Err(error) => tracing::error!(execution = %id, %error, "a change of state was passed over"),
        }
        Ok(())
    }

    /// Takes over an execution that a shim has.
    async fn adopt_running(self: &Arc<Self>, record: Execution) -> Result<(), RecoverError> {
        let id = record.id.clone();
        let claim = self.claim_of(&record);
        self.lock().board.adopt_running(&id, &claim);
        self.track(record, None)?;
        // It may have ended between the look and the watch.
        self.reconcile(&id);
        Ok(())
    }

    /// Takes over an execution that has not been started.
    async fn adopt_waiting(self: &Arc<Self>, record: Execution, start: (Start, Duration)) -> Result<(), RecoverError> {
        let id = record.id.clone();
        let claim = self.claim_of(&record);
        self.track(record, Some(Box::new(start.0)))?;
        self.lock().board.adopt_waiting(&id, claim);
        self.expire_in(&id, start.1);
        Ok(())
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
