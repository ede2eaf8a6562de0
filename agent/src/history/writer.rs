//! The writer thread: commits all waiting writes together, so that many callers share one fsync.
//!
//! New executions, ends and archives are committed with `synchronous = FULL`: the answer 202 promises that the execution is on disk,
//! an end that was shown must not change (the shim does not fsync its exit record), and the segments of an archived output are
//! removed. Everything else is committed without waiting for the disk: a power cut interrupts those executions anyway.

use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Execution;
use packs_schema::base::name::ExecutionId;
use rusqlite::{Connection, OptionalExtension};
use tokio::sync::{mpsc, oneshot, watch};

use super::clock::{HistoryClock, ReadClocks};
use super::damage::DamageReporter;
use super::retention::{self, RetentionJob, RetentionResult};
use super::{BootTime, HistoryError, Key, WriteOutcome, audit_mark, change};

/// Maximum number of writes in one commit.
const BATCH: usize = 128;

type Reply<T> = oneshot::Sender<Result<T, HistoryError>>;

/// Request to the writer thread.
pub(super) enum Write {
    /// Insert a new execution.
    Insert {
        record: Box<Execution>,
        key: Option<Key>,
        boot_time: Option<BootTime>,
        /// Position in the audit log, if the row is to be marked as not yet in it.
        unaudited_after: Option<u64>,
        reply: Reply<WriteOutcome>,
    },
    /// Update an execution.
    Update { record: Box<Execution>, changes: Vec<(State, u64)>, reply: Reply<WriteOutcome> },
    /// Remove the marks of executions whose entries in the audit log are durable.
    Audited { ids: Vec<ExecutionId>, reply: Reply<WriteOutcome> },
    /// Do retention work.
    Retention { job: RetentionJob, reply: Reply<RetentionResult> },
}

/// Result of a request.
enum Completed {
    Write(WriteOutcome),
    Retention(RetentionResult),
}

impl Write {
    // The caller may have been cancelled; its write is kept.
    fn answer(self, result: Result<Completed, HistoryError>) {
        match (self, result) {
            (
                Write::Insert { reply, .. } | Write::Update { reply, .. } | Write::Audited { reply, .. },
                Ok(Completed::Write(done)),
            ) => {
                let _ = reply.send(Ok(done));
            }
            (Write::Retention { reply, .. }, Ok(Completed::Retention(done))) => {
                let _ = reply.send(Ok(done));
            }
            (Write::Insert { reply, .. } | Write::Update { reply, .. } | Write::Audited { reply, .. }, Err(error)) => {
                let _ = reply.send(Err(error));
            }
            (Write::Retention { reply, .. }, Err(error)) => {
                let _ = reply.send(Err(error));
            }
            // Unreachable: `apply` returns the kind that belongs to the request. Dropping the reply reads as a closed history.
            (Write::Insert { .. } | Write::Update { .. } | Write::Audited { .. }, Ok(Completed::Retention(_)))
            | (Write::Retention { .. }, Ok(Completed::Write(_))) => {}
        }
    }

    fn must_be_durable(&self) -> bool {
        match self {
            Write::Insert { .. } => true,
            // A mark that comes back is of an entry that is there.
            Write::Audited { .. } => false,
            Write::Update { changes, .. } => changes.iter().any(|(state, _)| state.is_terminal()),
            Write::Retention { job, .. } => job.must_be_durable(),
        }
    }
}

/// State of the writer thread.
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) history_clock: HistoryClock,
    pub(super) clock: ReadClocks,
    pub(super) newest: watch::Sender<u64>,
    pub(super) reporter: DamageReporter,
}

impl Writer {
    /// Runs until every sender is dropped.
    pub(super) fn run(mut self, mut writes: mpsc::Receiver<Write>) {
        let mut full = true;
        while let Some(first) = writes.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(next) = writes.try_recv()
            {
                batch.push(next);
            }
            let must_be_durable = batch.iter().any(Write::must_be_durable);
            if must_be_durable != full {
                let level = if must_be_durable { "FULL" } else { "NORMAL" };
                full =
                    self.connection.execute_batch(&format!("PRAGMA synchronous = {level}")).is_ok() == must_be_durable;
            }
            self.commit(batch);
        }
        if let Err(error) = self.history_clock.save(&self.connection, u64::MAX) {
            tracing::warn!(%error, "cannot save the age of the history");
        }
    }

    fn commit(&mut self, batch: Vec<Write>) {
        self.history_clock.advance(&(self.clock)());
        match transact(&self.connection, &self.history_clock, &batch) {
            Ok((results, last)) => {
                self.newest.send_if_modified(|seen| std::mem::replace(seen, last) != last);
                for (write, result) in batch.into_iter().zip(results) {
                    self.reporter.check(&result);
                    write.answer(result);
                }
            }
            Err(failure) => {
                self.reporter.check::<()>(&Err(failure.clone()));
                for write in batch {
                    write.answer(Err(failure.clone()));
                }
            }
        }
    }
}

/// Result of each write, and the number of the newest event.
type Applied = (Vec<Result<Completed, HistoryError>>, u64);

/// Applies all writes in one transaction, of which nothing is left if it fails.
fn transact(connection: &Connection, history_clock: &HistoryClock, batch: &[Write]) -> Result<Applied, HistoryError> {
    run(connection, "BEGIN IMMEDIATE")?;
    let applied = apply_all(connection, history_clock, batch);
    let committed = applied.and_then(|applied| Ok(run(connection, "COMMIT").map(|()| applied)?));
    if committed.is_err() && !connection.is_autocommit() {
        // Fails only where SQLite has rolled back already.
        let _ = connection.execute_batch("ROLLBACK");
    }
    committed
}

fn apply_all(connection: &Connection, history_clock: &HistoryClock, batch: &[Write]) -> Result<Applied, HistoryError> {
    let results = match batch {
        // Needs no savepoint, for which SQLite would copy each page that it changes.
        [only] => vec![Ok(apply(connection, history_clock, only)?)],
        several => {
            let each = several.iter().map(|write| apply_separately(connection, history_clock, write));
            each.collect::<Result<_, HistoryError>>()?
        }
    };
    Ok((results, last_event(connection)?))
}

/// Applies one of several writes: if it fails, the others are written.
fn apply_separately(
    connection: &Connection,
    history_clock: &HistoryClock,
    write: &Write,
) -> Result<Result<Completed, HistoryError>, HistoryError> {
    run(connection, "SAVEPOINT separate")?;
    let result = apply(connection, history_clock, write);
    if let Err(error) = &result {
        if connection.is_autocommit() {
            // SQLite has rolled back all of the transaction, as it does for some errors of the disk.
            return Err(error.clone());
        }
        run(connection, "ROLLBACK TO separate")?;
    }
    run(connection, "RELEASE separate")?;
    Ok(result)
}

/// Runs a statement without results, which is parsed once.
fn run(connection: &Connection, statement: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(statement)?.execute([]).map(drop)
}

/// Returns the number of the newest event; 0 when there was none yet.
pub(super) fn last_event(connection: &Connection) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'events'")?;
    Ok(statement.query_row([], |row| row.get(0)).optional()?.unwrap_or(0))
}

fn apply(connection: &Connection, history_clock: &HistoryClock, write: &Write) -> Result<Completed, HistoryError> {
    match write {
        Write::Insert { record, key, boot_time, unaudited_after, .. } => {
            change::insert(connection, record, key.as_ref(), boot_time.as_ref(), *unaudited_after).map(Completed::Write)
        }
        Write::Audited { ids, .. } => {
            audit_mark::remove(connection, ids)?;
            Ok(Completed::Write(WriteOutcome::Written))
        }
        Write::Update { record, changes, .. } => {
            change::update(connection, history_clock.now_ms(), record, changes).map(Completed::Write)
        }
        Write::Retention { job, .. } => retention::apply(connection, history_clock, job).map(Completed::Retention),
    }
}

#[cfg(test)]
mod tests {
    use packs_schema::base::name::InstanceId;
    use serde_json::json;

    use super::super::{clock, schema};
    use super::*;

    fn insert(n: u64, action: &str) -> Write {
        let record = crate::records::record(json!({
            "id": format!("01932c07-1f4e-7c61-b4b0-{n:012x}"), "action": action, "principal": "spiffe://x/ann",
            "created_at_ms": 1_000,
        }));
        let (reply, _) = oneshot::channel();
        Write::Insert { record: Box::new(record), key: None, boot_time: None, unaudited_after: None, reply }
    }

    /// Returns the names of the actions that are stored, and the number of rows.
    fn stored(connection: &Connection) -> (Vec<String>, u64) {
        let mut names = connection.prepare("SELECT name FROM actions ORDER BY name").unwrap();
        let names = names.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
        (names, connection.query_row("SELECT count(*) FROM executions", [], |row| row.get(0)).unwrap())
    }

    #[test]
    fn a_full_disk_is_told_as_such_to_those_that_share_a_transaction() {
        let directory = tempfile::tempdir().unwrap();
        let instance = InstanceId::new("i-1").unwrap();
        let connection = schema::open_or_recreate(&directory.path().join("history.db"), &instance).unwrap().connection;
        let history_clock = HistoryClock::resume(&connection, &clock::host()()).unwrap();
        let pages: u64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        connection.query_row(&format!("PRAGMA max_page_count = {}", pages + 4), [], |_| Ok(())).unwrap();
        let mut large = insert(2, "linux.b");
        if let Write::Insert { record, .. } = &mut large {
            record.note = Some("x".repeat(100_000));
        }
        // SQLite may end the whole transaction, or only the write.
        let failed = match transact(&connection, &history_clock, &[insert(1, "linux.a"), large, insert(3, "linux.c")]) {
            Err(failure) => {
                assert_eq!(stored(&connection), (vec![], 0), "nothing is half done");
                failure
            }
            Ok((mut results, _)) => results.remove(1).err().expect("it does not fit"),
        };
        assert!(matches!(failed, HistoryError::DiskFull), "{failed:?}");
        assert!(connection.is_autocommit(), "the transaction has ended");
    }

    #[test]
    fn of_a_write_that_fails_nothing_is_left_and_the_others_are_written() {
        let directory = tempfile::tempdir().unwrap();
        let instance = InstanceId::new("i-1").unwrap();
        let connection = schema::open_or_recreate(&directory.path().join("history.db"), &instance).unwrap().connection;
        let history_clock = HistoryClock::resume(&connection, &clock::host()()).unwrap();
        let done = |batch: &[Write]| -> Result<Vec<bool>, HistoryError> {
            let (results, _) = transact(&connection, &history_clock, batch)?;
            Ok(results.iter().map(Result::is_ok).collect())
        };
        assert_eq!(done(&[insert(1, "linux.a")]).unwrap(), [true]);
        // The id is there already, which is found after the name of the action was added.
        assert!(done(&[insert(1, "linux.b")]).is_err());
        assert!(connection.is_autocommit(), "the transaction has ended");
        assert_eq!(stored(&connection), (vec!["linux.a".to_owned()], 1));
        assert_eq!(
            done(&[insert(2, "linux.c"), insert(1, "linux.b"), insert(3, "linux.d")]).unwrap(),
            [true, false, true]
        );
        assert_eq!(stored(&connection), (["linux.a", "linux.c", "linux.d"].map(str::to_owned).to_vec(), 3));
    }
}
