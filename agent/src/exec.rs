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
mod archive;
mod blind;
mod directory;
mod kill;
mod launcher;
pub mod output;
mod recovery;
mod room;
mod settle;
mod shortage;
mod state;
mod submit;
mod sweep;
pub mod tail;
pub mod usage;
mod watch;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use inotify::WatchDescriptor;
use packs_schema::agent::execution::{Spec, State};
use packs_schema::agent::launch::{Operation, Outcome, Refusal, Start};
use packs_schema::agent::rest::{Execution, Waiting};
use packs_schema::base::name::{ActionRef, ExecutionId, InstanceId, Principal};
use tokio::sync::watch as channel;
use tokio::task::AbortHandle;

pub use archive::{Archive, Section};
pub use kill::KillError;
pub use launcher::{Launcher, LauncherError};
pub use recovery::RECOVERING;
pub use shortage::Shortage;
pub use submit::{Order, SubmitError, check_version};
pub use sweep::Budget;

use crate::access::Access;
use crate::clock;
use crate::health::Health;
use crate::history::{History, HistoryError};
use crate::metrics::Metrics;
use crate::registry::Registry;
use admission::{Board, Claim};
use archive::Readers;
use blind::Blind;
use room::Room;
use state::{Answered, EXPIRED, Standing, answered, expires};
use sweep::Meter;
use watch::{Care, Watcher};

/// How often a start is tried that the launcher has no place for, …
const START_ATTEMPTS: u32 = 120;
/// … and the pause between two attempts.
const START_PAUSE: Duration = Duration::from_millis(500);

/// What does not change while the agent runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The directory of the agent's state.
    pub state: PathBuf,
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
    /// How much room they take.
    pub budget: Budget,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
}

/// The beginning of the reason of an execution whose caller lost the grant before the start.
const REVOKED: &str = "not started: the grant was revoked while it waited";

/// Why executions of before cannot be looked after.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The history failed.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The directory of executions cannot be read.
    #[error("cannot read {0:?}")]
    Directory(PathBuf, #[source] io::Error),
    /// Nobody is there to clean up after an execution whose shim is gone.
    #[error("the launcher has gone: its successor starts another api, which goes on here")]
    LauncherGone,
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
    /// The launcher has been asked, and has not answered.
    asked: bool,
    progress: channel::Sender<Progress>,
    watch: Option<WatchDescriptor>,
    followers: usize,
    expiry: Option<AbortHandle>,
    /// Its end is on the way to the history.
    ending: bool,
}

impl Live {
    fn standing(&self) -> Standing {
        match (self.ending, &self.start, self.asked) {
            (true, ..) => Standing::Ending,
            (false, Some(_), _) => Standing::Waits,
            (false, None, true) => Standing::Asked,
            (false, None, false) => Standing::Handed,
        }
    }
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
    access: Arc<Access>,
    launcher: Launcher,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    watcher: Watcher,
    blind: Blind,
    room: Room,
    core: Mutex<Core>,
    readers: Arc<Readers>,
    meter: Arc<Meter>,
}

impl Exec {
    /// Looks after the executions of before, then begins to watch. Nothing is accepted before this returns.
    pub async fn begin(
        settings: Settings,
        history: Arc<History>,
        registry: Arc<Registry>,
        access: Arc<Access>,
        launcher: Launcher,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Exec>, RecoverError> {
        let blind = Blind::default();
        let (inotify, watcher) = Watcher::new().unwrap_or_else(|error| {
            blind.begin(&health, &error);
            (None, Watcher::none())
        });
        let board = Board::new(settings.max_running, settings.max_queued);
        let core = Mutex::new(Core { board, live: HashMap::new() });
        let room = Room::new(&settings.state);
        let exec = Arc::new(Exec {
            settings,
            history,
            registry,
            access,
            launcher,
            health,
            metrics,
            watcher,
            blind,
            room,
            core,
            readers: Arc::default(),
            meter: Arc::default(),
        });
        exec.has_room();
        recovery::recover(&exec).await?;
        tokio::spawn(blind::run(Arc::downgrade(&exec)));
        if let Some(inotify) = inotify {
            let watching = exec.clone();
            tokio::spawn(async move {
                if let Err(error) = watch::run(inotify, watching.clone()).await {
                    watching.watcher.lose();
                    watching.forget_watches();
                    watching.blind.begin(&watching.health, &error);
                }
            });
        }
        Ok(exec)
    }

    /// Keeps the history within its time and its room from now on, as long as the executions are looked after.
    pub fn keep_history(self: &Arc<Self>) {
        tokio::spawn(sweep::run(Arc::downgrade(self)));
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

    /// What the history takes, for Prometheus.
    pub fn history_metrics(&self) -> String {
        self.meter.text()
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

    /// What a queued execution waits for; `None` when it is not queued. Of the running executions that hold the slots,
    /// those whose action is `visible` are named.
    pub fn waiting(&self, id: &ExecutionId, visible: impl Fn(&ActionRef) -> bool) -> Option<Waiting> {
        let core = self.lock();
        let live = core.live.get(id)?;
        (live.record.state == State::Queued).then(|| core.board.waiting(id, visible)).flatten()
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
        let next = self.lock().board.next(clock::boot_ms());
        for id in next {
            self.launch(&id);
        }
    }

    /// Asks the launcher to start an execution that has a place, if its caller still has the grant.
    fn launch(self: &Arc<Self>, id: &ExecutionId) {
        if let Some(principal) = self.revoked(id) {
            // From here on nobody else starts or ends it.
            if self.take_back(id, expires) {
                tracing::warn!(execution = %id, %principal, "not started: the grant was revoked while it waited");
                self.abort(id, State::Error, format!("{REVOKED}: no grant lets {principal} run it any more"));
            }
            return;
        }
        let start = {
            let mut core = self.lock();
            let Some(live) = core.live.get_mut(id) else { return };
            if let Some(expiry) = live.expiry.take() {
                expiry.abort();
            }
            let start = if live.standing() == Standing::Waits { live.start.take() } else { None };
            live.asked |= start.is_some();
            start
        };
        let Some(start) = start else { return };
        let (exec, id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            let answer = answered(exec.ask_to_start(&id, start).await);
            if let Some(live) = exec.lock().live.get_mut(&id) {
                live.asked = answer == Answered::Nobody;
            }
            match answer {
                Answered::Nobody => {}
                // Its shim may have gone before we could tell.
                Answered::HasShim | Answered::LookAgain => exec.reconcile(&id),
                Answered::Refused(reason) => {
                    tracing::warn!(execution = %id, reason, "it was not started");
                    let gone = exec.is_gone(&id);
                    let reason = if gone { format!("the pushed version has gone: {reason}") } else { reason };
                    exec.abort(&id, State::Error, reason);
                }
            }
        });
    }

    /// The caller of an execution that waits, when the grants in force do not let it run that any more.
    fn revoked(&self, id: &ExecutionId) -> Option<Principal> {
        let live = |live: &Live| (live.standing() == Standing::Waits).then(|| live.record.clone());
        let record = self.lock().live.get(id).and_then(live)?;
        self.revoked_for(record)
    }

    fn revoked_for(&self, record: Execution) -> Option<Principal> {
        let Execution { action, version, digest, principal, .. } = record;
        let class = self.registry.action_in(&action, &version, &digest).map(|active| active.action.class);
        let lets_run =
            self.access.lets_run(&principal, &action, class) || self.access.lets_run(&principal, &action, None);
        (!lets_run).then_some(principal)
    }

    /// Asks for a start, and again while the launcher lets no more run at once: those that it counts and we do not, such as
    /// what a shim that died left behind, are seen to meanwhile. A kill counts when it comes to the start.
    async fn ask_to_start(&self, id: &ExecutionId, start: Box<Start>) -> Result<Outcome, LauncherError> {
        for _ in 0..START_ATTEMPTS {
            match self.launcher.ask(Operation::Start(start.clone())).await {
                Ok(Outcome::Refused { code: Refusal::TooManyRunning, message }) => {
                    tracing::warn!(execution = %id, message, "it has to wait for its start");
                    tokio::time::sleep(START_PAUSE).await;
                    let record = self.lock().live.get(id).map(|live| live.record.clone());
                    if let Some(principal) = record.and_then(|record| self.revoked_for(record)) {
                        tracing::warn!(execution = %id, %principal, "not started: the grant was revoked while it waited");
                        let message = REVOKED.to_owned();
                        return Ok(Outcome::Refused { code: Refusal::Other, message });
                    }
                }
                answer => return answer,
            }
        }
        self.launcher.ask(Operation::Start(start)).await
    }

    /// Has the launcher record that an execution waits, so that it may start when its version has been replaced meanwhile. Of a
    /// refusal the start tells.
    fn record_waiting(self: &Arc<Self>, id: &ExecutionId) {
        let start = self.lock().live.get(id).and_then(|live| live.start.clone());
        let Some(start) = start else { return };
        let (exec, id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            if let Ok(Outcome::Refused { code, message }) = exec.launcher.ask(Operation::Accept(start)).await {
                tracing::warn!(execution = %id, ?code, message, "the launcher does not record that it waits");
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

    /// Nothing is watched any more.
    fn forget_watches(&self) {
        self.lock().live.values_mut().for_each(|live| live.watch = None);
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
    fn track(&self, record: Execution, start: Option<Box<Start>>) {
        let id = record.id.clone();
        let watch = self.watcher.watch(&self.directory(&id), &id, Care::States);
        let watch = watch.map_err(|error| self.blind.begin(&self.health, &error)).ok();
        let (progress, _) = channel::channel(Progress::default());
        let live = Live { record, start, asked: false, progress, watch, followers: 0, expiry: None, ending: false };
        self.lock().live.insert(id, live);
    }

    /// Ends an execution that still waits after so long.
    fn expire_in(self: &Arc<Self>, id: &ExecutionId, most: Duration) {
        let (exec, expiring) = (Arc::downgrade(self), id.clone());
        let timer = tokio::spawn(async move {
            tokio::time::sleep(most).await;
            let Some(exec) = exec.upgrade() else { return };
            if exec.take_back(&expiring, expires) {
                exec.abort(&expiring, State::Expired, EXPIRED.to_owned());
            }
        });
        if let Some(live) = self.lock().live.get_mut(id) {
            live.expiry = Some(timer.abort_handle());
        }
    }

    /// Takes an execution that waits away from its start, if `so` decides it. From then on nobody else ends or starts it.
    fn take_back(&self, id: &ExecutionId, so: impl FnOnce(Option<Standing>) -> bool) -> bool {
        let mut core = self.lock();
        let live = core.live.get_mut(id);
        so(live.as_ref().map(|live| live.standing())) && live.is_some_and(|live| live.start.take().is_some())
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
            kill_note: None,
            waiting: None,
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
