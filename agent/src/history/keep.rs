//! Where outputs are, what is old, and what goes: what the sweep in `exec` asks of the database.
//!
//! ```text
//!  in its directory ──archive──▶ in the table, in a file, or nothing ──budget──▶ gone ──keep──▶ no row
//! ```
//!
//! Nothing here touches an execution that has not ended. Files are the caller's: a row says where an output is once
//! it is safely there, and that it is gone before it goes.

use std::sync::Arc;

use packs_schema::base::name::ExecutionId;
use rusqlite::{Connection, OptionalExtension, params};

use super::HistoryError;
use super::life::Life;
use super::row::{id_bytes, id_from};

/// Events that are remembered at most, the newest of them.
pub(super) const MAX_EVENTS: u64 = 200_000;
/// Events that one step forgets at most.
const EVENTS_A_STEP: u64 = 8_192;
/// Pages that one step gives back to the file system at most: a MiB of them.
const PAGES_A_STEP: u64 = 256;

/// Where the output of an execution is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In its directory, as its shim wrote it.
    Directory,
    /// In the database: these bytes.
    Table(Arc<[u8]>),
    /// In its directory, folded into one file.
    File,
    /// It wrote none.
    Nothing,
    /// It was removed, to keep to the budget.
    Gone,
}

/// Where an output was put; numbers are only ever added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Directory = 0,
    Table = 1,
    File = 2,
    Nothing = 3,
    Gone = 4,
}

/// What stands in the database, and when.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Milliseconds that the history has lived.
    pub life_ms: u64,
    /// The highest row that is old enough to go.
    pub horizon: Option<i64>,
    /// Bytes of the database that are in use.
    pub used_bytes: u64,
    /// Bytes of it that can be given back.
    pub free_bytes: u64,
}

/// An execution as the sweep sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its row.
    pub seq: i64,
    /// Its id.
    pub id: ExecutionId,
    /// It has a directory.
    pub on_disk: bool,
}

/// What the writer is asked for.
#[derive(Debug, Clone)]
pub(super) enum Keep {
    /// Save the life clock, and count.
    Tally { keep_ms: u64 },
    /// These outputs are there now.
    Archive(Vec<(ExecutionId, Place)>),
    /// The outputs of these rows go.
    Drop(Vec<i64>),
    /// These rows go.
    Forget(Vec<i64>),
    /// Give free pages back.
    Shrink,
}

impl Keep {
    pub(super) fn must_last(&self) -> bool {
        matches!(self, Keep::Archive(_) | Keep::Drop(_))
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Tally(Tally),
    Rows(usize),
}

pub(super) fn apply(connection: &Connection, life: &Life, job: &Keep) -> Result<Kept, HistoryError> {
    Ok(match job {
        Keep::Tally { keep_ms } => Kept::Tally(tally(connection, life, *keep_ms)?),
        Keep::Archive(outputs) => Kept::Rows(archive(connection, outputs)?),
        Keep::Drop(rows) => Kept::Rows(drop_outputs(connection, rows)?),
        Keep::Forget(rows) => Kept::Rows(forget(connection, rows)?),
        Keep::Shrink => {
            let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({PAGES_A_STEP})"))?;
            let mut rows = statement.query([])?;
            // Each step gives one page back.
            while rows.next()?.is_some() {}
            Kept::Rows(0)
        }
    })
}

fn tally(connection: &Connection, life: &Life, keep_ms: u64) -> rusqlite::Result<Tally> {
    life.save(connection, keep_ms)?;
    forget_events(connection)?;
    let number = |pragma: &str| connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, u64>(0));
    let (pages, free, size) = (number("page_count")?, number("freelist_count")?, number("page_size")?);
    Ok(Tally {
        life_ms: life.now_ms(),
        horizon: life.horizon(connection, keep_ms)?,
        used_bytes: pages.saturating_sub(free) * size,
        free_bytes: free * size,
    })
}

fn archive(connection: &Connection, outputs: &[(ExecutionId, Place)]) -> rusqlite::Result<usize> {
    let mut done = 0;
    for (id, place) in outputs {
        let number = match place {
            Place::Directory => Number::Directory,
            Place::Table(_) => Number::Table,
            Place::File => Number::File,
            Place::Nothing => Number::Nothing,
            Place::Gone => Number::Gone,
        };
        let seq: Option<i64> = connection
            .prepare_cached(
                "UPDATE executions SET output = ?2, ended_life_ms = NULL WHERE id = ?1 AND output = 0 AND state > 1 RETURNING seq",
            )?
            .query_row(params![id_bytes(id), number as i64], |row| row.get(0))
            .optional()?;
        let Some(seq) = seq else { continue };
        done += 1;
        if let Place::Table(bytes) = place {
            connection
                .prepare_cached("INSERT OR REPLACE INTO outputs (seq, archive) VALUES (?1, ?2)")?
                .execute(params![seq, &bytes[..]])?;
        }
    }
    Ok(done)
}

fn drop_outputs(connection: &Connection, rows: &[i64]) -> rusqlite::Result<usize> {
    let mut mark = connection
        .prepare_cached("UPDATE executions SET output = 4 WHERE seq = ?1 AND output IN (0, 1, 2) AND state > 1")?;
    let mut remove = connection.prepare_cached("DELETE FROM outputs WHERE seq = ?1")?;
    let mut done = 0;
    for seq in rows {
        done += mark.execute([seq])?;
        remove.execute([seq])?;
    }
    Ok(done)
}

fn forget(connection: &Connection, rows: &[i64]) -> rusqlite::Result<usize> {
    let mut done = 0;
    for seq in rows {
        let gone = connection.prepare_cached("DELETE FROM executions WHERE seq = ?1 AND state > 1")?.execute([seq])?;
        if gone > 0 {
            connection.prepare_cached("DELETE FROM outputs WHERE seq = ?1")?.execute([seq])?;
        }
        done += gone;
    }
    forget_events(connection)?;
    Ok(done)
}

/// Events without a row, and those beyond the most that are remembered, oldest first. The newest event's number stays
/// known: it is in `sqlite_sequence`.
fn forget_events(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM events WHERE event IN (SELECT event FROM events ORDER BY event LIMIT ?1)
                AND (NOT EXISTS (SELECT 1 FROM executions e WHERE e.seq = events.seq)
                    OR event <= (SELECT max(event) FROM events) - ?2)",
        )?
        .execute(params![EVENTS_A_STEP, MAX_EVENTS])?;
    Ok(())
}

/// Where the output of an execution is; `None` when it is not known.
pub(super) fn place(connection: &Connection, id: &ExecutionId) -> Result<Option<Place>, HistoryError> {
    let mut statement = connection.prepare_cached(
        "SELECT e.output, o.archive FROM executions e LEFT JOIN outputs o ON o.seq = e.seq WHERE e.id = ?1",
    )?;
    let found: Option<(i64, Option<Vec<u8>>)> =
        statement.query_row([id_bytes(id)], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    Ok(found.map(|(number, bytes)| match (number, bytes) {
        (0, _) => Place::Directory,
        (1, Some(bytes)) => Place::Table(bytes.into()),
        (2, _) => Place::File,
        (3, _) => Place::Nothing,
        _ => Place::Gone,
    }))
}

/// Where an output is that is not in segments; the bytes of one in the database are not read.
pub(super) fn lies_elsewhere(connection: &Connection, id: &ExecutionId) -> Result<Option<Place>, HistoryError> {
    let mut statement = connection.prepare_cached("SELECT output FROM executions WHERE id = ?1 AND output > 0")?;
    let number: Option<i64> = statement.query_row([id_bytes(id)], |row| row.get(0)).optional()?;
    Ok(number.map(|number| match number {
        2 => Place::File,
        4 => Place::Gone,
        _ => Place::Nothing,
    }))
}

fn stored(connection: &Connection, sql: &str, first: Option<u64>, limit: u32) -> Result<Vec<Stored>, HistoryError> {
    let mut statement = connection.prepare_cached(sql)?;
    let first = first.map_or(i64::MAX, |first| i64::try_from(first).unwrap_or(i64::MAX));
    let rows = statement.query_map(params![first, limit], |row| {
        let number: i64 = row.get(2)?;
        Ok(Stored { seq: row.get(0)?, id: id_from(row.get(1)?), on_disk: matches!(number, 0 | 2) })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Executions that ended at `until_ms` of the history's life or before and are not archived, in the order of their ends.
pub(super) fn to_archive(
    connection: &Connection,
    until_ms: Option<u64>,
    limit: u32,
) -> Result<Vec<Stored>, HistoryError> {
    stored(connection, TO_ARCHIVE, until_ms, limit)
}

/// The oldest executions that have an output; `files`: in a file only.
pub(super) fn oldest_outputs(connection: &Connection, files: bool, limit: u32) -> Result<Vec<Stored>, HistoryError> {
    let mut found = stored(connection, IN_FILES, None, limit)?;
    if !files {
        found.extend(stored(connection, IN_TABLE, None, limit)?);
        found.sort_by_key(|stored| stored.seq);
        found.truncate(limit as usize);
    }
    Ok(found)
}

/// The oldest executions that have ended, up to the row `until`.
pub(super) fn oldest(connection: &Connection, until: Option<i64>, limit: u32) -> Result<Vec<Stored>, HistoryError> {
    stored(connection, OLDEST, until.and_then(|until| u64::try_from(until).ok()), limit)
}

/// How many rows there are.
pub(super) fn count(connection: &Connection) -> Result<u64, HistoryError> {
    Ok(connection.query_row("SELECT count(*) FROM executions", [], |row| row.get(0))?)
}

pub(super) const TO_ARCHIVE: &str = "SELECT seq, id, output FROM executions
    WHERE output = 0 AND ended_life_ms IS NOT NULL AND ended_life_ms <= ?1 ORDER BY ended_life_ms, seq LIMIT ?2";
pub(super) const IN_FILES: &str =
    "SELECT seq, id, output FROM executions WHERE output = 2 AND seq <= ?1 ORDER BY seq LIMIT ?2";
pub(super) const IN_TABLE: &str = "SELECT o.seq, e.id, e.output FROM outputs o CROSS JOIN executions e ON e.seq = o.seq
    WHERE o.seq <= ?1 ORDER BY o.seq LIMIT ?2";
pub(super) const OLDEST: &str =
    "SELECT seq, id, output FROM executions WHERE state > 1 AND seq <= ?1 ORDER BY seq LIMIT ?2";
