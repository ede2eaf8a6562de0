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

use packs_schema::agent::execution::output::Stream;

pub(super) use guard::{ReadGuard, SegmentReaders};
pub(super) use reader::SegmentReader;

/// Error returned when the system cannot read a segment.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {0:?}")]
pub struct SegmentError(PathBuf, #[source] io::Error);

impl SegmentError {
    /// Returns the error of the system.
    pub fn cause(&self) -> &io::Error {
        &self.1
    }
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
