//! Database side of retention: locations of outputs, ages of rows, and their removal on request of `exec::retention`.
//!
//! ```text
//!  segments in its directory ──archive──▶ database, file or empty ──evict──▶ removed ──prune──▶ no row
//! ```
//!
//! Never touches an execution that has not ended. Files are handled by the caller: a row says where an output is once it is
//! durable there, and that it is removed before it is.

use std::sync::Arc;

use packs_schema::base::name::ExecutionId;
use rusqlite::{Connection, OptionalExtension, params};

use super::HistoryError;
use super::clock::HistoryClock;
use super::row::{id_bytes, id_from};

/// Maximum number of events; the oldest ones are pruned.
pub(super) const MAX_EVENTS: u64 = 200_000;
/// Maximum number of events pruned in one step.
const EVENTS_A_STEP: u64 = 8_192;
/// Maximum number of pages returned to the file system in one step: 1 MiB of them.
const PAGES_A_STEP: u64 = 256;

/// Location of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputLocation {
    /// Segments in the execution's directory.
    Directory,
    /// Archive in the database.
    Database(Arc<[u8]>),
    /// Archive file in the execution's directory.
    File,
    /// The execution wrote no output.
    Empty,
    /// Evicted to keep the history within its budget.
    Removed,
}

/// Stored form of a location, in column `output`; numbers are only ever added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LocationCode {
    Directory = 0,
    Database = 1,
    File = 2,
    Empty = 3,
    Removed = 4,
}

/// Age and size of the history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Age of the history in milliseconds, by its own clock.
    pub age_ms: u64,
    /// Highest row that is old enough to be pruned.
    pub horizon: Option<i64>,
    /// Bytes of the database in use.
    pub used_bytes: u64,
    /// Bytes of the database that can be returned to the file system.
    pub free_bytes: u64,
}

/// Stored execution, as retention needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Row number.
    pub seq: i64,
    /// Execution id.
    pub id: ExecutionId,
    /// True if it has a directory.
    pub on_disk: bool,
}

/// Request to the writer thread.
#[derive(Debug, Clone)]
pub(super) enum RetentionJob {
    /// Save the history's clock, and return age and size.
    Tally { keep_ms: u64 },
    /// Record where these outputs have been archived.
    Archive(Vec<(ExecutionId, OutputLocation)>),
    /// Evict the outputs of these rows.
    Evict(Vec<i64>),
    /// Prune these rows.
    Prune(Vec<i64>),
    /// Return free pages to the file system.
    Shrink,
    /// Free the memory of caches.
    ReleaseMemory,
}

impl RetentionJob {
    pub(super) fn must_be_durable(&self) -> bool {
        matches!(self, RetentionJob::Archive(_) | RetentionJob::Evict(_))
    }
}

/// Answer of the writer thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RetentionResult {
    Tally(Tally),
    Rows(usize),
}

pub(super) fn apply(
    connection: &Connection,
    history_clock: &HistoryClock,
    job: &RetentionJob,
) -> Result<RetentionResult, HistoryError> {
    Ok(match job {
        RetentionJob::Tally { keep_ms } => RetentionResult::Tally(tally(connection, history_clock, *keep_ms)?),
        RetentionJob::Archive(outputs) => RetentionResult::Rows(archive(connection, outputs)?),
        RetentionJob::Evict(rows) => RetentionResult::Rows(evict_outputs(connection, rows)?),
        RetentionJob::Prune(rows) => RetentionResult::Rows(prune(connection, rows)?),
        RetentionJob::Shrink => {
            let mut statement = connection.prepare(&format!("PRAGMA incremental_vacuum({PAGES_A_STEP})"))?;
            let mut rows = statement.query([])?;
            // Each row of the result is a page returned.
            while rows.next()?.is_some() {}
            RetentionResult::Rows(0)
        }
        RetentionJob::ReleaseMemory => {
            connection.execute_batch(super::RELEASE_MEMORY)?;
            RetentionResult::Rows(0)
        }
    })
}

fn tally(connection: &Connection, history_clock: &HistoryClock, keep_ms: u64) -> rusqlite::Result<Tally> {
    history_clock.save(connection, keep_ms)?;
    prune_events(connection)?;
    let number = |pragma: &str| connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, u64>(0));
    let (pages, free, size) = (number("page_count")?, number("freelist_count")?, number("page_size")?);
    Ok(Tally {
        age_ms: history_clock.now_ms(),
        horizon: history_clock.horizon(connection, keep_ms)?,
        used_bytes: pages.saturating_sub(free) * size,
        free_bytes: free * size,
    })
}

fn archive(connection: &Connection, outputs: &[(ExecutionId, OutputLocation)]) -> rusqlite::Result<usize> {
    let mut done = 0;
    for (id, place) in outputs {
        let number = match place {
            OutputLocation::Directory => LocationCode::Directory,
            OutputLocation::Database(_) => LocationCode::Database,
            OutputLocation::File => LocationCode::File,
            OutputLocation::Empty => LocationCode::Empty,
            OutputLocation::Removed => LocationCode::Removed,
        };
        let seq: Option<i64> = connection
            .prepare_cached(
                "UPDATE executions SET output = ?2, ended_life_ms = NULL WHERE id = ?1 AND output = 0 AND state > 1 RETURNING seq",
            )?
            .query_row(params![id_bytes(id), number as i64], |row| row.get(0))
            .optional()?;
        let Some(seq) = seq else { continue };
        done += 1;
        if let OutputLocation::Database(bytes) = place {
            connection
                .prepare_cached("INSERT OR REPLACE INTO outputs (seq, archive) VALUES (?1, ?2)")?
                .execute(params![seq, &bytes[..]])?;
        }
    }
    Ok(done)
}

fn evict_outputs(connection: &Connection, rows: &[i64]) -> rusqlite::Result<usize> {
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

fn prune(connection: &Connection, rows: &[i64]) -> rusqlite::Result<usize> {
    let mut done = 0;
    for seq in rows {
        let gone = connection.prepare_cached("DELETE FROM executions WHERE seq = ?1 AND state > 1")?.execute([seq])?;
        if gone > 0 {
            connection.prepare_cached("DELETE FROM outputs WHERE seq = ?1")?.execute([seq])?;
        }
        done += gone;
    }
    prune_events(connection)?;
    Ok(done)
}

/// Prunes events without a row and those beyond the maximum, oldest first. The number of the newest event stays known in
/// `sqlite_sequence`.
fn prune_events(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "DELETE FROM events WHERE event IN (SELECT event FROM events ORDER BY event LIMIT ?1)
                AND (NOT EXISTS (SELECT 1 FROM executions e WHERE e.seq = events.seq)
                    OR event <= (SELECT max(event) FROM events) - ?2)",
        )?
        .execute(params![EVENTS_A_STEP, MAX_EVENTS])?;
    Ok(())
}

/// Returns where the output of an execution is; `None` when the execution is unknown.
pub(super) fn output_location(
    connection: &Connection,
    id: &ExecutionId,
) -> Result<Option<OutputLocation>, HistoryError> {
    let mut statement = connection.prepare_cached(
        "SELECT e.output, o.archive FROM executions e LEFT JOIN outputs o ON o.seq = e.seq WHERE e.id = ?1",
    )?;
    let found: Option<(i64, Option<Vec<u8>>)> =
        statement.query_row([id_bytes(id)], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    Ok(found.map(|(number, bytes)| match (number, bytes) {
        (0, _) => OutputLocation::Directory,
        (1, Some(bytes)) => OutputLocation::Database(bytes.into()),
        (2, _) => OutputLocation::File,
        (3, _) => OutputLocation::Empty,
        _ => OutputLocation::Removed,
    }))
}

/// Returns where an output is that is not in segments, without reading the bytes of one in the database.
pub(super) fn archived_location(
    connection: &Connection,
    id: &ExecutionId,
) -> Result<Option<OutputLocation>, HistoryError> {
    let mut statement = connection.prepare_cached("SELECT output FROM executions WHERE id = ?1 AND output > 0")?;
    let number: Option<i64> = statement.query_row([id_bytes(id)], |row| row.get(0)).optional()?;
    Ok(number.map(|number| match number {
        2 => OutputLocation::File,
        4 => OutputLocation::Removed,
        _ => OutputLocation::Empty,
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

/// Lists executions that ended at `until_ms` of the history's clock or before and are not archived, in the order of their ends.
pub(super) fn to_archive(
    connection: &Connection,
    until_ms: Option<u64>,
    limit: u32,
) -> Result<Vec<Stored>, HistoryError> {
    stored(connection, TO_ARCHIVE, until_ms, limit)
}

/// Lists the oldest executions that have an archived output; with `files`, only those with one in a file.
pub(super) fn oldest_outputs(connection: &Connection, files: bool, limit: u32) -> Result<Vec<Stored>, HistoryError> {
    let mut found = stored(connection, IN_FILES, None, limit)?;
    if !files {
        found.extend(stored(connection, IN_TABLE, None, limit)?);
        found.sort_by_key(|stored| stored.seq);
        found.truncate(limit as usize);
    }
    Ok(found)
}

/// Lists the oldest executions that have ended, up to row `until`.
pub(super) fn oldest(connection: &Connection, until: Option<i64>, limit: u32) -> Result<Vec<Stored>, HistoryError> {
    stored(connection, OLDEST, until.and_then(|until| u64::try_from(until).ok()), limit)
}

/// Counts the rows.
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
