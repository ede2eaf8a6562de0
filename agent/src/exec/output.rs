//! Reading an execution's output, wherever it lies: as its shim wrote it, or archived. Both read alike.
//!
//! ```text
//!  live ────▶ segments in its directory ─┐
//!  ended ───▶ those, until archived ─────┼─▶ Piece::Data | Piece::Dropped, in blocking threads
//!             the archive ───────────────┘
//! ```
//!
//! Files are read in blocking threads, a batch at a time: no reader holds up the runtime's one thread, or another reader.
//! Whoever reads segments holds a `Reading`, and the archiver leaves them there for so long.

mod live;

use std::io;
use std::path::{Path, PathBuf};

use packs_schema::agent::execution::output::{DamagedFrame, Stream};
use packs_schema::base::name::ExecutionId;

pub(super) use live::Live;

use super::Exec;
use super::archive::{Archive, ArchiveError, Archived, Reading};
use crate::history::{HistoryError, Place};

/// Pieces that are read at once, at most.
const BATCH_PIECES: usize = 256;
/// Bytes after which a batch is full.
const BATCH_BYTES: usize = 64 << 10;

/// Why output cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// A segment cannot be read.
    #[error("cannot read {0:?}")]
    Read(PathBuf, #[source] io::Error),
    /// A segment is damaged.
    #[error("{0:?}: {1}")]
    Damaged(PathBuf, #[source] DamagedFrame),
    /// An archive is damaged.
    #[error("the archived output is damaged: {0}")]
    Archive(#[from] ArchiveError),
    /// It was there once.
    #[error("the output was removed to keep the history within its budget ([history] of agent.toml)")]
    Gone,
    /// Where it is cannot be asked.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The thread that reads has ended early.
    #[error("reading the output failed")]
    Task,
}

/// Some output, or the mark of some that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Bytes.
    Data {
        /// Of which stream.
        stream: Stream,
        /// Bytes of the stream before it.
        offset: u64,
        /// When it was read from the action, in microseconds since 1970.
        at_us: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Bytes that were not kept.
    Dropped {
        /// Of which stream.
        stream: Stream,
        /// Bytes of the stream before them.
        offset: u64,
        /// When the next ones that were kept were read, in microseconds since 1970.
        at_us: u64,
        /// How many.
        bytes: u64,
    },
}

/// Reads one execution's output from given offsets on.
pub struct Output {
    source: Source,
    _reading: Option<Reading>,
}

enum Source {
    Live(Box<Live>),
    Archived(Box<Archived>),
    Nothing,
}

pub(super) fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}

impl Output {
    /// Reads segments in `directory`: each stream from its offset on, or not at all.
    pub(super) fn live(directory: &Path, from: [Option<u64>; 2], reading: Option<Reading>) -> Output {
        Output { source: Source::Live(Box::new(Live::open(directory, from[0], from[1]))), _reading: reading }
    }

    /// The same of an archive.
    pub(super) fn archived(archive: &Archive, from: [Option<u64>; 2]) -> Output {
        Output { source: Source::Archived(Box::new(archive.read(from))), _reading: None }
    }

    /// The next piece; `None` when there is none at this moment.
    pub fn read(&mut self) -> Result<Option<Piece>, OutputError> {
        match &mut self.source {
            Source::Live(live) => live.read(),
            Source::Archived(archived) => Ok(archived.read()?),
            Source::Nothing => Ok(None),
        }
    }

    /// What is missing at the end, when the shim says how much was written.
    pub fn missing(&mut self, stream: Stream, written_bytes: u64) -> Option<Piece> {
        match &mut self.source {
            Source::Live(live) => live.missing(stream, written_bytes),
            // The archive says it itself.
            Source::Archived(_) | Source::Nothing => None,
        }
    }

    /// The next pieces, in a blocking thread; empty when there are none at this moment.
    pub(super) async fn batch(mut self) -> Result<(Output, Vec<Piece>), OutputError> {
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

/// Where the output of an execution lies at this moment.
pub enum Lying {
    /// In segments below this directory, which stay while the token is held.
    Live(PathBuf, Reading),
    /// In an archive.
    Archived(Archive),
    /// It wrote none.
    Nothing,
}

impl Lying {
    /// Reads it: each stream from its offset on, or not at all.
    pub fn open(&self, from: [Option<u64>; 2]) -> Output {
        match self {
            Lying::Live(directory, reading) => Output::live(directory, from, Some(reading.clone())),
            Lying::Archived(archive) => Output::archived(archive, from),
            Lying::Nothing => Output { source: Source::Nothing, _reading: None },
        }
    }
}

impl Exec {
    /// Finds the output of an execution.
    pub async fn output(&self, id: &ExecutionId) -> Result<Lying, OutputError> {
        // Before asking where it lies: what is there then is not taken away.
        let reading = Reading::begin(&self.readers, id);
        let directory = self.directory(id);
        if self.lock().live.contains_key(id) {
            return Ok(Lying::Live(directory, reading));
        }
        match self.history.place(id).await? {
            Some(Place::Table(bytes)) => Ok(Lying::Archived(Archive::from_bytes(bytes)?)),
            Some(Place::Nothing) => Ok(Lying::Nothing),
            Some(Place::Gone) | None => Err(OutputError::Gone),
            // The file may be there before its row says so, and go after its row does.
            Some(place @ (Place::File | Place::Directory)) => {
                let opened = tokio::task::spawn_blocking({
                    let directory = directory.clone();
                    move || Archive::open(&directory)
                });
                match opened.await.map_err(|_| OutputError::Task)?? {
                    Some(archive) => Ok(Lying::Archived(archive)),
                    None if place == Place::Directory => Ok(Lying::Live(directory, reading)),
                    None => Err(OutputError::Gone),
                }
            }
        }
    }
}
