//! The writer thread: everything that waits is committed at once, so that many callers share one fsync.
//!
//! New executions, ends and archives are committed with `synchronous = FULL`: the 202 says that the one is on
//! disk, an end that was told is never told otherwise (the shim does not wait for the disk with its record), and
//! the directory of an archived one goes. What lies between is committed without waiting: a power cut interrupts
//! it anyway.

use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Execution;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use tokio::sync::{mpsc, oneshot, watch};

use super::damage::Alarm;
use super::keep::{self, Keep, Kept};
use super::life::{Clock, Life};
use super::{Born, HistoryError, Inserted, Key, change};

/// The most that one commit takes along.
const BATCH: usize = 128;

type Reply<T> = oneshot::Sender<Result<T, HistoryError>>;

/// What the thread is asked to do.
pub(super) enum Write {
    /// Remember a new execution.
    Insert { record: Box<Execution>, key: Option<Key>, born: Option<Born>, reply: Reply<Inserted> },
    /// Remember what became of one.
    Update { record: Box<Execution>, changes: Vec<(State, u64)>, reply: Reply<Inserted> },
    /// Something for the keeping of outputs and rows.
    Keep { job: Keep, reply: Reply<Kept> },
}

/// What came of it.
enum Done {
    Inserted(Inserted),
    Kept(Kept),
}

impl Write {
    // The asker may have gone; what is written stays written.
    fn answer(self, result: Result<Done, HistoryError>) {
        match (self, result) {
            (Write::Insert { reply, .. } | Write::Update { reply, .. }, Ok(Done::Inserted(done))) => {
                let _ = reply.send(Ok(done));
            }
            (Write::Keep { reply, .. }, Ok(Done::Kept(done))) => {
                let _ = reply.send(Ok(done));
            }
            (Write::Insert { reply, .. } | Write::Update { reply, .. }, Err(error)) => {
                let _ = reply.send(Err(error));
            }
            (Write::Keep { reply, .. }, Err(error)) => {
                let _ = reply.send(Err(error));
            }
            // Dropped replies read as a closed history; `apply` gives each write its own kind.
            (Write::Insert { .. } | Write::Update { .. }, Ok(Done::Kept(_)))
            | (Write::Keep { .. }, Ok(Done::Inserted(_))) => {}
        }
    }

    fn must_last(&self) -> bool {
        match self {
            Write::Insert { .. } => true,
            Write::Update { changes, .. } => changes.iter().any(|(state, _)| state.is_terminal()),
            Write::Keep { job, .. } => job.must_last(),
        }
    }
}

/// What the thread works with.
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) life: Life,
    pub(super) clock: Clock,
    pub(super) newest: watch::Sender<u64>,
    pub(super) alarm: Alarm,
}

impl Writer {
    /// Runs until every sender is gone.
    pub(super) fn run(mut self, mut writes: mpsc::Receiver<Write>) {
        let mut full = true;
        while let Some(first) = writes.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH
                && let Ok(next) = writes.try_recv()
            {
                batch.push(next);
            }
            let must_last = batch.iter().any(Write::must_last);
            if must_last != full {
                let level = if must_last { "FULL" } else { "NORMAL" };
                full = self.connection.execute_batch(&format!("PRAGMA synchronous = {level}")).is_ok() == must_last;
            }
            self.commit(batch);
        }
        if let Err(error) = self.life.save(&self.connection, u64::MAX) {
            tracing::warn!(%error, "the age of the history is not saved");
        }
    }

    fn commit(&mut self, batch: Vec<Write>) {
        let mut results = Vec::with_capacity(batch.len());
        self.life.advance(&(self.clock)());
        let life = &self.life;
        let connection = &mut self.connection;
        let outcome = (|| {
            let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for write in &batch {
                let savepoint = transaction.savepoint()?;
                let result = apply(&savepoint, life, write);
                match &result {
                    Ok(_) => savepoint.commit()?,
                    Err(_) => drop(savepoint),
                }
                results.push(result);
            }
            let last = last_event(&transaction)?;
            transaction.commit()?;
            Ok::<u64, rusqlite::Error>(last)
        })();
        match outcome {
            Ok(last) => {
                self.newest.send_if_modified(|seen| std::mem::replace(seen, last) != last);
                for (write, result) in batch.into_iter().zip(results) {
                    self.alarm.hear(&result);
                    write.answer(result);
                }
            }
            Err(error) => {
                let failure = HistoryError::from(error);
                self.alarm.hear::<()>(&Err(failure.clone()));
                for write in batch {
                    write.answer(Err(failure.clone()));
                }
            }
        }
    }
}

/// The number of the newest event; 0 when there was none yet.
pub(super) fn last_event(connection: &Connection) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'events'")?;
    Ok(statement.query_row([], |row| row.get(0)).optional()?.unwrap_or(0))
}

fn apply(connection: &Connection, life: &Life, write: &Write) -> Result<Done, HistoryError> {
    match write {
        Write::Insert { record, key, born, .. } => {
            change::insert(connection, record, key.as_ref(), born.as_ref()).map(Done::Inserted)
        }
        Write::Update { record, changes, .. } => {
            change::update(connection, life.now_ms(), record, changes).map(Done::Inserted)
        }
        Write::Keep { job, .. } => keep::apply(connection, life, job).map(Done::Kept),
    }
}
