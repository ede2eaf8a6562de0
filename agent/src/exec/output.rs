//! Reading an execution's output, as its shim wrote it or archived; both read alike.
//!
//! ```text
//!  live ─────▶ segments in its directory ─┐
//!  ended ────▶ those, until archived ─────┼─▶ Piece::Data | Piece::Dropped
//!  archived ─▶ the archive ───────────────┘
//! ```
//!
//! Files are read in blocking threads, a batch at a time, so that no reader blocks the runtime's one thread or another reader.
//! A reader of segments holds a `ReadGuard`, and retention leaves the segments in place until it is dropped.

use std::path::{Path, PathBuf};

use packs_schema::agent::execution::output::Stream;
use packs_schema::base::name::ExecutionId;

use super::Exec;
use super::archive::{Archive, ArchiveError, ArchiveReader};
use super::segments::{Piece, ReadGuard, SegmentError, SegmentReader};
use crate::history::{HistoryError, OutputLocation};

/// Maximum number of pieces in a batch.
const BATCH_PIECES: usize = 256;
/// Number of bytes after which a batch is full.
const BATCH_BYTES: usize = 64 << 10;

/// Error returned when output cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// A segment cannot be read.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// An archive is damaged.
    #[error("the archived output is damaged: {0}")]
    Archive(#[from] ArchiveError),
    /// The output was removed.
    #[error("the output was removed to keep the history within its budget ([history] of agent.toml)")]
    Gone,
    /// The history cannot tell where the output is.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The reading task panicked.
    #[error("reading the output failed")]
    Task,
}

/// Reader of one execution's output.
pub struct Output {
    source: Source,
    _guard: Option<ReadGuard>,
}

enum Source {
    Segments(Box<SegmentReader>),
    Archive(Box<ArchiveReader>),
    Empty,
}

impl Output {
    /// Reads segments in `directory`: each stream from its offset, or not at all.
    pub(super) fn from_segments(directory: &Path, from: [Option<u64>; 2], guard: Option<ReadGuard>) -> Output {
        Output { source: Source::Segments(Box::new(SegmentReader::open(directory, from[0], from[1]))), _guard: guard }
    }

    /// Reads an archive: each stream from its offset, or not at all.
    pub(super) fn from_archive(archive: &Archive, from: [Option<u64>; 2]) -> Output {
        Output { source: Source::Archive(Box::new(archive.read(from))), _guard: None }
    }

    /// Returns the next piece; `None` when there is none at this moment.
    pub fn read(&mut self) -> Result<Option<Piece>, OutputError> {
        match &mut self.source {
            Source::Segments(reader) => Ok(reader.read()?),
            Source::Archive(reader) => Ok(reader.read()?),
            Source::Empty => Ok(None),
        }
    }

    /// Returns a mark for bytes missing at the end of a stream of which the shim wrote `written_bytes`.
    pub fn missing(&mut self, stream: Stream, written_bytes: u64) -> Option<Piece> {
        match &mut self.source {
            Source::Segments(reader) => reader.missing(stream, written_bytes),
            // An archive contains these marks.
            Source::Archive(_) | Source::Empty => None,
        }
    }

    /// Reads the next pieces in a blocking thread; none when there are none at this moment.
    pub(super) async fn read_batch(mut self) -> Result<(Output, Vec<Piece>), OutputError> {
        let read = tokio::task::spawn_blocking(move || {
            let (mut pieces, mut bytes) = (Vec::new(), 0);
            while pieces.len() < BATCH_PIECES && bytes < BATCH_BYTES {
                let Some(piece) = self.read()? else { break };
                if let Piece::Data { bytes: data, .. } = &piece {
                    bytes += data.len();
                }
                pieces.push(piece);
            }
            Ok((self, pieces))
        });
        read.await.unwrap_or(Err(OutputError::Task))
    }
}

/// Output of an execution where it is stored at this moment.
pub enum StoredOutput {
    /// Segments in this directory, which stay while the guard is held.
    Segments(PathBuf, ReadGuard),
    /// An archive.
    Archived(Archive),
    /// The execution wrote none.
    Empty,
}

impl StoredOutput {
    /// Opens a reader: each stream from its offset, or not at all.
    pub fn open(&self, from: [Option<u64>; 2]) -> Output {
        match self {
            StoredOutput::Segments(directory, guard) => Output::from_segments(directory, from, Some(guard.clone())),
            StoredOutput::Archived(archive) => Output::from_archive(archive, from),
            StoredOutput::Empty => Output { source: Source::Empty, _guard: None },
        }
    }
}

impl Exec {
    /// Finds the output of an execution.
    pub async fn output(&self, id: &ExecutionId) -> Result<StoredOutput, OutputError> {
        // Acquired before the location is read: what is there then is not removed.
        let guard = ReadGuard::acquire(&self.readers, id);
        let directory = self.directory(id);
        if self.lock().live.contains_key(id) {
            return Ok(StoredOutput::Segments(directory, guard));
        }
        match self.history.output_location(id).await? {
            Some(OutputLocation::Database(bytes)) => Ok(StoredOutput::Archived(Archive::from_bytes(bytes)?)),
            Some(OutputLocation::Empty) => Ok(StoredOutput::Empty),
            Some(OutputLocation::Removed) | None => Err(OutputError::Gone),
            // The archive file is written before the row says so, and removed after the row does.
            Some(location @ (OutputLocation::File | OutputLocation::Directory)) => {
                let opened = tokio::task::spawn_blocking({
                    let directory = directory.clone();
                    move || Archive::open(&directory)
                });
                match opened.await.map_err(|_| OutputError::Task)?? {
                    Some(archive) => Ok(StoredOutput::Archived(archive)),
                    None if location == OutputLocation::Directory => Ok(StoredOutput::Segments(directory, guard)),
                    None => Err(OutputError::Gone),
                }
            }
        }
    }
}
