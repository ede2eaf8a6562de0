//! The history of executions, in SQLite: the index of what the execution directories say.
//!
//! ```text
//!  exec ──Write──▶ bounded channel ──▶ writer thread ──one commit for all that wait──▶ history.db
//!  api  ──closure─▶ bounded channel ──▶ reader thread ◀───────────────────────────────────┘
//! ```
//!
//! It calls nobody and decides nothing: which state an execution has, and what goes when, is `exec`'s to say. A row
//! that has ended is never changed again, but for where its output is. Secrets never come here: callers hand in masked
//! parameters. How old something is comes from the life clock (`life`), not from the wall clock. A damaged file
//! (`damage`) is set aside at a start, and a new one begun.

mod change;
mod compact;
mod damage;
mod error;
mod keep;
mod life;
mod log;
mod query;
mod row;
mod salvage;
mod schema;
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

pub use error::HistoryError;
pub use keep::{Place, Stored, Tally};
pub use life::{Clock, Reading};
pub use query::{Cursor, Wanted};

use damage::Alarm;
use keep::{Keep, Kept};
use life::Life;
use writer::{Write, Writer};

/// What waits for either thread at most; beyond, askers wait.
const WAITING: usize = 256;
/// Both threads work with small frames.
const STACK: usize = 512 << 10;

/// A caller's key, with the keyed hash of the body that came with it.
#[derive(Debug, Clone)]
pub struct Key {
    /// The key.
    pub key: IdempotencyKey,
    /// The hash, in hexadecimal.
    pub fingerprint: String,
}

/// When an execution was accepted by the clock of the boot (`CLOCK_BOOTTIME`), which nobody sets; kept for those whose
/// action has a rate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Born {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Milliseconds since the host started.
    pub boottime_ms: u64,
}

/// When an execution was accepted, by both clocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// The other clock, where it was kept.
    pub born: Option<Born>,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq)]
pub enum Inserted {
    /// It is written.
    New,
    /// The caller's key stands for this execution already, made with a body of this fingerprint.
    Existing(Box<Execution>, String),
    /// The execution is unknown or has ended: nothing was changed.
    Unchanged,
}

/// Whether the events after a cursor can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FollowUp {
    /// They can.
    There,
    /// The cursor is of another history file.
    OtherHistory,
    /// The newest event has this lower number.
    Beyond(u64),
    /// Some of them are no longer kept.
    Forgotten,
}

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// The handle; its threads end when [`History::close`] is called.
pub struct History {
    instance: InstanceId,
    path: PathBuf,
    /// Names this file in cursors.
    epoch: String,
    writes: Mutex<Option<mpsc::Sender<Write>>>,
    reads: Mutex<Option<mpsc::Sender<Job>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    checking: Mutex<Option<InterruptHandle>>,
    newest: watch::Receiver<u64>,
    damaged: watch::Receiver<bool>,
    alarm: Alarm,
    fresh: bool,
}

impl History {
    /// Opens `path`. A damaged file is set aside as `history.db.corrupt-<ms>`, loudly, and a new one begun.
    pub fn open(path: &Path, instance: &InstanceId) -> Result<History, HistoryError> {
        History::open_with(path, instance, life::host())
    }

    /// [`History::open`] with clocks of the caller's.
    pub fn open_with(path: &Path, instance: &InstanceId, clock: Clock) -> Result<History, HistoryError> {
        let opened = schema::open_or_begin(path, instance)?;
        let reader = schema::open_reader(path)?;
        let mut threads = Vec::new();
        let (alarm, damaged) = Alarm::new(path);
        let last = writer::last_event(&opened.connection)?;
        let epoch = schema::epoch(&opened.connection)?;
        let life = Life::resume(&opened.connection, &clock())?;
        let (newest, seen) = watch::channel(last);
        let (writes, to_write) = mpsc::channel(WAITING);
        let (reads, mut to_read) = mpsc::channel::<Job>(WAITING);
        let writer = Writer { connection: opened.connection, life, clock, newest, alarm: alarm.clone() };
        threads.push(spawn("history-write", move || writer.run(to_write))?);
        let read = move || {
            while let Some(job) = to_read.blocking_recv() {
                job(&reader);
            }
        };
        threads.push(spawn("history-read", read)?);
        let mut checking = None;
        if !opened.checked {
            // Reads what may be gigabytes: beside the others, and not for longer than the agent runs.
            let (connection, alarm) = (schema::open_reader(path)?, alarm.clone());
            checking = Some(connection.get_interrupt_handle());
            threads.push(spawn("history-check", move || alarm.hear(&damage::check(&connection)))?);
        }
        Ok(History {
            instance: instance.clone(),
            path: path.to_owned(),
            epoch,
            writes: Mutex::new(Some(writes)),
            reads: Mutex::new(Some(reads)),
            threads: Mutex::new(threads),
            checking: Mutex::new(checking),
            newest: seen,
            damaged,
            alarm,
            fresh: opened.fresh,
        })
    }

    /// True if rows may be missing, as when the file was made by this open: what the execution directories hold is to
    /// be read in.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Remembers a new execution, on disk when this returns.
    pub async fn insert(
        &self,
        record: Execution,
        key: Option<Key>,
        born: Option<Born>,
    ) -> Result<Inserted, HistoryError> {
        self.write(|reply| Write::Insert { record: Box::new(record), key, born, reply }).await
    }

    /// Remembers what became of an execution; `changes` are the states it went through, with their times.
    pub async fn update(&self, record: Execution, changes: Vec<(State, u64)>) -> Result<Inserted, HistoryError> {
        self.write(|reply| Write::Update { record: Box::new(record), changes, reply }).await
    }

    /// Saves the life clock, and says how old and how large the history is.
    pub async fn tally(&self, keep: Duration) -> Result<Tally, HistoryError> {
        let keep_ms = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX);
        match self.keep(Keep::Tally { keep_ms }).await? {
            Kept::Tally(tally) => Ok(tally),
            Kept::Rows(_) => Err(HistoryError::Closed),
        }
    }

    /// These outputs have been put elsewhere; on disk when this returns.
    pub async fn archive(&self, outputs: Vec<(ExecutionId, Place)>) -> Result<usize, HistoryError> {
        self.keep_rows(Keep::Archive(outputs)).await
    }

    /// The outputs of these rows go, from the database and (after this returns) from wherever else; the rows say so.
    pub async fn drop_outputs(&self, rows: Vec<i64>) -> Result<usize, HistoryError> {
        self.keep_rows(Keep::Drop(rows)).await
    }

    /// Forgets these rows, but for those that have not ended.
    pub async fn forget(&self, rows: Vec<i64>) -> Result<usize, HistoryError> {
        self.keep_rows(Keep::Forget(rows)).await
    }

    /// Gives some of the free room in the file back to the file system.
    pub async fn shrink(&self) -> Result<(), HistoryError> {
        self.keep_rows(Keep::Shrink).await.map(drop)
    }

    /// Where the output of an execution is; `None` when the execution is not known.
    pub async fn place(&self, id: &ExecutionId) -> Result<Option<Place>, HistoryError> {
        let id = id.clone();
        self.read(move |connection| keep::place(connection, &id)).await
    }

    /// Where an output is that is not in its directory's segments, without reading it: [`Place::Nothing`] also for one in
    /// the database.
    pub async fn lies_elsewhere(&self, id: &ExecutionId) -> Result<Option<Place>, HistoryError> {
        let id = id.clone();
        self.read(move |connection| keep::lies_elsewhere(connection, &id)).await
    }

    /// Executions that ended at `until_ms` of the history's life or before, and whose outputs lie as they were written;
    /// in the order of their ends.
    pub async fn to_archive(&self, until_ms: Option<u64>, limit: u32) -> Result<Vec<Stored>, HistoryError> {
        self.read(move |connection| keep::to_archive(connection, until_ms, limit)).await
    }

    /// The oldest executions that have an archived output; `files`: one in a file.
    pub async fn oldest_outputs(&self, files: bool, limit: u32) -> Result<Vec<Stored>, HistoryError> {
        self.read(move |connection| keep::oldest_outputs(connection, files, limit)).await
    }

    /// The oldest executions that have ended, up to a row.
    pub async fn oldest(&self, until: Option<i64>, limit: u32) -> Result<Vec<Stored>, HistoryError> {
        self.read(move |connection| keep::oldest(connection, until, limit)).await
    }

    /// How many executions are remembered.
    pub async fn count(&self) -> Result<u64, HistoryError> {
        self.read(keep::count).await
    }

    /// Turns true when the file is found to be damaged: the process is to end, and its next start begins anew.
    pub fn damaged(&self) -> watch::Receiver<bool> {
        self.damaged.clone()
    }

    /// Damaged histories that were set aside and are still there.
    pub fn set_aside(&self) -> Vec<PathBuf> {
        damage::aside_of(&self.path)
    }

    /// One execution.
    pub async fn get(&self, id: &ExecutionId) -> Result<Option<Execution>, HistoryError> {
        let (id, instance) = (id.clone(), self.instance.clone());
        self.read(move |connection| query::get(connection, &instance, &id)).await
    }

    /// The execution that a caller made with a key, and the fingerprint of its body.
    pub async fn by_key(
        &self,
        principal: &Principal,
        key: &IdempotencyKey,
    ) -> Result<Option<(Execution, String)>, HistoryError> {
        let (principal, key, instance) = (principal.clone(), key.clone(), self.instance.clone());
        self.read(move |connection| query::by_key(connection, &instance, &principal, &key)).await
    }

    /// A page of executions of actions that are `visible`, newest first, and the place of the next page.
    pub async fn list(
        &self,
        wanted: Wanted,
        visible: impl Fn(&ActionRef) -> bool + Send + 'static,
    ) -> Result<(Vec<Execution>, Option<Cursor>), HistoryError> {
        let (instance, epoch) = (self.instance.clone(), self.epoch.clone());
        let page = self.read(move |connection| query::list(connection, &instance, &wanted, &visible)).await?;
        Ok((page.0, page.1.map(|place| Cursor { epoch: Some(epoch), ..place })))
    }

    /// Every execution that has not ended, oldest first.
    pub async fn unfinished(&self) -> Result<Vec<Execution>, HistoryError> {
        let instance = self.instance.clone();
        self.read(move |connection| query::unfinished(connection, &instance)).await
    }

    /// True if the execution is remembered.
    pub async fn knows(&self, id: &ExecutionId) -> Result<bool, HistoryError> {
        let id = id.clone();
        self.read(move |connection| query::knows(connection, &id)).await
    }

    /// When an action's executions were accepted: since `since_ms` by the wall clock, or since `since` by that of the boot.
    pub async fn accepted_since(
        &self,
        action: &ActionRef,
        since_ms: u64,
        since: Born,
    ) -> Result<Vec<Accepted>, HistoryError> {
        let action = action.clone();
        self.read(move |connection| query::accepted_since(connection, &action, since_ms, &since)).await
    }

    /// At most `limit` state changes after the event `after`, each with its cursor.
    pub async fn events(&self, after: u64, limit: u32) -> Result<Vec<StateChange>, HistoryError> {
        let mut changes = self.read(move |connection| query::events(connection, after, limit)).await?;
        for change in &mut changes {
            change.cursor = Some(self.event_cursor(change.event).to_string());
        }
        Ok(changes)
    }

    /// The cursor of an event of this file.
    pub fn event_cursor(&self, event: u64) -> EventCursor {
        EventCursor { epoch: Some(self.epoch.clone()), event }
    }

    /// Checks that what follows a cursor is there: all of it, and under the numbers that the cursor means.
    pub async fn follow_up(&self, cursor: &EventCursor) -> Result<FollowUp, HistoryError> {
        if cursor.epoch.as_ref().is_some_and(|epoch| *epoch != self.epoch) {
            return Ok(FollowUp::OtherHistory);
        }
        let mut newest = *self.newest.borrow();
        if cursor.event > newest {
            // An event can be read a moment before it is announced.
            newest = self.read(|connection| Ok(writer::last_event(connection)?)).await?;
        }
        Ok(match cursor.event {
            event if event > newest => FollowUp::Beyond(newest),
            // 0 asks for all that are kept.
            event if event > 0 && event.saturating_add(keep::MAX_EVENTS) < newest => FollowUp::Forgotten,
            _ => FollowUp::There,
        })
    }

    /// True if a cursor of a listing comes from this file, or names none.
    pub fn gave(&self, cursor: &Cursor) -> bool {
        cursor.epoch.as_ref().is_none_or(|epoch| *epoch == self.epoch)
    }

    /// The number of the newest event, as it rises.
    pub fn newest_event(&self) -> watch::Receiver<u64> {
        self.newest.clone()
    }

    /// Ends the threads after what was asked before; those who asked go on being answered meanwhile.
    pub async fn close(&self) {
        drop(lock(&self.writes).take());
        drop(lock(&self.reads).take());
        if let Some(checking) = lock(&self.checking).take() {
            checking.interrupt();
        }
        let threads = std::mem::take(&mut *lock(&self.threads));
        let joined = tokio::task::spawn_blocking(|| threads.into_iter().map(JoinHandle::join).all(|end| end.is_ok()));
        if !joined.await.unwrap_or(false) {
            tracing::error!("a thread of the history panicked");
        }
    }

    async fn keep(&self, job: Keep) -> Result<Kept, HistoryError> {
        self.write(|reply| Write::Keep { job, reply }).await
    }

    async fn keep_rows(&self, job: Keep) -> Result<usize, HistoryError> {
        match self.keep(job).await? {
            Kept::Rows(rows) => Ok(rows),
            Kept::Tally(_) => Ok(0),
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
        let alarm = self.alarm.clone();
        let job: Job = Box::new(move |connection| {
            let result = ask(connection);
            alarm.hear(&result);
            // The asker may have gone.
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

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, HistoryError> {
    Builder::new()
        .name(name.to_owned())
        .stack_size(STACK)
        .spawn(work)
        .map_err(|e| HistoryError::Sqlite(format!("cannot start the thread {name}: {e}")))
}

#[cfg(test)]
mod tests;
