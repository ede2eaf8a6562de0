//! Output as the shim writes it: the segments in an execution's directory, and the pieces that are read from them.
//!
//! ```text
//!  output.log (both streams) ─┐
//!  tail.1.<n>, in order ──────┼─▶ oldest first ─▶ offsets compared ─▶ Piece::Data | Piece::Dropped
//!  tail.2.<n>, in order ──────┘
//! ```
//!
//! The lowest module of output: `archive` reads segments and writes blobs, `output` chooses between the two.

mod guard;
mod reader;

use std::io;
use std::path::PathBuf;

use packs_schema::agent::execution::output::{DamagedFrame, Stream};

pub(super) use guard::{ReadGuard, SegmentReaders};
pub(super) use reader::SegmentReader;

/// Error returned when a segment cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// The system reports an error.
    #[error("cannot read {0:?}")]
    Read(PathBuf, #[source] io::Error),
    /// The content is damaged.
    #[error("{0:?}: {1}")]
    Damaged(PathBuf, #[source] DamagedFrame),
}

/// Some output, or a mark for output that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Bytes that were kept.
    Data {
        /// Stream they were written to.
        stream: Stream,
        /// Bytes of the stream before these.
        offset: u64,
        /// Time of reading from the action, in microseconds since 1970.
        at_us: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Bytes that were not kept.
    Dropped {
        /// Stream they were written to.
        stream: Stream,
        /// Bytes of the stream before these.
        offset: u64,
        /// Time of reading the next bytes that were kept, in microseconds since 1970.
        at_us: u64,
        /// Number of bytes.
        bytes: u64,
    },
}

/// Position of a stream in arrays with one element per stream.
pub(super) fn index(stream: Stream) -> usize {
    match stream {
        Stream::Stdout => 0,
        Stream::Stderr => 1,
    }
}
