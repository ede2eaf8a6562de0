//! The writer thread: everything that waits is committed at once, so that many callers share one fsync.
//!
//! New executions and ends are committed with `synchronous = FULL`: the 202 says that the one is on
//! disk, and an end that was told is never told otherwise; the shim does not wait for the disk with its record.
//! What lies between is committed without waiting: a power cut interrupts it anyway.

use packs_schema::rest::Execution;
use packs_schema::run::State;
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::{mpsc, oneshot, watch};

use super::row::{id_bytes, state_number, to_json};
use super::{HistoryError, Inserted, Key, query};

/// The most that one commit takes along.
const BATCH: usize = 128;

/// What the thread is asked to do.
pub(super) enum Write {
    /// Remember a new execution.
    Insert { record: Box<Execution>, key: Option<Key>, reply: oneshot::Sender<Result<Inserted, HistoryError>> },
    /// Remember what became of one.
    Update {
        record: Box<Execution>,
        changes: Vec<(State, u64)>,
        reply: oneshot::Sender<Result<Inserted, HistoryError>>,
    },
    /// Forget what ended before; answers how many rows went.
    Sweep { before_ms: u64, reply: oneshot::Sender<Result<Inserted, HistoryError>> },
}

impl Write {
    fn answer(self, result: Result<Inserted, HistoryError>) {
        let (Write::Insert { reply, .. } | Write::Update { reply, .. } | Write::Sweep { reply, .. }) = self;
        // The asker may have gone; what is written stays written.
        let _ = reply.send(result);
    }

    fn must_last(&self) -> bool {
        match self {
            Write::Insert { .. } => true,
            Write::Update { changes, .. } => changes.iter().any(|(state, _)| state.is_terminal()),
            Write::Sweep { .. } => false,
        }
    }
}

/// Runs until every sender is gone.
pub(super) fn run(mut connection: Connection, mut writes: mpsc::Receiver<Write>, newest: &watch::Sender<u64>) {
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
            full = connection.execute_batch(&format!("PRAGMA synchronous = {level}")).is_ok() == must_last;
        }
        commit(&mut connection, batch, newest);
    }
}

fn commit(connection: &mut Connection, batch: Vec<Write>, newest: &watch::Sender<u64>) {
    let mut results = Vec::with_capacity(batch.len());
    let outcome = (|| {
        let mut transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for write in &batch {
            let savepoint = transaction.savepoint()?;
            let result = apply(&savepoint, write);
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
            newest.send_if_modified(|seen| std::mem::replace(seen, last) != last);
            for (write, result) in batch.into_iter().zip(results) {
                write.answer(result);
            }
        }
        Err(error) => {
            let failure = HistoryError::from(error);
            for write in batch {
                write.answer(Err(failure.clone()));
            }
        }
    }
}

/// The number of the newest event; 0 when there was none yet.
pub(super) fn last_event(connection: &Connection) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'events'")?;
    Ok(statement.query_row([], |row| row.get(0)).optional()?.unwrap_or(0))
}

fn apply(connection: &Connection, write: &Write) -> Result<Inserted, HistoryError> {
    match write {
        Write::Insert { record, key, .. } => insert(connection, record, key.as_ref()),
        Write::Update { record, changes, .. } => update(connection, record, changes),
        Write::Sweep { before_ms, .. } => sweep(connection, *before_ms),
    }
}

fn insert(connection: &Connection, record: &Execution, key: Option<&Key>) -> Result<Inserted, HistoryError> {
    if let Some(key) = key
        && let Some(existing) = query::by_key(connection, &record.instance, &record.principal, &key.key)?
    {
        return Ok(Inserted::Existing(Box::new(existing.0), existing.1));
    }
    let mut statement = connection.prepare_cached(
        "INSERT INTO executions (id, action, version, digest, principal, state, reason, parameters, noop, note, run,
            created_at_ms, idempotency_key, fingerprint, dev)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?;
    statement.execute(params![
        id_bytes(&record.id),
        intern(connection, "actions", record.action.as_str())?,
        intern(connection, "names", &record.version.to_string())?,
        intern(connection, "names", record.digest.as_str())?,
        intern(connection, "names", record.principal.as_str())?,
        state_number(record.state),
        record.reason,
        to_json(&record.parameters),
        record.noop,
        record.note,
        record.run.as_ref().map(|run| run.as_str()),
        record.created_at_ms,
        key.map(|k| k.key.as_str()),
        key.map(|k| k.fingerprint.as_str()),
        record.dev.as_ref().map(to_json),
    ])?;
    event(connection, connection.last_insert_rowid(), record.state, record.created_at_ms)?;
    Ok(Inserted::New)
}

fn update(connection: &Connection, record: &Execution, changes: &[(State, u64)]) -> Result<Inserted, HistoryError> {
    let killed_by = record.killed_by.as_ref().map(|k| intern(connection, "names", k.as_str())).transpose()?;
    let mut statement = connection.prepare_cached(
        "UPDATE executions SET state = ?2, reason = ?3, killed_by = ?4, started_at_ms = ?5, ended_at_ms = ?6,
            duration_ms = ?7, exit_status = ?8, signal = ?9, usage = ?10, stdout_written_bytes = ?11,
            stdout_dropped_bytes = ?12, stderr_written_bytes = ?13, stderr_dropped_bytes = ?14, leftovers = ?15,
            unenforced = ?16, result = ?17, result_error = ?18
         WHERE id = ?1 AND state IN (0, 1) RETURNING seq",
    )?;
    let seq: Option<i64> = statement
        .query_row(
            params![
                id_bytes(&record.id),
                state_number(record.state),
                record.reason,
                killed_by,
                record.started_at_ms,
                record.ended_at_ms,
                record.duration_ms,
                record.exit_status,
                record.signal,
                record.usage.as_ref().map(to_json),
                record.stdout.map(|s| s.written_bytes),
                record.stdout.map(|s| s.dropped_bytes),
                record.stderr.map(|s| s.written_bytes),
                record.stderr.map(|s| s.dropped_bytes),
                record.leftovers.as_ref().map(to_json),
                (!record.unenforced.is_empty()).then(|| to_json(&record.unenforced)),
                record.result.as_ref().map(to_json),
                record.result_error,
            ],
            |row| row.get(0),
        )
        .optional()?;
    // No row: it is unknown or has ended, and what has ended never changes again.
    let Some(seq) = seq else { return Ok(Inserted::Unchanged) };
    for (state, at_ms) in changes {
        event(connection, seq, *state, *at_ms)?;
    }
    Ok(Inserted::New)
}

fn sweep(connection: &Connection, before_ms: u64) -> Result<Inserted, HistoryError> {
    let rows = connection.execute(
        "DELETE FROM executions WHERE seq IN
            (SELECT seq FROM executions WHERE created_at_ms < ?1 AND state > 1 ORDER BY created_at_ms LIMIT 1000)",
        params![before_ms],
    )?;
    connection.execute(
        "DELETE FROM events WHERE event IN (SELECT event FROM events ORDER BY event LIMIT 3000) AND at_ms < ?1",
        params![before_ms],
    )?;
    Ok(Inserted::Removed(rows))
}

fn event(connection: &Connection, seq: i64, state: State, at_ms: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO events (at_ms, seq, state) VALUES (?1, ?2, ?3)")?
        .execute(params![at_ms, seq, state_number(state)])
        .map(|_| ())
}

/// The number that stands for a text that many rows have.
fn intern(connection: &Connection, table: &'static str, text: &str) -> rusqlite::Result<i64> {
    let mut find = connection.prepare_cached(&format!("SELECT id FROM {table} WHERE name = ?1"))?;
    if let Some(id) = find.query_row([text], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    connection.prepare_cached(&format!("INSERT INTO {table} (name) VALUES (?1)"))?.execute([text])?;
    Ok(connection.last_insert_rowid())
}
