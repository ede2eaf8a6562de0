//! Errors of the history, and how SQLite's codes map to them.

use std::path::{Path, PathBuf};

use rusqlite::{ErrorCode, ffi};

/// Error returned when the history cannot be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HistoryError {
    /// The SQLite library is too old.
    #[error("SQLite {0} is too old: 3.51.3 or newer is needed")]
    OldSqlite(&'static str),
    /// The file cannot be opened.
    #[error("cannot open the history {path:?}: {message}")]
    Open {
        /// Path of the file.
        path: PathBuf,
        /// Message of SQLite.
        message: String,
        /// True if the file is damaged.
        damaged: bool,
    },
    /// A damaged file cannot be quarantined.
    #[error("cannot move the damaged history {path:?} aside: {message}")]
    Quarantine {
        /// Path of the file.
        path: PathBuf,
        /// Message of the system.
        message: String,
    },
    /// The file was found to be damaged while in use.
    #[error("the history is damaged: {0}")]
    Damaged(String),
    /// The disk is full.
    #[error("the disk that holds the history is full")]
    DiskFull,
    /// The file system is read-only.
    #[error("the file system that holds the history is read-only")]
    ReadOnly,
    /// Memory or descriptors are exhausted.
    #[error("out of memory or descriptors for the history: {0}")]
    OutOfResources(String),
    /// The disk returns I/O errors.
    #[error("I/O error of the disk that holds the history: {0}")]
    Device(String),
    /// Anything else.
    #[error("the history failed: {0}")]
    Sqlite(String),
    /// The history was closed.
    #[error("the history is closed")]
    Closed,
}

impl HistoryError {
    pub(super) fn open(path: &Path, error: rusqlite::Error) -> HistoryError {
        // `Unknown` is a generic SQL error: our statements are correct, so the tables are not as we made them.
        let damaged = matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt | ErrorCode::Unknown)
        );
        HistoryError::Open { path: path.to_owned(), message: error.to_string(), damaged }
    }
}

impl From<rusqlite::Error> for HistoryError {
    fn from(error: rusqlite::Error) -> HistoryError {
        let extended = error.sqlite_error().map_or(0, |error| error.extended_code);
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => HistoryError::DiskFull,
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => HistoryError::Damaged(error.to_string()),
            Some(ErrorCode::ReadOnly) => HistoryError::ReadOnly,
            Some(ErrorCode::OutOfMemory | ErrorCode::CannotOpen) => HistoryError::OutOfResources(error.to_string()),
            // The index of the write-ahead log could not grow.
            Some(ErrorCode::SystemIoFailure) if extended == ffi::SQLITE_IOERR_SHMSIZE => HistoryError::DiskFull,
            Some(ErrorCode::SystemIoFailure) if extended == ffi::SQLITE_IOERR_NOMEM => {
                HistoryError::OutOfResources(error.to_string())
            }
            Some(ErrorCode::SystemIoFailure) => HistoryError::Device(error.to_string()),
            _ => HistoryError::Sqlite(error.to_string()),
        }
    }
}
