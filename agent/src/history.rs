//! History of executions, in SQLite: the index of the execution directories.
//!
//! ```text
//!  exec ──Write──▶ bounded channel ──▶ writer thread ──one commit for a batch──▶ history.db
//!  api  ──closure─▶ bounded channel ──▶ reader thread ◀─────────────────────────────┘
//! ```
//!
//! Imports nothing of the agent but its clocks, and decides nothing: the states of executions and what to remove are decided by
//! `exec`. The row of an ended execution never changes again, except for the location of its output. Secrets are never stored:
//! callers pass masked parameters.
//!
//! - **Ages** come from the history's own clock (`clock`), not from the wall clock.
//! - **Outputs** are archived a day after the end: up to 8 KiB into the database, larger ones into a file (`retention` here
//!   and in `exec`).
//! - **Damage** (`damage`): the file is quarantined at a start, and a new one is made with what can be salvaged.
//! - **Events** are kept as long as their rows, and at most 200,000 of them.
//! - **Cursors** of events and pages name the history file by its epoch, a random number made with the file, and made again when
//!   the end of its write-ahead log was lost, because event numbers are then used again. A cursor of another epoch, beyond the
//!   newest event or before the oldest is `cursor_gone` (410), with the cursor to begin again from. A cursor without an
//!   epoch, as earlier versions gave, is only compared with the newest event.

mod audit_mark;
mod change;
mod clock;
mod compact;
mod damage;
mod error;
mod listing;
mod query;
mod retention;
mod row;
mod salvage;
mod schema;
mod types;
mod wal;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use packs_schema::agent::execution::State;
use packs_schema::agent::rest::{EventCursor, Execution, StateChange};
use packs_schema::base::name::{ActionRef, ExecutionId, IdempotencyKey, InstanceId, Principal};
use rusqlite::{Connection, InterruptHandle};
use tokio::sync::{mpsc, oneshot, watch};

pub use clock::{ClockReading, ReadClocks};
pub use error::HistoryError;
pub use query::{Cursor, Filter};
pub use retention::{OutputLocation, Stored, Tally};
pub use types::{Accepted, BootTime, CursorCheck, Key, WriteOutcome};

use clock::HistoryClock;
use damage::DamageReporter;
use retention::{RetentionJob, RetentionResult};
use writer::{Write, Writer};

/// Capacity of the queue of each thread; when it is full, callers wait.
const QUEUE: usize = 256;
/// Stack size of each thread in bytes; their frames are small.
const STACK: usize = 512 << 10;

/// Frees what SQLite caches for a connection.
const RELEASE_MEMORY: &str = "PRAGMA shrink_memory;";

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// Handle of the history; its threads end when [`History::close`] is called.
pub struct History {
    /// Id of this instance; rows do not repeat it.
    instance: InstanceId,
    /// Path of the database.
    path: PathBuf,
    /// Name of this file in cursors.
    epoch: String,
    /// Queue of the writer thread; `None` once closed.
    writes: Mutex<Option<mpsc::Sender<Write>>>,
    /// Queue of the reader thread; `None` once closed.
    reads: Mutex<Option<mpsc::Sender<Job>>>,
    /// Threads to join on close.
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Interrupts the integrity check of a large file on close.
    check: Mutex<Option<InterruptHandle>>,
    /// Number of the newest event; set by the writer thread.
    newest: watch::Receiver<u64>,
    /// Becomes true when damage is found.
    damaged: watch::Receiver<bool>,
    /// Reports damage that a statement meets.
    reporter: DamageReporter,
    /// True if rows may be missing.
    needs_import: bool,
}

impl History {
    /// Opens `path`. A damaged file is quarantined as `history.db.corrupt-<ms>`, which is logged, and a new one is made.
    pub fn open(path: &Path, instance: &InstanceId) -> Result<History, HistoryError> {
        History::open_with(path, instance, clock::host())
    }

    /// As [`History::open`], with the caller's clocks.
    pub fn open_with(path: &Path, instance: &InstanceId, clock: ReadClocks) -> Result<History, HistoryError> {
        let opened = schema::open_or_recreate(path, instance)?;
        schema::sync_directory(path);
        let reader = schema::open_reader(path)?;
        let mut threads = Vec::new();
        let (reporter, damaged) = DamageReporter::new(path);
        let last = writer::last_event(&opened.connection)?;
        let epoch = schema::epoch(&opened.connection)?;
        let history_clock = HistoryClock::resume(&opened.connection, &clock())?;
        let (newest, seen) = watch::channel(last);
        let (writes, to_write) = mpsc::channel(QUEUE);
        let (reads, mut to_read) = mpsc::channel::<Job>(QUEUE);
        let writer = Writer { connection: opened.connection, history_clock, clock, newest, reporter: reporter.clone() };
        threads.push(spawn("history-write", move || writer.run(to_write))?);
        let read = move || {
            while let Some(job) = to_read.blocking_recv() {
                job(&reader);
            }
        };
        threads.push(spawn("history-read", read)?);
        let mut check = None;
        if !opened.checked {
            // Reads what may be gigabytes: in a thread of its own, interrupted when the history is closed.
            let (connection, reporter) = (schema::open_reader(path)?, reporter.clone());
            check = Some(connection.get_interrupt_handle());
            threads.push(spawn("history-check", move || reporter.check(&damage::check(&connection)))?);
        }
        Ok(History {
            instance: instance.clone(),
            path: path.to_owned(),
            epoch,
            writes: Mutex::new(Some(writes)),
            reads: Mutex::new(Some(reads)),
            threads: Mutex::new(threads),
            check: Mutex::new(check),
            newest: seen,
            damaged,
            reporter,
            needs_import: opened.needs_import,
        })
    }

    /// True if rows may be missing, as when the file was made by this open: the execution directories are to be imported.
    pub fn needs_import(&self) -> bool {
        self.needs_import
    }

    /// Inserts a new execution; on disk when this returns.
    pub async fn insert(
        &self,
        record: Execution,
        key: Option<Key>,
        boot_time: Option<BootTime>,
    ) -> Result<WriteOutcome, HistoryError> {
        let record = Box::new(record);
        self.write(|reply| Write::Insert { record, key, boot_time, unaudited_after: None, reply }).await
    }

    /// As [`History::insert`], and marks the row in the same transaction as not yet in the audit log, in which its entry will be
    /// after the position `after`.
    pub async fn insert_unaudited(
        &self,
        record: Execution,
        key: Option<Key>,
        boot_time: Option<BootTime>,
        after: u64,
    ) -> Result<WriteOutcome, HistoryError> {
        let record = Box::new(record);
        self.write(|reply| Write::Insert { record, key, boot_time, unaudited_after: Some(after), reply }).await
    }

    /// Removes the marks of executions whose entries in the audit log are durable.
    pub async fn set_audited(&self, ids: Vec<ExecutionId>) -> Result<(), HistoryError> {
        self.write(|reply| Write::Audited { ids, reply }).await.map(drop)
    }

    /// Returns executions that are marked as not yet in the audit log, the oldest first, with the positions of their marks.
    pub async fn unaudited(&self, limit: u32) -> Result<Vec<(Execution, u64)>, HistoryError> {
        let instance = self.instance.clone();
        self.read(move |connection| audit_mark::list(connection, &instance, limit)).await
    }

    /// Updates an execution; `changes` are the states it went through, with their times.
    pub async fn update(&self, record: Execution, changes: Vec<(State, u64)>) -> Result<WriteOutcome, HistoryError> {
        self.write(|reply| Write::Update { record: Box::new(record), changes, reply }).await
    }

    /// Saves the history's clock, and returns how old and how large the history is.
    pub async fn tally(&self, keep: Duration) -> Result<Tally, HistoryError> {
        let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        match self.run_retention(RetentionJob::Tally { keep_ms }).await? {
            RetentionResult::Tally(tally) => Ok(tally),
            RetentionResult::Rows(_) => Err(HistoryError::Closed),
        }
    }

    /// Records where outputs have been archived; on disk when this returns.
    pub async fn archive(&self, outputs: Vec<(ExecutionId, OutputLocation)>) -> Result<usize, HistoryError> {
        self.run_retention_rows(RetentionJob::Archive(outputs)).await
    }

    /// Evicts the outputs of these rows: removes them from the database and marks the rows. Files are to be removed by the caller
    /// afterwards.
    pub async fn evict_outputs(&self, rows: Vec<i64>) -> Result<usize, HistoryError> {
        self.run_retention_rows(RetentionJob::Evict(rows)).await
    }

    /// Prunes these rows, except those that have not ended.
    pub async fn prune(&self, rows: Vec<i64>) -> Result<usize, HistoryError> {
        self.run_retention_rows(RetentionJob::Prune(rows)).await
    }

    /// Returns some of the free pages in the file to the file system.
    pub async fn shrink(&self) -> Result<(), HistoryError> {
        self.run_retention_rows(RetentionJob::Shrink).await.map(drop)
    }

    /// Returns where the output of an execution is; `None` when the execution is unknown.
    pub async fn output_location(&self, id: &ExecutionId) -> Result<Option<OutputLocation>, HistoryError> {
        let id = id.clone();
        self.read(move |connection| retention::output_location(connection, &id)).await
    }

    /// Returns where an output is that is no longer in segments, without reading it: [`OutputLocation::Empty`] also for one in the
    /// database. `None`: it is in segments, or the execution is unknown.
    pub async fn archived_location(&self, id: &ExecutionId) -> Result<Option<OutputLocation>, HistoryError> {
        let id = id.clone();
        self.read(move |connection| retention::archived_location(connection, &id)).await
    }

    /// Lists executions that ended at `until_ms` of the history's clock or before and whose outputs are in segments, in the order of
    /// their ends.
    pub async fn to_archive(&self, until_ms: Option<u64>, limit: u32) -> Result<Vec<Stored>, HistoryError> {
        self.read(move |connection| retention::to_archive(connection, until_ms, limit)).await
    }

    /// Lists the oldest executions that have an archived output; with `files`, only those with one in a file.
    pub async fn oldest_outputs(&self, files: bool, limit: u32) -> Result<Vec<Stored>, HistoryError> {
        self.read(move |connection| retention::oldest_outputs(connection, files, limit)).await
    }

    /// Lists the oldest executions that have ended, up to row `until`.
    pub async fn oldest(&self, until: Option<i64>, limit: u32) -> Result<Vec<Stored>, HistoryError> {
        self.read(move |connection| retention::oldest(connection, until, limit)).await
    }

    /// Counts the executions in the history.
    pub async fn count(&self) -> Result<u64, HistoryError> {
        self.read(retention::count).await
    }

    /// Becomes true when the file is found to be damaged: the process should end, and its next start quarantines the file.
    pub fn damaged(&self) -> watch::Receiver<bool> {
        self.damaged.clone()
    }

    /// Lists the quarantined histories, oldest first.
    pub fn quarantined(&self) -> Vec<PathBuf> {
        damage::quarantined_files(&self.path)
    }

    /// Returns an execution.
    pub async fn get(&self, id: &ExecutionId) -> Result<Option<Execution>, HistoryError> {
        let (id, instance) = (id.clone(), self.instance.clone());
        self.read(move |connection| query::get(connection, &instance, &id)).await
    }

    /// Returns the execution that a caller started with a key, and the fingerprint of its body.
    pub async fn by_key(
        &self,
        principal: &Principal,
        key: &IdempotencyKey,
    ) -> Result<Option<(Execution, String)>, HistoryError> {
        let (principal, key, instance) = (principal.clone(), key.clone(), self.instance.clone());
        self.read(move |connection| query::by_key(connection, &instance, &principal, &key)).await
    }

    /// Returns a page of executions of actions that are `visible`, newest first, and the cursor of the next page. A page that has one
    /// may have fewer executions than asked for, but is not empty.
    pub async fn list(
        &self,
        mut wanted: Filter,
        visible: impl Fn(&ActionRef) -> bool + Send + Sync + 'static,
    ) -> Result<(Vec<Execution>, Option<Cursor>), HistoryError> {
        let visible = std::sync::Arc::new(visible);
        loop {
            let (instance, visible, part) = (self.instance.clone(), visible.clone(), wanted.clone());
            let read = self.read(move |connection| listing::list(connection, &instance, &part, &*visible));
            let listing::Part { items, next } = read.await?;
            match next {
                // Other reads have their turn in between.
                Some(next) if items.is_empty() => wanted.after = Some(next),
                next => return Ok((items, next.map(|next| Cursor { epoch: Some(self.epoch.clone()), ..next }))),
            }
        }
    }

    /// Lists the executions that have not ended, oldest first.
    pub async fn unfinished(&self) -> Result<Vec<Execution>, HistoryError> {
        let instance = self.instance.clone();
        self.read(move |connection| query::unfinished(connection, &instance)).await
    }

    /// True if the execution is in the history.
    pub async fn knows(&self, id: &ExecutionId) -> Result<bool, HistoryError> {
        let id = id.clone();
        self.read(move |connection| query::knows(connection, &id)).await
    }

    /// Returns when executions of an action were accepted: since `since_ms` by the wall clock, or since `since` by the clock of the
    /// boot.
    pub async fn accepted_since(
        &self,
        action: &ActionRef,
        since_ms: u64,
        since: BootTime,
    ) -> Result<Vec<Accepted>, HistoryError> {
        let action = action.clone();
        self.read(move |connection| query::accepted_since(connection, &action, since_ms, &since)).await
    }

    /// Returns at most `limit` state changes after the event `after`, each with its cursor.
    pub async fn events(&self, after: u64, limit: u32) -> Result<Vec<StateChange>, HistoryError> {
        let mut changes = self.read(move |connection| query::events(connection, after, limit)).await?;
        for change in &mut changes {
            change.cursor = Some(self.event_cursor(change.event).to_string());
        }
        Ok(changes)
    }

    /// Returns the cursor of an event of this file.
    pub fn event_cursor(&self, event: u64) -> EventCursor {
        EventCursor { epoch: Some(self.epoch.clone()), event }
    }

    /// Checks that all events after a cursor are available, under the numbers that the cursor means.
    pub async fn check_cursor(&self, cursor: &EventCursor) -> Result<CursorCheck, HistoryError> {
        if cursor.epoch.as_ref().is_some_and(|epoch| *epoch != self.epoch) {
            return Ok(CursorCheck::OtherHistory);
        }
        let mut newest = *self.newest.borrow();
        if cursor.event > newest {
            // An event can be read a moment before it is announced.
            newest = self.read(|connection| Ok(writer::last_event(connection)?)).await?;
        }
        Ok(match cursor.event {
            event if event > newest => CursorCheck::Beyond(newest),
            // 0 asks for all that are kept.
            event if event > 0 && event.saturating_add(retention::MAX_EVENTS) < newest => CursorCheck::Pruned,
            _ => CursorCheck::Valid,
        })
    }

    /// True if a page cursor belongs to this file, or names no file.
    pub fn owns_cursor(&self, cursor: &Cursor) -> bool {
        cursor.epoch.as_ref().is_none_or(|epoch| *epoch == self.epoch)
    }

    /// Number of the newest event.
    pub fn newest_event(&self) -> watch::Receiver<u64> {
        self.newest.clone()
    }

    /// Frees the memory of SQLite's caches; they are filled again when they are used.
    pub async fn release_memory(&self) {
        // Failures have no consequence.
        let _ = self.read(|connection| Ok(connection.execute_batch(RELEASE_MEMORY)?)).await;
        let _ = self.run_retention(RetentionJob::ReleaseMemory).await;
    }

    /// Closes the history: completes the requests that were made before, then ends the threads.
    ///
    /// The writer is last: the last connection that SQLite closes writes the log back into the file and removes it, and of two
    /// that close at the same time neither is the last.
    pub async fn close(&self) {
        let mut threads = std::mem::take(&mut *lock(&self.threads));
        let others = threads.split_off(threads.len().min(1));
        drop(lock(&self.reads).take());
        if let Some(check) = lock(&self.check).take() {
            check.interrupt();
        }
        let mut well = join(others).await;
        drop(lock(&self.writes).take());
        well &= join(threads).await;
        if !well {
            tracing::error!("a thread of the history panicked");
        }
    }

    async fn run_retention(&self, job: RetentionJob) -> Result<RetentionResult, HistoryError> {
        self.write(|reply| Write::Retention { job, reply }).await
    }

    async fn run_retention_rows(&self, job: RetentionJob) -> Result<usize, HistoryError> {
        match self.run_retention(job).await? {
            RetentionResult::Rows(rows) => Ok(rows),
            RetentionResult::Tally(_) => Ok(0),
        }
    }

    async fn write<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, HistoryError>>) -> Write,
    ) -> Result<T, HistoryError> {
        let sender = lock(&self.writes).clone().ok_or(HistoryError::Closed)?;
        let (reply, answer) = oneshot::channel();
        sender.send(make(reply)).await.map_err(|_| HistoryError::Closed)?;
        drop(sender);
        answer.await.map_err(|_| HistoryError::Closed)?
    }

    async fn read<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Connection) -> Result<T, HistoryError> + Send + 'static,
    ) -> Result<T, HistoryError> {
        let sender = lock(&self.reads).clone().ok_or(HistoryError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let reporter = self.reporter.clone();
        let job: Job = Box::new(move |connection| {
            let result = ask(connection);
            reporter.check(&result);
            // The caller may have been cancelled.
            let _ = reply.send(result);
        });
        sender.send(job).await.map_err(|_| HistoryError::Closed)?;
        drop(sender);
        answer.await.map_err(|_| HistoryError::Closed)?
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Waits for threads to end; false if one panicked.
async fn join(threads: Vec<JoinHandle<()>>) -> bool {
    let joined = tokio::task::spawn_blocking(|| threads.into_iter().all(|thread| thread.join().is_ok()));
    joined.await.unwrap_or(false)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, HistoryError> {
    Builder::new()
        .name(name.to_owned())
        .stack_size(STACK)
        .spawn(work)
        .map_err(|e| HistoryError::Sqlite(format!("cannot start the thread {name}: {e}")))
}

#[cfg(test)]
mod tests;
