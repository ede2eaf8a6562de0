//! A damaged history: noticed, marked, set aside. The agent never refuses to run for it.
//!
//! ```text
//!  at a start       quick_check of a small file, or the mark of the last run ──▶ set aside, begin anew
//!  after a start    quick_check of a large file, in a thread of its own ──┐
//!  any statement    SQLITE_CORRUPT, SQLITE_NOTADB ────────────────────────┴──▶ mark, tell the process, which ends
//! ```
//!
//! The file is not exchanged while it is used: executions under way go on without the agent, and its next start begins
//! anew from their directories. What was set aside is kept for those who want to look, [`MAX_ASIDE`] of them.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tokio::sync::watch;

use super::HistoryError;
use crate::clock;

/// What is set aside is kept so often; older ones go.
const MAX_ASIDE: usize = 2;
/// The largest file that is checked before the agent listens.
pub(super) const CHECKED_AT_START_BYTES: u64 = 64 << 20;

/// Tells, once and durably, that the file is damaged.
#[derive(Clone)]
pub(super) struct Alarm {
    path: PathBuf,
    told: watch::Sender<bool>,
}

impl Alarm {
    pub(super) fn new(path: &Path) -> (Alarm, watch::Receiver<bool>) {
        let (told, heard) = watch::channel(false);
        (Alarm { path: path.to_owned(), told }, heard)
    }

    /// Looks at what came of a statement.
    pub(super) fn hear<T>(&self, result: &Result<T, HistoryError>) {
        if let Err(HistoryError::Damaged(why)) = result {
            self.raise(why);
        }
    }

    /// The file is damaged.
    pub(super) fn raise(&self, why: &str) {
        if self.told.send_replace(true) {
            return;
        }
        tracing::error!(path = %self.path.display(), why, "the history is damaged; ending, so that the next start sets it aside");
        let write = || {
            let mut file = File::create(mark(&self.path))?;
            file.write_all(why.as_bytes())?;
            file.sync_all()
        };
        if let Err(error) = write() {
            tracing::error!(%error, "the damage could not be marked");
        }
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn mark(path: &Path) -> PathBuf {
    beside(path, ".damaged")
}

/// Why the last run took the file for damaged, if it did.
pub(super) fn marked(path: &Path) -> Option<String> {
    let text = std::fs::read(mark(path)).ok()?;
    Some(format!("noticed while it was used: {}", String::from_utf8_lossy(&text)))
}

/// What is wrong with the file, if anything is: its structure, not the sense of its rows.
pub(super) fn check(connection: &Connection) -> Result<(), HistoryError> {
    let said: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if said == "ok" { Ok(()) } else { Err(HistoryError::Damaged(said)) }
}

/// Moves the file and its log aside; answers where it is now. Nothing is moved when there is no file.
pub(super) fn set_aside(path: &Path, why: &str) -> Result<PathBuf, HistoryError> {
    let failed = |e: io::Error| HistoryError::SetAside { path: path.to_owned(), message: e.to_string() };
    let mut stamp = clock::now_ms();
    while beside(path, &format!(".corrupt-{stamp}")).exists() {
        stamp += 1;
    }
    let aside = beside(path, &format!(".corrupt-{stamp}"));
    // The log first: a database without it is one of before, a log without its database is nothing.
    for suffix in ["-wal", "-shm", ""] {
        match std::fs::rename(beside(path, suffix), beside(&aside, suffix)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
            _ => {}
        }
    }
    match std::fs::remove_file(mark(path)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    tracing::error!(path = %path.display(), aside = %aside.display(), why, "the history is damaged: set aside beside it, beginning a new one from the execution directories");
    let mut all = aside_of(path);
    all.retain(|other| *other != aside);
    while all.len() >= MAX_ASIDE {
        let oldest = all.remove(0);
        for suffix in ["-wal", "-shm", ""] {
            match std::fs::remove_file(beside(&oldest, suffix)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %oldest.display(), error = %e, "an older damaged history cannot be removed");
                }
                _ => {}
            }
        }
    }
    Ok(aside)
}

/// Histories that were set aside and are still there, oldest first.
pub(super) fn aside_of(path: &Path) -> Vec<PathBuf> {
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
