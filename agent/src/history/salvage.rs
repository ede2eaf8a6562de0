//! Salvages a damaged history: copies what can be read into a new one, within a time limit; the agent starts either way.
//!
//! Rows are read one by one from the newest down, so that a damaged page costs only its rows; each must be a valid execution.
//! Executions with a directory are imported from there anyway: salvaging is for archived ones.

use std::path::Path;
use std::time::{Duration, Instant};

use packs_schema::agent::execution::State;
use packs_schema::base::name::InstanceId;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, params};

use super::row::{self, SELECT, id_from};
use super::writer::last_event;
use super::{HistoryError, audit_mark, change};

/// Maximum duration of the copy.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Number of rows between two checks of the time limit.
const BATCH: i64 = 64;

/// Copies what can be read of the quarantined database; logs how much could not be read.
pub(super) fn salvage(into: &Connection, quarantined: &Path, instance: &InstanceId) {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let copied = Connection::open_with_flags(quarantined, flags).and_then(|from| {
        let last: i64 = from.query_row("SELECT max(seq) FROM executions", [], |row| row.get(0))?;
        // Files of earlier versions lack these columns.
        let mut select = SELECT.to_owned();
        for column in ["dev", "kill_note"] {
            if from.prepare(&format!("SELECT {column} FROM executions")).is_err() {
                select = select.replace(&format!("e.{column}"), "NULL");
            }
        }
        copy(into, &from, &format!("{select} WHERE e.seq = ?1"), last, instance)
    });
    match copied {
        Ok((rows, lost)) => tracing::warn!(rows, lost, "copied executions from the damaged history"),
        Err(error) => tracing::warn!(%error, "cannot read the damaged history"),
    }
}

/// Copies rows from the newest down; returns how many were copied and how many could not be read.
fn copy(
    into: &Connection,
    from: &Connection,
    select: &str,
    last: i64,
    instance: &InstanceId,
) -> rusqlite::Result<(u64, u64)> {
    let until = Instant::now() + TIMEOUT;
    let (mut rows, mut lost, mut high) = (0, 0, last);
    let transaction = Transaction::new_unchecked(into, TransactionBehavior::Immediate)?;
    // Rows keep their numbers, so that the oldest stays the oldest; new ones come after.
    transaction.execute("DELETE FROM sqlite_sequence WHERE name = 'executions'", [])?;
    transaction.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('executions', ?1)", [last])?;
    while high > 0 && Instant::now() < until {
        let low = high.saturating_sub(BATCH);
        for seq in (low + 1..=high).rev() {
            match copy_row(&transaction, from, select, seq, instance) {
                Ok(true) => rows += 1,
                Ok(false) => {}
                Err(_) => lost += 1,
            }
        }
        high = low;
    }
    // Files of earlier versions have none.
    if let Err(error) = audit_mark::salvage(&transaction, from) {
        tracing::debug!(%error, "no marks of the audit log in the damaged history");
    }
    transaction.commit()?;
    Ok((rows, lost))
}

/// Copies a row; false if there is none, or if it has not ended.
fn copy_row(
    into: &Connection,
    from: &Connection,
    select: &str,
    seq: i64,
    instance: &InstanceId,
) -> Result<bool, HistoryError> {
    let mut statement = from.prepare_cached(select)?;
    let found = statement.query_row([seq], |row| row::read(row, instance));
    let Some(record) = found.optional()? else { return Ok(false) };
    if !record.state.is_terminal() {
        // Its directory has its state.
        return Ok(false);
    }
    let event = last_event(into)?;
    let mut began = record.clone();
    began.state = State::Queued;
    change::insert(into, &began, None, None, None)?;
    change::update(into, 0, &record, &[(record.state, record.ended_at_ms.unwrap_or(record.created_at_ms))])?;
    type Rest = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Option<Value>);
    let mut statement = from.prepare_cached(
        "SELECT e.output, o.archive, e.key_hash, e.fingerprint FROM executions e LEFT JOIN outputs o ON o.seq = e.seq
         WHERE e.seq = ?1",
    )?;
    let rest = statement.query_row([seq], |row| Ok::<Rest, _>((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)));
    // If its output cannot be read, the execution is copied without it.
    let (number, archive, key_hash, fingerprint) = rest.unwrap_or((4, None, None, None));
    let number = if number == 1 && archive.is_none() { 4 } else { number };
    into.prepare_cached("UPDATE executions SET seq = ?2, output = ?3, key_hash = ?4, fingerprint = ?5 WHERE id = ?1")?
        .execute(params![row::id_bytes(&record.id), seq, number, key_hash, fingerprint])?;
    into.prepare_cached("UPDATE events SET seq = ?2 WHERE event > ?1")?.execute(params![event, seq])?;
    if let Some(archive) = archive {
        into.execute("INSERT OR REPLACE INTO outputs (seq, archive) VALUES (?1, ?2)", params![seq, archive])?;
    }
    Ok(true)
}

/// Removes damaged rows of executions that have not ended, so that they are imported from their directories. Returns true if there
/// were some.
pub(super) fn drop_unreadable(connection: &Connection, instance: &InstanceId) -> Result<bool, HistoryError> {
    let mut statement = connection.prepare("SELECT seq, id FROM executions WHERE state IN (0, 1) AND state <> 2")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?)))?;
    let rows: Vec<(i64, Vec<u8>)> = rows.collect::<Result<_, _>>()?;
    let mut dropped = false;
    for (seq, id) in rows {
        let readable = connection
            .query_row(&format!("{SELECT} WHERE e.seq = ?1"), [seq], |row| row::read(row, instance))
            .optional();
        let why = match readable {
            Ok(Some(_)) => continue,
            Ok(None) => "a name that it refers to is missing".to_owned(),
            Err(error @ rusqlite::Error::SqliteFailure(..)) => return Err(error.into()),
            Err(error) => error.to_string(),
        };
        let id = <[u8; 16]>::try_from(id).map(id_from).ok();
        tracing::error!(seq, ?id, why, "an execution's row is damaged: importing it from its directory");
        connection.execute("DELETE FROM executions WHERE seq = ?1", [seq])?;
        dropped = true;
    }
    Ok(dropped)
}
