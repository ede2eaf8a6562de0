//! The history of executions, in SQLite: the index of what the execution directories say.
//!
//! ```text
//!  exec ──Write──▶ bounded channel ──▶ writer thread ──one commit for all that wait──▶ history.db
//!  api  ──closure─▶ bounded channel ──▶ reader thread ◀───────────────────────────────────┘
//! ```
//!
//! It calls nobody and decides nothing: which state an execution has is `exec`'s to say. A row that
//! has ended is never changed again. Secrets never come here: callers hand in masked parameters.

mod query;
mod row;
mod schema;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread::{Builder, JoinHandle};

use packs_schema::name::{ActionRef, ExecutionId, IdempotencyKey, InstanceId, Principal};
use packs_schema::rest::{Execution, StateChange};
use packs_schema::run::State;
use rusqlite::{Connection, ErrorCode, ffi};
use tokio::sync::{mpsc, oneshot, watch};

pub use query::{Place, Wanted};

use crate::clock;
use writer::Write;

/// What waits for either thread at most; beyond, askers wait.
const WAITING: usize = 256;
/// Both threads work with small frames.
const STACK: usize = 512 << 10;

/// Why the history could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HistoryError {
    /// The bundled library is too old.
    #[error("SQLite {0} is too old: 3.51.3 or newer is needed")]
    OldSqlite(&'static str),
    /// The file cannot be opened.
    #[error("cannot open the history {path:?}: {message}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// SQLite's words.
        message: String,
        /// The file is damaged.
        damaged: bool,
    },
    /// A damaged file cannot be set aside.
    #[error("cannot set aside the damaged history {path:?}: {message}")]
    SetAside {
        /// Which file.
        path: PathBuf,
        /// The system's words.
        message: String,
    },
    /// No space left.
    #[error("the disk that holds the history is full")]
    DiskFull,
    /// The file system takes no writes.
    #[error("the file system that holds the history is read-only")]
    ReadOnly,
    /// No memory, or no descriptor.
    #[error("the host lacks memory or descriptors for the history: {0}")]
    OutOfResources(String),
    /// The disk does not do what it is told.
    #[error("the disk that holds the history fails: {0}")]
    Device(String),
    /// Anything else.
    #[error("the history failed: {0}")]
    Sqlite(String),
    /// The threads have gone.
    #[error("the history is closed")]
    Closed,
}

impl HistoryError {
    fn open(path: &Path, error: rusqlite::Error) -> HistoryError {
        let damaged = matches!(error.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt));
        HistoryError::Open { path: path.to_owned(), message: error.to_string(), damaged }
    }
}

impl From<rusqlite::Error> for HistoryError {
    fn from(error: rusqlite::Error) -> HistoryError {
        let extended = error.sqlite_error().map_or(0, |error| error.extended_code);
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => HistoryError::DiskFull,
            Some(ErrorCode::ReadOnly) => HistoryError::ReadOnly,
            Some(ErrorCode::OutOfMemory | ErrorCode::CannotOpen) => HistoryError::OutOfResources(error.to_string()),
            // The index of the log could not grow.
            Some(ErrorCode::SystemIoFailure) if extended == ffi::SQLITE_IOERR_SHMSIZE => HistoryError::DiskFull,
            Some(ErrorCode::SystemIoFailure) if extended == ffi::SQLITE_IOERR_NOMEM => {
                HistoryError::OutOfResources(error.to_string())
            }
            Some(ErrorCode::SystemIoFailure) => HistoryError::Device(error.to_string()),
            _ => HistoryError::Sqlite(error.to_string()),
        }
    }
}

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
    /// So many rows went.
    Removed(usize),
}

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// The handle; both threads end when [`History::close`] is called.
pub struct History {
    instance: InstanceId,
    writes: Mutex<Option<mpsc::Sender<Write>>>,
    reads: Mutex<Option<mpsc::Sender<Job>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    newest: watch::Receiver<u64>,
    fresh: bool,
}

impl History {
    /// Opens `path`. A file that is no database is set aside as `history.db.corrupt-<ms>`, loudly, and a new one begun.
    pub fn open(path: &Path, instance: &InstanceId) -> Result<History, HistoryError> {
        let (connection, fresh) = match schema::open_writer(path) {
            Err(HistoryError::Open { damaged: true, message, .. }) => {
                set_aside(path, &message)?;
                schema::open_writer(path)?
            }
            other => other?,
        };
        let reader = schema::open_reader(path)?;
        let last = writer::last_event(&connection)?;
        let (newest, seen) = watch::channel(last);
        let (writes, to_write) = mpsc::channel(WAITING);
        let (reads, mut to_read) = mpsc::channel::<Job>(WAITING);
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            Builder::new()
                .name(name.to_owned())
                .stack_size(STACK)
                .spawn(work)
                .map_err(|e| HistoryError::Sqlite(format!("cannot start the thread {name}: {e}")))
        };
        let write = spawn("history-write", Box::new(move || writer::run(connection, to_write, &newest)))?;
        let read = spawn(
            "history-read",
            Box::new(move || {
                while let Some(job) = to_read.blocking_recv() {
                    job(&reader);
                }
            }),
        )?;
        Ok(History {
            instance: instance.clone(),
            writes: Mutex::new(Some(writes)),
            reads: Mutex::new(Some(reads)),
            threads: Mutex::new(vec![write, read]),
            newest: seen,
            fresh,
        })
    }

    /// True if the file was made by this open: what the execution directories hold is to be read in.
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

    /// Forgets at most a thousand executions that were accepted before, and have ended; answers how many.
    pub async fn sweep(&self, before_ms: u64) -> Result<usize, HistoryError> {
        match self.write(|reply| Write::Sweep { before_ms, reply }).await? {
            Inserted::Removed(rows) => Ok(rows),
            Inserted::New | Inserted::Existing(..) | Inserted::Unchanged => Ok(0),
        }
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
    ) -> Result<(Vec<Execution>, Option<Place>), HistoryError> {
        let instance = self.instance.clone();
        self.read(move |connection| query::list(connection, &instance, &wanted, &visible)).await
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

    /// At most `limit` state changes after the event `after`.
    pub async fn events(&self, after: u64, limit: u32) -> Result<Vec<StateChange>, HistoryError> {
        self.read(move |connection| query::events(connection, after, limit)).await
    }

    /// The number of the newest event, as it rises.
    pub fn newest_event(&self) -> watch::Receiver<u64> {
        self.newest.clone()
    }

    /// Ends both threads after what was asked before; those who asked go on being answered meanwhile.
    pub async fn close(&self) {
        drop(lock(&self.writes).take());
        drop(lock(&self.reads).take());
        let threads = std::mem::take(&mut *lock(&self.threads));
        let joined = tokio::task::spawn_blocking(|| threads.into_iter().map(JoinHandle::join).all(|end| end.is_ok()));
        if !joined.await.unwrap_or(false) {
            tracing::error!("a thread of the history panicked");
        }
    }

    async fn write(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<Inserted, HistoryError>>) -> Write,
    ) -> Result<Inserted, HistoryError> {
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
        let job: Job = Box::new(move |connection| {
            // The asker may have gone.
            let _ = reply.send(ask(connection));
        });
        sender.send(job).await.map_err(|_| HistoryError::Closed)?;
        drop(sender);
        answer.await.map_err(|_| HistoryError::Closed)?
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn set_aside(path: &Path, why: &str) -> Result<(), HistoryError> {
    let stamp = clock::now_ms();
    for suffix in ["", "-wal", "-shm"] {
        let mut from = path.as_os_str().to_owned();
        from.push(suffix);
        let mut to = path.as_os_str().to_owned();
        to.push(format!(".corrupt-{stamp}{suffix}"));
        match std::fs::rename(&from, &to) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound || suffix.is_empty() => {
                return Err(HistoryError::SetAside { path: path.to_owned(), message: e.to_string() });
            }
            _ => {}
        }
    }
    tracing::error!(path = %path.display(), why, "the history is damaged: set aside beside it, beginning a new one from the execution directories");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use packs_schema::name::{Digest, PackVersion};
    use packs_schema::run::{StreamTotals, Usage};
    use serde_json::json;

    fn instance() -> InstanceId {
        InstanceId::new("i-1").unwrap()
    }

    fn record(n: u64, action: &str, who: &str) -> Execution {
        serde_json::from_value(json!({
            "id": format!("01932c07-1f4e-7c61-b4b0-{n:012x}"),
            "instance": "i-1",
            "action": action,
            "version": PackVersion::new("1.0.0").unwrap(),
            "digest": Digest::new("b".repeat(64)).unwrap(),
            "state": "queued",
            "parameters": {"days": 7, "token": "[secret]"},
            "noop": false,
            "principal": who,
            "run": if n.is_multiple_of(2) { json!("run-1") } else { json!(null) },
            "created_at_ms": 1_000 + n / 2,
        }))
        .unwrap()
    }

    fn open() -> (tempfile::TempDir, History) {
        let dir = tempfile::tempdir().unwrap();
        let history = History::open(&dir.path().join("history.db"), &instance()).unwrap();
        (dir, history)
    }

    fn ended(mut record: Execution) -> Execution {
        record.state = State::Succeeded;
        record.started_at_ms = Some(2_000);
        record.ended_at_ms = Some(2_010);
        record.duration_ms = Some(10);
        record.exit_status = Some(0);
        record.usage = Some(Usage { user_us: 5, ..Usage::default() });
        record.stdout = Some(StreamTotals { written_bytes: 3, dropped_bytes: 0 });
        record.stderr = Some(StreamTotals::default());
        record.unenforced = vec!["cpu limit".to_owned()];
        record.result = json!({"freed": 1}).as_object().cloned();
        record
    }

    #[tokio::test]
    async fn a_record_reads_back_also_after_reopening() {
        let (dir, history) = open();
        let first = record(1, "linux.a", "spiffe://x/ann");
        assert_eq!(history.insert(first.clone(), None, None).await.unwrap(), Inserted::New);
        assert_eq!(history.get(&first.id).await.unwrap(), Some(first.clone()));
        assert_eq!(history.unfinished().await.unwrap(), std::slice::from_ref(&first));
        let end = ended(first.clone());
        let changes = vec![(State::Running, 2_000), (State::Succeeded, 2_010)];
        assert_eq!(history.update(end.clone(), changes.clone()).await.unwrap(), Inserted::New);
        history.close().await;
        let again = History::open(&dir.path().join("history.db"), &instance()).unwrap();
        assert!(!again.is_fresh());
        assert_eq!(again.get(&first.id).await.unwrap(), Some(end.clone()));
        assert!(again.unfinished().await.unwrap().is_empty());
        let mut killed = end;
        killed.state = State::Killed;
        assert_eq!(again.update(killed, changes).await.unwrap(), Inserted::Unchanged, "what has ended stays as it is");
        let events = again.events(0, 10).await.unwrap();
        let states: Vec<State> = events.iter().map(|event| event.state).collect();
        assert_eq!(states, [State::Queued, State::Running, State::Succeeded]);
        assert_eq!(*again.newest_event().borrow(), events[2].event);
        again.close().await;
    }

    #[tokio::test]
    async fn a_key_stands_for_one_execution_of_its_caller() {
        let (_dir, history) = open();
        let key = |mac: &str| Some(Key { key: IdempotencyKey::new("k1").unwrap(), fingerprint: mac.to_owned() });
        let first = record(1, "linux.a", "spiffe://x/ann");
        assert_eq!(history.insert(first.clone(), key("m1"), None).await.unwrap(), Inserted::New);
        let again = history.insert(record(2, "linux.a", "spiffe://x/ann"), key("m2"), None).await.unwrap();
        assert_eq!(again, Inserted::Existing(Box::new(first.clone()), "m1".to_owned()));
        assert_eq!(
            history.insert(record(3, "linux.a", "spiffe://x/bob"), key("m1"), None).await.unwrap(),
            Inserted::New
        );
        let found = history.by_key(&first.principal, &IdempotencyKey::new("k1").unwrap()).await.unwrap();
        assert_eq!(found, Some((first, "m1".to_owned())));
        history.close().await;
    }

    #[tokio::test]
    async fn pages_go_through_everything_once_and_show_only_what_is_visible() {
        let (_dir, history) = open();
        for n in 0..10 {
            let action = if n < 5 { "linux.a" } else { "cassandra.b" };
            history.insert(record(n, action, "spiffe://x/ann"), None, None).await.unwrap();
        }
        let mut wanted = Wanted { limit: 3, ..Wanted::default() };
        let mut seen = Vec::new();
        loop {
            let (items, next) = history.list(wanted.clone(), |_| true).await.unwrap();
            seen.extend(items.into_iter().map(|e| e.id.to_string()));
            // The place goes over the wire as a text.
            let Some(next) = next else { break };
            wanted.after = Some(next.to_string().parse().unwrap());
        }
        let want: Vec<String> = (0..10).rev().map(|n| record(n, "linux.a", "spiffe://x/ann").id.to_string()).collect();
        assert_eq!(seen, want);
        let all = |wanted: Wanted| Wanted { limit: 100, ..wanted };
        let count = async |wanted: Wanted, visible: fn(&ActionRef) -> bool| {
            history.list(all(wanted), visible).await.unwrap().0.len()
        };
        let linux: fn(&ActionRef) -> bool = |action| action.pack().as_str() == "linux";
        assert_eq!(count(Wanted::default(), linux).await, 5);
        assert_eq!(count(Wanted::default(), |_| false).await, 0);
        let action = Some(ActionRef::new("cassandra.b").unwrap());
        assert_eq!(count(Wanted { action: action.clone(), ..Wanted::default() }, |_| true).await, 5);
        assert_eq!(count(Wanted { action, ..Wanted::default() }, linux).await, 0);
        let run = Some(packs_schema::name::RunId::new("run-1").unwrap());
        assert_eq!(count(Wanted { run, ..Wanted::default() }, |_| true).await, 5);
        assert_eq!(count(Wanted { state: Some(State::Queued), ..Wanted::default() }, |_| true).await, 10);
        assert_eq!(count(Wanted { state: Some(State::Lost), ..Wanted::default() }, |_| true).await, 0);
        let principal = Some(Principal::new("spiffe://x/bob").unwrap());
        assert_eq!(count(Wanted { principal, ..Wanted::default() }, |_| true).await, 0);
        let (since_ms, until_ms) = (Some(1_001), Some(1_003));
        assert_eq!(count(Wanted { since_ms, until_ms, ..Wanted::default() }, |_| true).await, 4);
        history.close().await;
    }

    #[tokio::test]
    async fn what_is_old_and_has_ended_is_forgotten() {
        let (_dir, history) = open();
        let (old, live) = (record(1, "linux.a", "spiffe://x/ann"), record(2, "linux.a", "spiffe://x/ann"));
        history.insert(old.clone(), None, None).await.unwrap();
        history.insert(live.clone(), None, None).await.unwrap();
        history.update(ended(old.clone()), vec![(State::Running, 2_000), (State::Succeeded, 2_010)]).await.unwrap();
        assert_eq!(history.sweep(u64::from(u32::MAX)).await.unwrap(), 1);
        assert!(!history.knows(&old.id).await.unwrap());
        assert!(history.knows(&live.id).await.unwrap());
        history.close().await;
    }

    #[tokio::test]
    async fn a_damaged_file_is_set_aside_and_a_new_one_begun() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.db");
        std::fs::write(&path, vec![b'x'; 8192]).unwrap();
        let history = History::open(&path, &instance()).unwrap();
        assert!(history.is_fresh());
        history.close().await;
        let aside = std::fs::read_dir(dir.path()).unwrap().filter_map(|e| e.unwrap().file_name().into_string().ok());
        assert_eq!(aside.filter(|name| name.starts_with("history.db.corrupt-")).count(), 1);
    }

    #[tokio::test]
    async fn acceptances_are_found_by_either_clock() {
        let (_dir, history) = open();
        let born = |boot_id: &str, boottime_ms| Born { boot_id: boot_id.to_owned(), boottime_ms };
        let at = |n: u64, at_ms: u64| Execution { created_at_ms: at_ms, ..record(n, "linux.a", "spiffe://x/ann") };
        let years = 10 * 365 * 86_400_000;
        // In this boot, before a clock was set ten years forward, and after; in the boot before; of another action.
        history.insert(at(1, 5_000), None, Some(born("this", 60_000))).await.unwrap();
        history.insert(at(2, years), None, Some(born("this", 70_000))).await.unwrap();
        history.insert(at(3, years - 10), None, Some(born("other", 71_000))).await.unwrap();
        history.insert(at(4, 4_000), None, Some(born("this", 1_000))).await.unwrap();
        history.insert(at(5, years), None, None).await.unwrap();
        let elsewhere = Execution { created_at_ms: years, ..record(6, "linux.b", "spiffe://x/ann") };
        history.insert(elsewhere, None, Some(born("this", 70_000))).await.unwrap();
        let action = ActionRef::new("linux.a").unwrap();
        let found = history.accepted_since(&action, years - 1_000, born("this", 50_000)).await.unwrap();
        let mut times: Vec<u64> = found.iter().map(|accepted| accepted.at_ms).collect();
        times.sort_unstable();
        assert_eq!(times, [5_000, years - 10, years, years], "one of before the jump, none that is too old by both");
        assert!(found.contains(&Accepted { at_ms: 5_000, born: Some(born("this", 60_000)) }));
        history.close().await;
    }
}
