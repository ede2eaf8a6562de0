//! Executions, from acceptance to their terminal state. Contains no HTTP types.
//!
//! ```text
//!  submit ──▶ admission ──▶ exec/<id>/spec ──▶ history (on disk) ──▶ 202
//!                 │                                │
//!                 └─── queue ─── start_ready ──▶ launcher: Start
//!                                                  │
//!  waiters, followers ◀── apply_change ◀── reconcile ◀── inotify: started, exit, lock
//! ```
//!
//! Every state change is decided by `state`, written to the history, and only then shown. Executions that have not ended are
//! in `Tables::live`; ended ones are in the history only. No process is signalled from here: the launcher is asked to do it.
//!
//! The execution directory is the truth and the history its index. Whichever process ends an execution writes its exit
//! record into the directory: the shim, or the api for an execution that never had a shim or whose shim died (`killed` in the
//! queue, `expired`, `error`, `interrupted`, `lost`). A lost history is therefore rebuilt from the directories, and nothing is
//! started twice. The api never stores PIDs; it learns of all this from one inotify descriptor: `exit` appears, output grows,
//! or `lock` is closed by a shim that died.
//!
//! | module | owns |
//! |---|---|
//! | `admission` | slots, queue, concurrency groups, rates |
//! | `submit`, `start`, `expiry`, `kill` | accept, start, expire and kill an execution |
//! | `live`, `reconcile`, `apply`, `state` | executions that have not ended, and their state changes |
//! | `watch`, `poll_fallback` | notice changes in execution directories |
//! | `recovery` | executions from before a restart |
//! | `segments`, `archive`, `output`, `tail` | output: as written, archived, and both read alike |
//! | `retention` | age limit and disk budget of the history |
//! | `audited` | entries of executions in the audit log, and the marks of those that may have none |
//! | `directory`, `spare_directories`, `disk_reserve`, `host_fault` | files, directories made in advance, disk space, errno classes |
//! | `launcher`, `usage` | the launcher's socket, cgroups |
//!
//! Modules import only modules below them in this order: `recovery`, `submit`, `start` … → `reconcile` → `apply` → `state` →
//! `directory`; `retention`, `tail` → `output` → `archive` → `segments`.

mod admission;
mod apply;
mod archive;
mod audited;
mod caller_limits;
mod directory;
mod disk_reserve;
mod expiry;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
mod host_fault;
mod kill;
mod launcher;
mod live;
pub mod output;
mod poll_fallback;
mod reconcile;
mod recovery;
mod retention;
mod segments;
mod spare_directories;
mod start;
mod starts_to_write;
mod state;
mod submit;
pub mod tail;
pub mod usage;
mod watch;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use packs_schema::agent::config::Config;
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::{Execution, Waiting};
use packs_schema::base::name::{ActionRef, ExecutionId, InstanceId};
use tokio::sync::watch as channel;

pub use apply::EventFollower;
pub use archive::{Archive, Section};
pub(crate) use audited::remove_marks;
pub use host_fault::HostFault;
pub use kill::KillError;
pub use launcher::{Launcher, LauncherError};
pub use live::{Follow, Progress};
pub use recovery::RECOVERING;
pub use retention::Budget;
pub use segments::{Piece, SegmentError};
pub(crate) use submit::seconds_to_wait;
pub use submit::{Order, SubmitError, check_class, check_version};

use crate::access::Access;
use crate::audit::Audit;
use crate::health::Health;
use crate::history::{History, HistoryError};
use crate::metrics::{HistorySize, Metrics};
use crate::registry::Registry;
use admission::Slots;
use disk_reserve::DiskReserve;
use live::Tables;
use poll_fallback::PollFallback;
use retention::Meter;
use segments::SegmentReaders;
use spare_directories::SpareDirectories;
use watch::Watcher;

/// Settings that stay the same while the agent runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// State directory of the agent.
    pub state: PathBuf,
    /// Directory with one subdirectory per execution.
    pub executions: PathBuf,
    /// Id of this instance.
    pub instance: InstanceId,
    /// Maximum number of running executions.
    pub max_running: u32,
    /// Maximum number of queued executions.
    pub max_queued: u32,
    /// Age at which ended executions are removed from the history.
    pub keep: Duration,
    /// Disk budget of the history.
    pub budget: Budget,
    /// Content of `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
}

impl Settings {
    /// Returns the settings of an agent on this instance, in this boot.
    pub fn new(config: &Config, instance: InstanceId, boot_id: String) -> Settings {
        Settings {
            state: config.paths.state.clone(),
            executions: config.paths.executions(),
            instance,
            max_running: config.execution.max_running,
            max_queued: config.execution.max_queued,
            keep: config.history.keep.0,
            budget: Budget { max_bytes: config.history.max_bytes.0, max_files: config.history.max_files },
            boot_id,
        }
    }
}

/// Error returned when executions from before a restart cannot be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The history failed.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The directory of executions cannot be read.
    #[error("cannot read {0:?}")]
    Directory(PathBuf, #[source] io::Error),
    /// No launcher is there to clean up after an execution whose shim died.
    #[error("the launcher has exited; its successor starts another api, which continues the recovery")]
    LauncherGone,
}

/// Handle of the execution engine; one per process, shared by all requests.
pub struct Exec {
    /// Limits, paths and the boot id; read only.
    settings: Settings,
    /// Index of all executions; serialises its own writes.
    history: Arc<History>,
    /// Activated packs: action definitions for admission rules, and to notice withdrawn pushed versions.
    registry: Arc<Registry>,
    /// Grants in force: checked again when a queued execution starts.
    access: Arc<Access>,
    /// Connection to the launcher, which alone starts and signals processes.
    launcher: Launcher,
    /// Audit log: executions and kills are recorded in it.
    audit: Arc<Audit>,
    /// Health reasons that this module sets and clears.
    health: Arc<Health>,
    /// Counters of states and durations.
    metrics: Arc<Metrics>,
    /// Inotify watches on the directories of live executions.
    watcher: Watcher,
    /// Polls the directories that inotify cannot watch.
    poll_fallback: PollFallback,
    /// Directories for the next executions.
    spares: SpareDirectories,
    /// Preallocated file, released when the end of a running execution meets a full disk.
    disk_reserve: DiskReserve,
    /// Slots, queue and live executions. Locked for short sections, never across an `.await`, and never while another lock
    /// is held.
    tables: Mutex<Tables>,
    /// Number of followers of events: with any, every change is written as it happens.
    event_followers: AtomicUsize,
    /// Held while changes are written for a reader of the history.
    writing_started: tokio::sync::Mutex<()>,
    /// Readers of output segments: retention does not remove what is being read.
    readers: Arc<SegmentReaders>,
    /// Disk use of the history, updated as executions end and outputs are removed.
    meter: Arc<Meter>,
}

impl Exec {
    /// Recovers the executions from before the restart, then begins to watch. Nothing is accepted before this returns.
    #[expect(clippy::too_many_arguments, reason = "the parts of the agent that it uses")]
    pub async fn begin(
        settings: Settings,
        history: Arc<History>,
        registry: Arc<Registry>,
        access: Arc<Access>,
        launcher: Launcher,
        audit: Arc<Audit>,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Exec>, RecoverError> {
        let poll_fallback = PollFallback::default();
        let watcher = Watcher::new();
        let inotify = watcher.enable().map_err(|error| poll_fallback.engage(&health, &error)).ok();
        let tables = Mutex::new(Tables::new(Slots::new(settings.max_running, settings.max_queued)));
        let disk_reserve = DiskReserve::new(&settings.state);
        let spares = SpareDirectories::new(&settings.executions);
        let exec = Arc::new(Exec {
            settings,
            history,
            registry,
            access,
            launcher,
            audit,
            health,
            metrics,
            watcher,
            poll_fallback,
            spares,
            disk_reserve,
            tables,
            event_followers: AtomicUsize::new(0),
            writing_started: tokio::sync::Mutex::default(),
            readers: Arc::default(),
            meter: Arc::default(),
        });
        exec.has_disk_space();
        recovery::recover(&exec).await?;
        exec.complete_audit().await?;
        tokio::spawn(poll_fallback::run(Arc::downgrade(&exec)));
        if let Some(inotify) = inotify {
            exec.dispatch_events(inotify);
        }
        Ok(exec)
    }

    /// Dispatches inotify events from now on; if that fails, directories are polled.
    fn dispatch_events(self: &Arc<Self>, inotify: inotify::Inotify) {
        let exec = self.clone();
        tokio::spawn(async move {
            if let Err(error) = watch::run(inotify, exec.clone()).await {
                exec.watcher.disable();
                exec.clear_watches();
                exec.poll_fallback.engage(&exec.health, &error);
            }
        });
    }

    /// Enforces the age limit and the disk budget of the history from now on, for as long as this handle exists.
    pub fn keep_history(self: &Arc<Self>) {
        tokio::spawn(retention::run(Arc::downgrade(self)));
    }

    /// Connection to the launcher.
    pub fn launcher(&self) -> &Launcher {
        &self.launcher
    }

    /// Numbers of running and of queued executions.
    pub fn counts(&self) -> (u32, u32) {
        let tables = self.lock();
        (tables.slots.running(), tables.slots.queued())
    }

    /// Size of the history, for metrics.
    pub fn history_size(&self) -> HistorySize {
        self.meter.size()
    }

    /// Maximum numbers of running and of queued executions.
    pub fn bounds(&self) -> (u32, u32) {
        (self.settings.max_running, self.settings.max_queued)
    }

    /// Directory of an execution.
    pub fn directory(&self, id: &ExecutionId) -> PathBuf {
        self.settings.executions.join(id.as_str())
    }

    /// Returns what a queued execution waits for; `None` when it is not queued. Names only those running executions whose action
    /// is `visible`.
    pub fn waiting(&self, id: &ExecutionId, visible: impl Fn(&ActionRef) -> bool) -> Option<Waiting> {
        let tables = self.lock();
        let live = tables.live.get(id)?;
        (live.record.state == State::Queued).then(|| tables.slots.waiting(id, visible)).flatten()
    }

    /// Returns an execution in its present state.
    pub async fn view(&self, id: &ExecutionId) -> Result<Option<Execution>, HistoryError> {
        let live = self.lock().live.get(id).map(|live| live.record.clone());
        match live {
            Some(record) => Ok(Some(record)),
            None => self.history.get(id).await,
        }
    }

    /// Subscribes to the progress of an execution; `None` when it has ended or is unknown.
    pub fn progress(&self, id: &ExecutionId) -> Option<channel::Receiver<Progress>> {
        self.lock().live.get(id).map(|live| live.progress.subscribe())
    }

    /// Waits at most `timeout` for the end, then returns the execution in its present state.
    pub async fn wait(&self, id: &ExecutionId, timeout: Duration) -> Result<Option<Execution>, HistoryError> {
        if let Some(mut progress) = self.progress(id) {
            let end = progress.wait_for(|progress| progress.ended.is_some());
            if let Ok(Ok(ended)) = tokio::time::timeout(timeout, end).await
                && let Some(record) = &ended.ended
            {
                return Ok(Some(Execution::clone(record)));
            }
        }
        self.view(id).await
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
