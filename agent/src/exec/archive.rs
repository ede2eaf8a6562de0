//! Archives of outputs: a day after an execution's end, or earlier when the budget demands it, its output becomes one blob.
//!
//! ```text
//!  header   MAGIC, then seven u64, little endian: bytes of each member; of each stream, bytes kept; of each, dropped
//!  frames   gzip: length and time of each piece, both streams in one order; see `frames`
//!  stdout   gzip: the data alone, so that it can be sent as it is
//!  stderr   the same
//! ```
//!
//! A member without data has length 0. A blob of up to [`MAX_INLINE`] bytes goes into the database, and the whole directory is
//! removed. A larger one is the file `archive` in the directory, beside `spec` and `exit`, from which a lost database is
//! rebuilt: four inodes, so that the default budget of 50,000 allows for 12,500 outputs of more than 8 KiB compressed. Small
//! ones, which are nearly all, take none; they are lost with a database that cannot be salvaged.
//!
//! ```text
//!  write archive.new ─▶ fsync ─▶ rename ─▶ fsync the directory ─▶ row (on disk) ─▶ remove the rest of the directory
//! ```
//!
//! The steps are idempotent: after a crash they are repeated with the same result. A directory whose lock is held is never
//! touched, and segments that are being read stay until the reader is done.

mod frames;
mod read;
mod spill;
#[cfg(test)]
mod tests;
mod write;

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::OFlag;
use packs_schema::agent::execution::file;
use packs_schema::agent::execution::output::Stream;

use super::segments::index;
pub(super) use read::ArchiveReader;
pub(super) use write::{ArchiveOutputError, ArchivedOutput, archive_output, remove_segments};

/// Maximum size of a blob in the database, in bytes.
pub(super) const MAX_INLINE: usize = 8 << 10;

const MAGIC: [u8; 8] = *b"BOLTARC1";
const HEADER: usize = 64;

/// Error returned when an archive cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The header is wrong, or the blob has another length than it says.
    #[error("the archive has no valid header")]
    Header,
    /// Frames and data do not match.
    #[error("the frames of the archive do not match its data")]
    Frames,
    /// I/O error, also for damaged gzip.
    #[error("cannot read or write the archive")]
    Io(#[from] io::Error),
}

/// Header of an archive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Header {
    /// Compressed bytes of frames, stdout and stderr.
    members: [u64; 3],
    /// Bytes of each stream that were kept.
    kept: [u64; 2],
    /// Bytes of each stream that were dropped.
    dropped: [u64; 2],
}

impl Header {
    fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        let numbers = self.members.iter().chain(&self.kept).chain(&self.dropped);
        for (place, number) in bytes[8..].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// Decodes the header of a blob of `length` bytes.
    fn decode(bytes: &[u8; HEADER], length: u64) -> Result<Header, ArchiveError> {
        let number = |i: usize| u64::from_le_bytes(bytes[8 + i * 8..16 + i * 8].try_into().expect("eight bytes"));
        let header = Header {
            members: [number(0), number(1), number(2)],
            kept: [number(3), number(4)],
            dropped: [number(5), number(6)],
        };
        let whole = header.members.iter().try_fold(HEADER as u64, |sum, member| sum.checked_add(*member));
        if bytes[..8] != MAGIC || whole != Some(length) { Err(ArchiveError::Header) } else { Ok(header) }
    }
}

/// Opened archive.
#[derive(Debug, Clone)]
pub struct Archive {
    blob: Blob,
    header: Header,
}

#[derive(Debug, Clone)]
enum Blob {
    Memory(Arc<[u8]>),
    File(Arc<File>),
}

impl Archive {
    /// Opens a blob from the database.
    pub(super) fn from_bytes(bytes: Arc<[u8]>) -> Result<Archive, ArchiveError> {
        let header = bytes.first_chunk().ok_or(ArchiveError::Header)?;
        let header = Header::decode(header, bytes.len() as u64)?;
        Ok(Archive { blob: Blob::Memory(bytes), header })
    }

    /// Opens the archive in an execution's directory, if there is one.
    pub(super) fn open(directory: &Path) -> Result<Option<Archive>, ArchiveError> {
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(directory.join(file::ARCHIVE)) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0).map_err(|_| ArchiveError::Header)?;
        let header = Header::decode(&header, file.metadata()?.len())?;
        Ok(Some(Archive { blob: Blob::File(Arc::new(file)), header }))
    }

    /// Returns a reader: each stream from its offset, or not at all.
    pub(super) fn read(&self, from: [Option<u64>; 2]) -> ArchiveReader {
        ArchiveReader::new(self, from)
    }

    /// Numbers of bytes of a stream that were kept and that were dropped.
    pub fn totals(&self, stream: Stream) -> (u64, u64) {
        (self.header.kept[index(stream)], self.header.dropped[index(stream)])
    }

    /// Returns the data of a stream as stored, compressed with gzip, and its length in bytes.
    pub fn stored(&self, stream: Stream) -> (Section, u64) {
        let member = 1 + index(stream);
        (self.section(member), self.header.members[member])
    }

    fn section(&self, member: usize) -> Section {
        let at = HEADER as u64 + self.header.members[..member].iter().sum::<u64>();
        Section { blob: self.blob.clone(), at, end: at + self.header.members[member] }
    }
}

/// Range of bytes of a blob.
#[derive(Debug, Clone)]
pub struct Section {
    blob: Blob,
    at: u64,
    end: u64,
}

impl Read for Section {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into.len().min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        let read = match &self.blob {
            Blob::Memory(bytes) => {
                let at = usize::try_from(self.at).unwrap_or(usize::MAX);
                let from = bytes.get(at..at + most).unwrap_or_default();
                into[..from.len()].copy_from_slice(from);
                from.len()
            }
            Blob::File(file) => file.read_at(&mut into[..most], self.at)?,
        };
        self.at += read as u64;
        Ok(read)
    }
}
