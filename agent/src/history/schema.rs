//! Schema of the database, as a list of migrations, and opening the file.
//!
//! `user_version` is the number of migrations applied to a file. [`MIGRATIONS`] is append-only. States are stored as their
//! position in `State::ALL`, which is append-only as well.

use std::path::Path;
use std::time::Duration;

use packs_schema::base::name::InstanceId;
use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};

use super::compact::{Compact, fingerprint, key_hash};
use super::{HistoryError, damage, salvage, wal};

/// Minimum version of SQLite: earlier ones can corrupt a WAL with several connections.
const MIN_SQLITE: i32 = 3_051_003;

/// Size to which the write-ahead log is truncated after a checkpoint.
const LOG_BYTES: u64 = 4 << 20;
/// Capacity of the cache of prepared statements: all of ours.
const STATEMENTS: usize = 48;
/// Minimum page size; the file size is a multiple of it.
const SECTOR: u64 = 512;
/// Maximum size of a file that is rewritten at a start to enable incremental vacuum.
const REWRITE_BYTES: u64 = 64 << 20;

/// Migration from one version of the file to the next.
struct Migration {
    sql: &'static str,
    /// Step after the SQL, for what SQL alone cannot do.
    then: fn(&Connection) -> rusqlite::Result<()>,
}

const MIGRATIONS: &[Migration] = &[
    Migration { sql: FIRST, then: |_| Ok(()) },
    Migration { sql: ARCHIVES, then: compact },
    Migration { sql: BOOT_CLOCK, then: |_| Ok(()) },
    Migration { sql: DEV, then: |_| Ok(()) },
    Migration { sql: EPOCH, then: renew_epoch },
    Migration { sql: KILL_NOTE, then: |_| Ok(()) },
    // Separate steps, so that an interrupted migration of a large file continues with the next.
    Migration { sql: SUCCEEDED, then: |_| Ok(()) },
    Migration { sql: UNSUCCESSFUL_ACTION, then: |_| Ok(()) },
    Migration { sql: UNSUCCESSFUL_PRINCIPAL, then: |_| Ok(()) },
    Migration { sql: UNSUCCESSFUL_ACTION_PRINCIPAL, then: |_| Ok(()) },
    Migration { sql: UNAUDITED, then: |_| Ok(()) },
];

const FIRST: &str = "
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
";

/// Archived outputs, the history's clock, and smaller rows: texts that are numbers stored as numbers, no index entry for the state
/// `succeeded`, which nearly all rows have. Row numbers are never used again, because marks and events refer to them.
const ARCHIVES: &str = "
CREATE TABLE compact_executions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
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
    run ANY,
    created_at_ms INTEGER NOT NULL,
    started_after_ms INTEGER,
    ended_after_ms INTEGER,
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
    key_hash BLOB,
    fingerprint ANY,
    output INTEGER NOT NULL,
    ended_life_ms INTEGER
) STRICT;
INSERT INTO compact_executions SELECT seq, id, action, version, digest, principal, killed_by, state, reason, parameters,
    noop, note, run, created_at_ms, started_at_ms - created_at_ms, ended_at_ms - created_at_ms, duration_ms, exit_status,
    signal, usage, stdout_written_bytes, stdout_dropped_bytes, stderr_written_bytes, stderr_dropped_bytes, leftovers,
    unenforced, result, result_error, NULL, fingerprint, 0, CASE WHEN state > 1 THEN 0 END FROM executions ORDER BY seq;
ALTER TABLE executions RENAME TO old_executions;
ALTER TABLE compact_executions RENAME TO executions;
DROP INDEX executions_created;
DROP INDEX executions_action;
DROP INDEX executions_principal;
DROP INDEX executions_state;
DROP INDEX executions_run;
DROP INDEX executions_key;
CREATE INDEX executions_created ON executions (created_at_ms);
CREATE INDEX executions_action ON executions (action, created_at_ms);
CREATE INDEX executions_principal ON executions (principal, created_at_ms);
CREATE INDEX executions_state ON executions (state, created_at_ms) WHERE state <> 2;
CREATE INDEX executions_run ON executions (run, created_at_ms) WHERE run IS NOT NULL;
CREATE UNIQUE INDEX executions_key ON executions (key_hash) WHERE key_hash IS NOT NULL;
CREATE INDEX executions_to_archive ON executions (ended_life_ms) WHERE output = 0 AND ended_life_ms IS NOT NULL;
CREATE INDEX executions_in_files ON executions (seq) WHERE output = 2;
CREATE TABLE outputs (seq INTEGER PRIMARY KEY, archive BLOB NOT NULL) STRICT;
CREATE TABLE life (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    life_ms INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    boot_ms INTEGER NOT NULL,
    wall_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE marks (life_ms INTEGER PRIMARY KEY, seq INTEGER NOT NULL) STRICT;
";

/// Time of acceptance by the clock of the boot, for actions with a rate.
const BOOT_CLOCK: &str = "
ALTER TABLE executions ADD COLUMN boot INTEGER REFERENCES names (id);
ALTER TABLE executions ADD COLUMN created_boottime_ms INTEGER;
CREATE INDEX executions_boot ON executions (action, boot, created_boottime_ms) WHERE created_boottime_ms IS NOT NULL;
";

/// Push of the version (by whom, until when), for pushed versions.
const DEV: &str = "ALTER TABLE executions ADD COLUMN dev TEXT;";

/// Epoch of the file: cursors of a file that it replaced are not valid in it.
const EPOCH: &str = "CREATE TABLE epoch (one INTEGER PRIMARY KEY CHECK (one = 1), epoch TEXT NOT NULL) STRICT;";

/// Reason of a kill, given by the caller.
const KILL_NOTE: &str = "ALTER TABLE executions ADD COLUMN kill_note TEXT;";

/// Indexes of pages by state: see `listing`. They have ended executions only, so that other changes of state do not write them.
const SUCCEEDED: &str =
    "CREATE INDEX executions_succeeded ON executions (action, principal, created_at_ms) WHERE state = 2;";
const UNSUCCESSFUL_ACTION: &str =
    "CREATE INDEX executions_unsuccessful_action ON executions (state, action, created_at_ms) WHERE state > 2;";
const UNSUCCESSFUL_PRINCIPAL: &str =
    "CREATE INDEX executions_unsuccessful_principal ON executions (state, principal, created_at_ms) WHERE state > 2;";
const UNSUCCESSFUL_ACTION_PRINCIPAL: &str = "DROP INDEX executions_principal;
CREATE INDEX executions_unsuccessful_action_principal
    ON executions (state, action, principal, created_at_ms) WHERE state > 2;";

/// Rows whose executions may have no entry in the audit log yet, with the position in the log at which they were accepted.
const UNAUDITED: &str =
    "CREATE TABLE IF NOT EXISTS unaudited (seq INTEGER PRIMARY KEY, after INTEGER NOT NULL) STRICT;";

/// Gives the file a new epoch: from here on event numbers may be used that referred to other events before.
fn renew_epoch(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("INSERT OR REPLACE INTO epoch VALUES (1, lower(hex(randomblob(8))));")
}

/// Returns the file's epoch.
pub(super) fn epoch(connection: &Connection) -> rusqlite::Result<String> {
    connection.query_row("SELECT epoch FROM epoch", [], |row| row.get(0))
}

/// Compacts texts and hashes keys in existing rows.
fn compact(connection: &Connection) -> rusqlite::Result<()> {
    let mut rows = connection.prepare(
        "SELECT e.seq, e.run, p.name, e.idempotency_key, e.fingerprint FROM old_executions e
         JOIN names p ON p.id = e.principal WHERE e.run IS NOT NULL OR e.idempotency_key IS NOT NULL",
    )?;
    let mut update =
        connection.prepare("UPDATE executions SET run = ?2, key_hash = ?3, fingerprint = ?4 WHERE seq = ?1")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let (principal, key): (String, Option<String>) = (row.get(2)?, row.get(3)?);
        update.execute(params![
            row.get::<_, i64>(0)?,
            row.get::<_, Option<String>>(1)?.map(Compact),
            key.map(|key| key_hash(&principal, &key)),
            row.get::<_, Option<String>>(4)?.map(|text| fingerprint(&text)),
        ])?;
    }
    drop(rows);
    connection.execute_batch("DROP TABLE old_executions;")
}

/// Opened database.
pub(super) struct Opened {
    pub(super) connection: Connection,
    /// True if rows may be missing.
    pub(super) needs_import: bool,
    /// True if its structure has been checked.
    pub(super) checked: bool,
}

/// Opens the database; quarantines a damaged one and salvages what can be read of it into a new one.
pub(super) fn open_or_recreate(path: &Path, instance: &InstanceId) -> Result<Opened, HistoryError> {
    if let Some(why) = damage::read_mark(path) {
        return quarantine_and_recreate(path, instance, &why);
    }
    match open_or_create(path, instance) {
        Err(HistoryError::Open { damaged: true, message, .. }) => quarantine_and_recreate(path, instance, &message),
        other => other,
    }
}

fn quarantine_and_recreate(path: &Path, instance: &InstanceId, why: &str) -> Result<Opened, HistoryError> {
    let quarantined = damage::quarantine(path, why)?;
    let opened = open_or_create(path, instance)?;
    salvage::salvage(&opened.connection, &quarantined, instance);
    Ok(Opened { needs_import: true, ..opened })
}

fn open_or_create(path: &Path, instance: &InstanceId) -> Result<Opened, HistoryError> {
    let bytes = path.metadata().map_or(0, |meta| meta.len());
    if !bytes.is_multiple_of(SECTOR) && !wal::exists(path) {
        let message = format!("its size of {bytes} bytes is not a multiple of the page size");
        return Err(HistoryError::Open { path: path.to_owned(), message, damaged: true });
    }
    let torn = wal::is_torn(path);
    let (connection, created) = open_writer(path)?;
    let checked = bytes <= damage::CHECKED_AT_START_BYTES;
    let damaged = |e: HistoryError| match e {
        HistoryError::Damaged(message) => HistoryError::Open { path: path.to_owned(), message, damaged: true },
        other => other,
    };
    if checked {
        damage::check(&connection).map_err(damaged)?;
    }
    if torn {
        // Its last events are lost, and their numbers will be used again.
        renew_epoch(&connection).map_err(|e| damaged(e.into()))?;
    }
    let repaired = salvage::drop_unreadable(&connection, instance).map_err(damaged)?;
    Ok(Opened { connection, needs_import: created || torn || repaired, checked })
}

/// Opens the database for writing and migrates it to the newest schema. Returns true if the file was created.
pub(super) fn open_writer(path: &Path) -> Result<(Connection, bool), HistoryError> {
    if rusqlite::version_number() < MIN_SQLITE {
        return Err(HistoryError::OldSqlite(rusqlite::version()));
    }
    let mut connection = Connection::open(path).map_err(|e| HistoryError::open(path, e))?;
    let created = prepare(&mut connection).map_err(|e| HistoryError::open(path, e))?;
    Ok((connection, created))
}

/// Writes the directory's entries of the file and its log to the disk. SQLite does this with fdatasync, which need not write them on
/// every file system.
pub(super) fn sync_directory(path: &Path) {
    let directory = path.parent().unwrap_or(Path::new("."));
    if let Err(error) = std::fs::File::open(directory).and_then(|directory| directory.sync_all()) {
        tracing::warn!(path = %directory.display(), %error, "cannot write the history's directory to the disk");
    }
}

/// Opens the database read-only.
pub(super) fn open_reader(path: &Path) -> Result<Connection, HistoryError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|e| HistoryError::open(path, e))?;
    tune(&connection).map_err(|e| HistoryError::open(path, e))?;
    Ok(connection)
}

/// Keeps SQLite's memory small: pages are in the page cache of the system already.
fn tune(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.execute_batch("PRAGMA cache_size = -512; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;")
}

fn prepare(connection: &mut Connection) -> rusqlite::Result<bool> {
    tune(connection)?;
    let version: usize = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == 0 {
        // Takes effect only before the first table.
        connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL;")?;
    } else {
        enable_incremental_vacuum(connection)?;
    }
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.execute_batch(&format!("PRAGMA journal_size_limit = {LOG_BYTES}; PRAGMA synchronous = FULL;"))?;
    for (done, migration) in MIGRATIONS.iter().enumerate().skip(version) {
        let to = done + 1;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(migration.sql)?;
        (migration.then)(&transaction)?;
        transaction.execute_batch(&format!("PRAGMA user_version = {to};"))?;
        transaction.commit()?;
    }
    connection.execute_batch("PRAGMA foreign_keys = ON;")?;
    Ok(version == 0)
}

/// Enables incremental vacuum in a file of an earlier version. Leaves a large one as it is: its free pages are reused.
fn enable_incremental_vacuum(connection: &Connection) -> rusqlite::Result<()> {
    let number = |pragma: &str| connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, u64>(0));
    if number("auto_vacuum")? != 0 || number("page_count")? * number("page_size")? > REWRITE_BYTES {
        return Ok(());
    }
    connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL; VACUUM;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_is_migrated_to_the_newest_schema_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.db");
        let (connection, fresh) = open_writer(&path).unwrap();
        assert!(fresh);
        let version: usize = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(version, MIGRATIONS.len());
        drop(connection);
        assert!(!open_writer(&path).unwrap().1);
    }

    #[test]
    fn a_file_of_an_earlier_version_keeps_its_rows_and_gets_incremental_vacuum() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.db");
        let run = "r-01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa";
        let old = Connection::open(&path).unwrap();
        old.execute_batch(&format!("PRAGMA journal_mode = WAL; BEGIN; {FIRST} PRAGMA user_version = 1; COMMIT;"))
            .unwrap();
        old.execute_batch(&format!(
            "INSERT INTO actions VALUES (1, 'linux.a'); INSERT INTO names VALUES (1, 'x');
             INSERT INTO executions (id, action, version, digest, principal, state, parameters, noop, run, created_at_ms,
                idempotency_key, fingerprint)
             VALUES (x'01', 1, 1, 1, 1, 3, '{{}}', 0, '{run}', 5, 'key', '00ff'),
                (x'02', 1, 1, 1, 1, 1, '{{}}', 0, NULL, 6, NULL, NULL);"
        ))
        .unwrap();
        drop(old);
        let (connection, fresh) = open_writer(&path).unwrap();
        assert!(!fresh);
        let mut statement = connection
            .prepare("SELECT run, key_hash, fingerprint, output, ended_life_ms FROM executions ORDER BY seq")
            .unwrap();
        type Row = (Option<Compact>, Option<Vec<u8>>, Option<Compact>, i64, Option<i64>);
        let rows: Vec<Row> = statement
            .query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?)))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let text = |text: &str| Some(Compact(text.to_owned()));
        let key = Some(key_hash("x", "key"));
        assert_eq!(rows, [(text(run), key, text("00ff"), 0, Some(0)), (None, None, None, 0, None)]);
        let found: i64 = connection
            .query_row("SELECT seq FROM executions WHERE run = ?1", params![text(run)], |row| row.get(0))
            .unwrap();
        assert_eq!(found, 1);
        let vacuum: i64 = connection.query_row("PRAGMA auto_vacuum", [], |row| row.get(0)).unwrap();
        assert_eq!(vacuum, 2);
    }
}
