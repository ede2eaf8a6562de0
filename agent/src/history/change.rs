//! The two writes of executions: insert a new row, and update one that has not ended.

use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Execution;
use rusqlite::{Connection, OptionalExtension, params};

use super::compact::{Compact, fingerprint, key_hash};
use super::row::{id_bytes, state_number, to_json, usage_text};
use super::{BootTime, HistoryError, Key, WriteOutcome, audit_mark, query};

/// Inserts a new execution, unless the caller's key belongs to one already.
pub(super) fn insert(
    connection: &Connection,
    record: &Execution,
    key: Option<&Key>,
    boot_time: Option<&BootTime>,
    unaudited_after: Option<u64>,
) -> Result<WriteOutcome, HistoryError> {
    if let Some(key) = key
        && let Some(existing) = query::by_key(connection, &record.instance, &record.principal, &key.key)?
    {
        return Ok(WriteOutcome::KeyExists(Box::new(existing.0), existing.1));
    }
    let mut statement = connection.prepare_cached(
        "INSERT INTO executions (id, action, version, digest, principal, state, reason, parameters, noop, note, run,
            created_at_ms, key_hash, fingerprint, output, boot, created_boottime_ms, dev)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, 0, ?15, ?16, ?17)",
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
        record.run.as_ref().map(|run| Compact(run.to_string())),
        record.created_at_ms,
        key.map(|k| key_hash(record.principal.as_str(), k.key.as_str())),
        key.map(|k| fingerprint(&k.fingerprint)),
        boot_time.map(|boot_time| intern(connection, "names", &boot_time.boot_id)).transpose()?,
        boot_time.map(|boot_time| boot_time.boottime_ms),
        record.dev.as_ref().map(to_json),
    ])?;
    let seq = connection.last_insert_rowid();
    if let Some(after) = unaudited_after {
        audit_mark::set(connection, seq, after)?;
    }
    add_event(connection, seq, record.state, record.created_at_ms, Some(record.created_at_ms))?;
    Ok(WriteOutcome::Written)
}

/// Updates an execution that has not ended.
pub(super) fn update(
    connection: &Connection,
    life_ms: u64,
    record: &Execution,
    changes: &[(State, u64)],
) -> Result<WriteOutcome, HistoryError> {
    let killed_by = record.killed_by.as_ref().map(|k| intern(connection, "names", k.as_str())).transpose()?;
    let mut statement = connection.prepare_cached(
        "UPDATE executions SET state = ?2, reason = ?3, killed_by = ?4, started_after_ms = ?5 - created_at_ms,
            ended_after_ms = ?6 - created_at_ms,
            duration_ms = ?7, exit_status = ?8, signal = ?9, usage = ?10, stdout_written_bytes = ?11,
            stdout_dropped_bytes = ?12, stderr_written_bytes = ?13, stderr_dropped_bytes = ?14, leftovers = ?15,
            unenforced = ?16, result = ?17, result_error = ?18, ended_life_ms = ?19,
            kill_note = ?20
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
                record.usage.as_ref().map(usage_text),
                record.stdout.map(|s| s.written_bytes),
                record.stdout.map(|s| s.dropped_bytes),
                record.stderr.map(|s| s.written_bytes),
                record.stderr.map(|s| s.dropped_bytes),
                record.leftovers.as_ref().map(to_json),
                (!record.unenforced.is_empty()).then(|| to_json(&record.unenforced)),
                record.result.as_ref().map(to_json),
                record.result_error,
                record.state.is_terminal().then_some(life_ms),
                record.kill_note,
            ],
            |row| row.get(0),
        )
        .optional()?;
    // No row: it is unknown or has ended, and an ended execution never changes again.
    let Some(seq) = seq else { return Ok(WriteOutcome::Unchanged) };
    for (state, at_ms) in changes {
        let row_ms = if state.is_terminal() { record.ended_at_ms } else { record.started_at_ms };
        add_event(connection, seq, *state, *at_ms, row_ms)?;
    }
    Ok(WriteOutcome::Written)
}

/// Adds an event. Stores a time only if it differs from the one in the row.
fn add_event(connection: &Connection, seq: i64, state: State, at_ms: u64, row_ms: Option<u64>) -> rusqlite::Result<()> {
    let own = Some(at_ms).filter(|at_ms| Some(*at_ms) != row_ms).unwrap_or(0);
    connection
        .prepare_cached("INSERT INTO events (at_ms, seq, state) VALUES (?1, ?2, ?3)")?
        .execute(params![own, seq, state_number(state)])
        .map(|_| ())
}

/// Returns the number that replaces a text which many rows have.
fn intern(connection: &Connection, table: &'static str, text: &str) -> rusqlite::Result<i64> {
    let mut find = connection.prepare_cached(&format!("SELECT id FROM {table} WHERE name = ?1"))?;
    if let Some(id) = find.query_row([text], |row| row.get(0)).optional()? {
        return Ok(id);
    }
    connection.prepare_cached(&format!("INSERT INTO {table} (name) VALUES (?1)"))?.execute([text])?;
    Ok(connection.last_insert_rowid())
}
