//! Why the history could not be read or written.

use std::path::{Path, PathBuf};

use rusqlite::{ErrorCode, ffi};

/// Why the history could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HistoryError {
    /// The bundled library is too old.
    #[error("SQLite {0} is too old: 3.51.3 or newer is needed")]
    OldSqlite(&'static str),
    /// The file cannot be opened.
    #[error("cannot open the history {path:?}: {message}")]
    Open {
        /// Which file.
        path: PathBuf,
        /// SQLite's words.
        message: String,
        /// The file is damaged.
        damaged: bool,
    },
    /// A damaged file cannot be set aside.
    #[error("cannot set aside the damaged history {path:?}: {message}")]
    SetAside {
        /// Which file.
        path: PathBuf,
        /// The system's words.
        message: String,
    },
    /// The file turned out to be damaged while it was used.
    #[error("the history is damaged: {0}")]
    Damaged(String),
    /// No space left.
    #[error("the disk that holds the history is full")]
    DiskFull,
    /// The file system takes no writes.
    #[error("the file system that holds the history is read-only")]
    ReadOnly,
    /// No memory, or no descriptor.
    #[error("the host lacks memory or descriptors for the history: {0}")]
    OutOfResources(String),
    /// The disk does not do what it is told.
    #[error("the disk that holds the history fails: {0}")]
    Device(String),
    /// Anything else.
    #[error("the history failed: {0}")]
    Sqlite(String),
    /// The threads have gone.
    #[error("the history is closed")]
    Closed,
}

impl HistoryError {
    pub(super) fn open(path: &Path, error: rusqlite::Error) -> HistoryError {
        // Our own statements fail as such only on tables that are not as we made them.
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
            // The index of the log could not grow.
            Some(ErrorCode::SystemIoFailure) if extended == ffi::SQLITE_IOERR_SHMSIZE => HistoryError::DiskFull,
            Some(ErrorCode::SystemIoFailure) if extended == ffi::SQLITE_IOERR_NOMEM => {
                HistoryError::OutOfResources(error.to_string())
            }
            Some(ErrorCode::SystemIoFailure) => HistoryError::Device(error.to_string()),
            _ => HistoryError::Sqlite(error.to_string()),
        }
    }
}
