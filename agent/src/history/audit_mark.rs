//! Marks of rows whose executions may have no entry in the audit log yet.
//!
//! A mark is set in the transaction that inserts the row, so that an execution that is on disk is in the audit log, or is known
//! not to be. It is removed when the entry is durable; what is marked at a start is completed by `exec`.

use packs_schema::agent::rest::Execution;
use packs_schema::base::name::{ExecutionId, InstanceId};
use rusqlite::{Connection, params};

use super::HistoryError;
use super::row::{self, SELECT, id_bytes};

/// Marks a row, with the position in the audit log before its entry.
pub(super) fn set(connection: &Connection, seq: i64, after: u64) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("INSERT OR REPLACE INTO unaudited (seq, after) VALUES (?1, ?2)")?;
    statement.execute(params![seq, after]).map(drop)
}

/// Removes the marks of executions.
pub(super) fn remove(connection: &Connection, ids: &[ExecutionId]) -> rusqlite::Result<()> {
    let mut statement =
        connection.prepare_cached("DELETE FROM unaudited WHERE seq = (SELECT seq FROM executions WHERE id = ?1)")?;
    for id in ids {
        statement.execute([id_bytes(id)])?;
    }
    Ok(())
}

/// Returns marked executions, the oldest first, with the positions of their marks; at most `limit`.
pub(super) fn list(
    connection: &Connection,
    instance: &InstanceId,
    limit: u32,
) -> Result<Vec<(Execution, u64)>, HistoryError> {
    let mut marks = connection.prepare_cached(
        "SELECT u.seq, u.after FROM unaudited u JOIN executions e ON e.seq = u.seq ORDER BY u.seq LIMIT ?1",
    )?;
    let marks = marks.query_map([limit], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let marks: Vec<(i64, u64)> = marks.collect::<Result<_, _>>()?;
    let mut select = connection.prepare_cached(&format!("{SELECT} WHERE e.seq = ?1"))?;
    let mut found = Vec::with_capacity(marks.len());
    for (seq, after) in marks {
        found.push((select.query_row([seq], |row| row::read(row, instance))?, after));
    }
    Ok(found)
}

/// Copies the marks of a damaged file, as far as they can be read.
pub(super) fn salvage(into: &Connection, from: &Connection) -> rusqlite::Result<()> {
    let mut marks = from.prepare("SELECT seq, after FROM unaudited")?;
    let mut marks = marks.query([])?;
    while let Some(mark) = marks.next()? {
        set(into, mark.get(0)?, mark.get(1)?)?;
    }
    Ok(())
}
