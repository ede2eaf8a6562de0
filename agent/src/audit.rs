//! Audit log: every call that changes something and every refused one, in files bound by a chain of hashes, and in the journal.
//!
//! ```text
//!  kill, sync, push, events ─record─▶ ┐
//!  accepted executions ─committed───▶ ├─ bounded queues ──▶ writer thread ─▶ audit/changes-*.jsonl   ─▶ answered after fsync
//!  refused calls ─refuse─▶ Refusals ─▶ ┘                        │         └▶ audit/refusals-*.jsonl
//!                          (counted)                            └─▶ journald (a copy, never waited for)
//! ```
//!
//! Formats and verification are in `packs_schema::agent::audit`; `bolt audit` reads the files. Imports of the agent only clocks,
//! health and the journal; who may do what is decided elsewhere.
//!
//! - A change is recorded before it is carried out. One that cannot be recorded is refused ([`AuditError`]), but for a kill, which
//!   is recorded as soon as the files can be written again ([`Audit::record_urgent`]).
//! - Calls that come together share one fsync. An accepted execution waits for none: its row in the history says, in the same
//!   transaction, that it is not in the audit log yet, and the file is written behind it ([`Audit::committed`]), together with those
//!   of the next 50 ms, so that executions in a row do not each wake the writer. The row loses the mark when the entry is
//!   durable; what is marked at a start is completed then ([`Audit::find_missing`]).
//! - Refusals have a chain and files of their own, are counted together when they are equal, and wait for no disk: a power cut
//!   loses those of the last seconds.
//! - Before the agent listens, nothing is granted or refused, and nothing is recorded.

mod chain_file;
mod completion;
mod fields;
mod finding;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
mod owed;
mod refusals;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use packs_schema::agent::audit::{Chain, Entry};
use packs_schema::agent::config::AuditConfig;
use packs_schema::base::name::ExecutionId;
use tokio::sync::{mpsc, oneshot};

use crate::health::Health;
use chain_file::Bounds;
use refusals::Refusals;
use writer::{Command, Writer};

/// Capacity of the writer's queue; when it is full, callers wait, and refusals are counted as lost.
const QUEUE: usize = 1024;
/// Time for which entries of accepted executions are collected, unless another command comes.
const COLLECT: Duration = Duration::from_millis(50);
/// Verb of the entries of accepted executions.
pub(crate) const RUN: &str = "run";
/// Health code while changes cannot be recorded.
const UNAVAILABLE: &str = "audit_unavailable";

/// Maximum time that a kill waits for its entry: a disk that hangs must not keep an action running.
const URGENT_PATIENCE: Duration = Duration::from_secs(1);
/// Stack size of the writer's thread in bytes.
const STACK: usize = 256 << 10;

/// Error returned when a change could not be recorded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuditError {
    /// The files cannot be written.
    #[error(
        "the audit log cannot be written ({0}): nothing was changed; free some space or repair the disk, and try again"
    )]
    Unavailable(String),
    /// The agent stops.
    #[error("the agent is stopping: try again in a moment")]
    Closed,
}

/// Settings of the audit log.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directory of the files.
    pub directory: PathBuf,
    /// Bounds of the files, and the socket of the journal.
    pub config: AuditConfig,
}

/// Numbers since the start, for metrics.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Entries written to the chain of changes.
    pub changes: u64,
    /// Entries written to the chain of refusals.
    pub refusals: u64,
    /// Refusals that have no entry.
    pub lost_refusals: u64,
    /// Entries that the journal did not take.
    pub journal_dropped: u64,
}

#[derive(Debug, Default)]
struct Counters {
    changes: AtomicU64,
    refusals: AtomicU64,
    /// Refusals without an entry, because the files could not be written or the queue was full.
    lost_refusals: AtomicU64,
    /// Entries that the journal did not take.
    journal_dropped: AtomicU64,
}

/// State that handle and writer share.
#[derive(Debug, Default)]
struct Shared {
    refusals: Mutex<Refusals>,
    /// Accepted executions that the writer has not taken yet.
    committed: Mutex<Vec<(ExecutionId, Entry)>>,
    counters: Counters,
    /// Sequence number of the newest durable change.
    durable: AtomicU64,
    /// True while changes cannot be recorded.
    unavailable: AtomicBool,
    /// Reason of that.
    reason: Mutex<String>,
}

/// Handle of the audit log; its thread ends when [`Audit::close`] is called.
pub struct Audit {
    directory: PathBuf,
    shared: Arc<Shared>,
    /// Queue of the writer; `None` once closed. Its slots are allocated at once, and a command has some 400 bytes.
    commands: Mutex<Option<SyncSender<Box<Command>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Executions whose entries have become durable.
pub type Settled = mpsc::UnboundedReceiver<Vec<ExecutionId>>;

impl Audit {
    /// Opens the audit log and starts its thread. Files that cannot be written do not prevent the start: running executions can
    /// still be seen and killed, and the writer tries again every few seconds.
    pub fn open(settings: &Settings, health: Arc<Health>) -> io::Result<(Arc<Audit>, Settled)> {
        let shared = Arc::new(Shared::default());
        let (settled, settled_receiver) = mpsc::unbounded_channel();
        let (commands, to_write) = sync_channel(QUEUE);
        let mut writer = Writer::new(settings, shared.clone(), health, settled);
        // Here, so that the first call finds it open.
        writer.open();
        let run = move || writer.run(&to_write);
        let thread = std::thread::Builder::new().name("audit".to_owned()).stack_size(STACK).spawn(run)?;
        let audit = Audit {
            directory: settings.directory.clone(),
            shared,
            commands: Mutex::new(Some(commands)),
            thread: Mutex::new(Some(thread)),
        };
        Ok((Arc::new(audit), settled_receiver))
    }

    /// Returns an error while changes cannot be recorded.
    pub fn check(&self) -> Result<(), AuditError> {
        if !self.shared.unavailable.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(AuditError::Unavailable(lock(&self.shared.reason).clone()))
    }

    /// Records a change that is about to be carried out; on disk when this returns. After an error it must not be carried out.
    pub async fn record(&self, entry: Entry) -> Result<(), AuditError> {
        self.check()?;
        let (reply, answer) = oneshot::channel();
        self.send(Command::Record { entry, reply }).await?;
        answer.await.map_err(|_| AuditError::Closed)?
    }

    /// Records a change that is carried out whether or not it can be recorded: a kill. Returns when it is on disk, when that is not
    /// possible now, or after a second; then it is written later.
    pub async fn record_urgent(&self, entry: Entry) {
        let (reply, answer) = oneshot::channel();
        let recorded = async {
            if self.send(Command::Urgent { entry, reply }).await.is_ok() {
                let _ = answer.await;
            }
        };
        // A writer that has ended belongs to an agent that stops; one that does not answer waits for its disk, and keeps the entry.
        let _ = tokio::time::timeout(URGENT_PATIENCE, recorded).await;
    }

    /// Takes the entry of an execution whose row, marked as not yet in the audit log, has been committed.
    pub async fn committed(&self, execution: ExecutionId, entry: Entry) {
        let waiting = {
            let mut committed = lock(&self.shared.committed);
            committed.push((execution, entry));
            committed.len()
        };
        // Without a writer the mark stays, and the next start completes the log.
        if waiting == 1 {
            let _ = self.send(Command::Committed).await;
        } else if waiting >= QUEUE {
            // A writer that waits for its disk holds up callers rather than collect without bound.
            let _ = self.flush().await;
        }
    }

    /// Waits until everything is durable that was passed before.
    pub async fn flush(&self) -> Result<(), AuditError> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Flush { reply }).await?;
        answer.await.map_err(|_| AuditError::Closed)?
    }

    /// Records a refused call, or counts it with equal ones. Waits for nothing.
    pub fn refuse(&self, entry: Entry) {
        let Some(entry) = lock(&self.shared.refusals).add(entry, Instant::now()) else { return };
        let Some(commands) = lock(&self.commands).clone() else { return };
        if commands.try_send(Box::new(Command::Refusal { entry })).is_err() {
            self.shared.counters.lost_refusals.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the sequence number after which the entries of executions are that are accepted from now on.
    pub fn position(&self) -> u64 {
        self.shared.durable.load(Ordering::Relaxed)
    }

    /// Returns those of `marked` that have no entry after the sequence number `after`. Reads the files.
    pub fn find_missing(&self, marked: HashSet<ExecutionId>, after: u64) -> io::Result<HashSet<ExecutionId>> {
        completion::find_missing(&self.directory, marked, after)
    }

    /// Returns the numbers of entries since the start.
    pub fn counts(&self) -> Counts {
        let Counters { changes, refusals, lost_refusals, journal_dropped } = &self.shared.counters;
        let [changes, refusals, lost_refusals, journal_dropped] =
            [changes, refusals, lost_refusals, journal_dropped].map(|counter| counter.load(Ordering::Relaxed));
        Counts { changes, refusals, lost_refusals, journal_dropped }
    }

    /// Writes what is waiting, counts of refusals included, and ends the thread.
    pub async fn close(&self) {
        drop(lock(&self.commands).take());
        let Some(thread) = lock(&self.thread).take() else { return };
        let joined = tokio::task::spawn_blocking(move || thread.join().is_ok()).await;
        if !joined.unwrap_or(false) {
            tracing::error!("the thread of the audit log panicked");
        }
    }

    async fn send(&self, command: Command) -> Result<(), AuditError> {
        let commands = lock(&self.commands).clone().ok_or(AuditError::Closed)?;
        match commands.try_send(Box::new(command)) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(AuditError::Closed),
            Err(TrySendError::Full(command)) => {
                let sent = tokio::task::spawn_blocking(move || commands.send(command).is_ok()).await;
                if sent.unwrap_or(false) { Ok(()) } else { Err(AuditError::Closed) }
            }
        }
    }
}

impl Settings {
    fn bounds(&self, chain: Chain) -> Bounds {
        let max_files = match chain {
            Chain::Changes => self.config.max_files,
            Chain::Refusals => self.config.max_refusal_files,
        };
        Bounds { file_bytes: self.config.file_bytes.0, max_files: usize::try_from(max_files).unwrap_or(usize::MAX) }
    }

    fn journal(&self) -> &Path {
        &self.config.journal_socket
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
