//! The database's tables: how they came about, one migration after the other, and how the file is opened.
//!
//! `user_version` counts the migrations that a file has been through. [`MIGRATIONS`] is only ever
//! appended to. States are stored as their place in `State::ALL`, which is only ever appended to as well.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::HistoryError;

/// The oldest SQLite that is safe: earlier ones could corrupt a WAL with several connections.
const OLDEST_SQLITE: i32 = 3_051_003;

const MIGRATIONS: &[&str] = &[
    "
CREATE TABLE actions (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE executions (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    action INTEGER NOT NULL REFERENCES actions (id),
    version INTEGER NOT NULL REFERENCES names (id),
    digest INTEGER NOT NULL REFERENCES names (id),
    principal INTEGER NOT NULL REFERENCES names (id),
    killed_by INTEGER REFERENCES names (id),
    state INTEGER NOT NULL,
    reason TEXT,
    parameters TEXT NOT NULL,
    noop INTEGER NOT NULL,
    note TEXT,
    run TEXT,
    created_at_ms INTEGER NOT NULL,
    started_at_ms INTEGER,
    ended_at_ms INTEGER,
    duration_ms INTEGER,
    exit_status INTEGER,
    signal INTEGER,
    usage TEXT,
    stdout_written_bytes INTEGER,
    stdout_dropped_bytes INTEGER,
    stderr_written_bytes INTEGER,
    stderr_dropped_bytes INTEGER,
    leftovers TEXT,
    unenforced TEXT,
    result TEXT,
    result_error TEXT,
    idempotency_key TEXT,
    fingerprint TEXT
) STRICT;
CREATE INDEX executions_created ON executions (created_at_ms);
CREATE INDEX executions_action ON executions (action, created_at_ms);
CREATE INDEX executions_principal ON executions (principal, created_at_ms);
CREATE INDEX executions_state ON executions (state, created_at_ms);
CREATE INDEX executions_run ON executions (run, created_at_ms) WHERE run IS NOT NULL;
CREATE UNIQUE INDEX executions_key ON executions (principal, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE TABLE events (
    event INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    state INTEGER NOT NULL
) STRICT;
",
    "
ALTER TABLE executions ADD COLUMN dev TEXT;
",
];

/// Opens the database for writing and brings it to the newest schema. True: the file is new.
pub(super) fn open_writer(path: &Path) -> Result<(Connection, bool), HistoryError> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(HistoryError::OldSqlite(rusqlite::version()));
    }
    let connection = Connection::open(path).map_err(|e| HistoryError::open(path, e))?;
    let fresh = prepare(&connection).map_err(|e| HistoryError::open(path, e))?;
    Ok((connection, fresh))
}

/// Opens it for reading only.
pub(super) fn open_reader(path: &Path) -> Result<Connection, HistoryError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|e| HistoryError::open(path, e))?;
    tune(&connection).map_err(|e| HistoryError::open(path, e))?;
    Ok(connection)
}

/// A small footprint: pages are in the system's cache already.
fn tune(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.execute_batch("PRAGMA cache_size = -512; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;")
}

fn prepare(connection: &Connection) -> rusqlite::Result<bool> {
    tune(connection)?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")?;
    let version: usize = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    for (done, migration) in MIGRATIONS.iter().enumerate().skip(version) {
        let to = done + 1;
        connection.execute_batch(&format!("BEGIN IMMEDIATE; {migration} PRAGMA user_version = {to}; COMMIT;"))?;
    }
    Ok(version == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_is_brought_to_the_newest_schema_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.db");
        let (connection, fresh) = open_writer(&path).unwrap();
        assert!(fresh);
        let version: usize = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(version, MIGRATIONS.len());
        drop(connection);
        assert!(!open_writer(&path).unwrap().1);
    }
}
