//! Damaged histories: detected, marked, quarantined. Damage never keeps the agent from running.
//!
//! ```text
//!  at a start       quick_check of a small file, or the mark of the last run ──▶ quarantine, make a new file
//!  after a start    quick_check of a large file, in a thread of its own ──┐
//!  any statement    SQLITE_CORRUPT, SQLITE_NOTADB ────────────────────────┴──▶ mark, notify the process, which ends
//! ```
//!
//! The file is not replaced while it is in use: running executions continue without the agent, and its next start makes a new
//! file. That start salvages rows for at most ten seconds and imports the execution directories; while this takes more than
//! two seconds, the agent answers health requests (`recovering`) and 503 to everything else. Quarantined files are kept for
//! inspection, [`MAX_QUARANTINED`] of them.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tokio::sync::watch;

use super::HistoryError;
use crate::clock;

/// Maximum number of quarantined files; older ones are removed.
const MAX_QUARANTINED: usize = 2;
/// Maximum size of a file that is checked before the agent listens.
pub(super) const CHECKED_AT_START_BYTES: u64 = 64 << 20;

/// Reports, once and durably, that the file is damaged.
#[derive(Clone)]
pub(super) struct DamageReporter {
    path: PathBuf,
    damaged: watch::Sender<bool>,
}

impl DamageReporter {
    pub(super) fn new(path: &Path) -> (DamageReporter, watch::Receiver<bool>) {
        let (damaged, receiver) = watch::channel(false);
        (DamageReporter { path: path.to_owned(), damaged }, receiver)
    }

    /// Checks the result of a statement.
    pub(super) fn check<T>(&self, result: &Result<T, HistoryError>) {
        if let Err(HistoryError::Damaged(why)) = result {
            self.report(why);
        }
    }

    /// Marks the file as damaged and notifies the process.
    pub(super) fn report(&self, why: &str) {
        if self.damaged.send_replace(true) {
            return;
        }
        tracing::error!(path = %self.path.display(), why, "the history is damaged; the agent ends, and its next start quarantines the file");
        let write = || {
            let mut file = File::create(mark_path(&self.path))?;
            file.write_all(why.as_bytes())?;
            file.sync_all()
        };
        if let Err(error) = write() {
            tracing::error!(%error, "cannot mark the history as damaged");
        }
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn mark_path(path: &Path) -> PathBuf {
    beside(path, ".damaged")
}

/// Returns why the last run marked the file as damaged, if it did.
pub(super) fn read_mark(path: &Path) -> Option<String> {
    let text = std::fs::read(mark_path(path)).ok()?;
    Some(format!("found while it was in use: {}", String::from_utf8_lossy(&text)))
}

/// Checks the structure of the file, not the content of its rows.
pub(super) fn check(connection: &Connection) -> Result<(), HistoryError> {
    let answer: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if answer == "ok" { Ok(()) } else { Err(HistoryError::Damaged(answer)) }
}

/// Moves the file and its write-ahead log to a name beside it, which is returned. Moves nothing when there is no file.
pub(super) fn quarantine(path: &Path, why: &str) -> Result<PathBuf, HistoryError> {
    let failed = |e: io::Error| HistoryError::Quarantine { path: path.to_owned(), message: e.to_string() };
    let mut stamp = clock::now_ms();
    while beside(path, &format!(".corrupt-{stamp}")).exists() {
        stamp += 1;
    }
    let aside = beside(path, &format!(".corrupt-{stamp}"));
    // The log first: a database without its log has an earlier state, while a log without its database is useless.
    for suffix in ["-wal", "-shm", ""] {
        match std::fs::rename(beside(path, suffix), beside(&aside, suffix)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
    }
    match std::fs::remove_file(mark_path(path)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    tracing::error!(path = %path.display(), aside = %aside.display(), why, "the history is damaged: quarantined beside it; making a new one from the execution directories");
    let mut all = quarantined_files(path);
    all.retain(|other| *other != aside);
    while all.len() >= MAX_QUARANTINED {
        let oldest = all.remove(0);
        for suffix in ["-wal", "-shm", ""] {
            match std::fs::remove_file(beside(&oldest, suffix)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %oldest.display(), error = %e, "cannot remove an older quarantined history");
                }
                _ => {}
            }
        }
    }
    Ok(aside)
}

/// Lists the quarantined files, oldest first.
pub(super) fn quarantined_files(path: &Path) -> Vec<PathBuf> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    let stamp = |found: &str| found.strip_prefix(name)?.strip_prefix(".corrupt-")?.parse::<u64>().ok();
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<(u64, PathBuf)> =
        entries.filter_map(|entry| Some((stamp(entry.file_name().to_str()?)?, entry.path()))).collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}
