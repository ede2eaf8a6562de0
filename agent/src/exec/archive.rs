//! Outputs, folded: a day after an execution's end, or earlier when the budget says so, its output becomes one blob.
//!
//! ```text
//!  header   MAGIC, then seven u64, little endian: bytes of each member; of each stream, bytes kept; of each, dropped
//!  frames   gzip: what was written when, both streams in one order; see `frames`
//!  stdout   gzip: the data alone, so that it can be handed out as it is
//!  stderr   the same
//! ```
//!
//! A member without data has length 0. A blob of up to [`SMALL`] bytes goes into the database, and the whole directory
//! goes; a larger one is the file `archive` in the directory, beside `spec` and `exit`, from which a lost database is
//! begun anew: four inodes, of which the 50,000 of the default budget are 12,500 outputs of more than 8 KiB compressed.
//! Small ones, which are nearly all, take none.
//!
//! ```text
//!  write archive.new ─▶ fsync ─▶ rename ─▶ fsync the directory ─▶ row (on disk) ─▶ the rest of the directory goes
//! ```
//!
//! Wherever that ends early it is done again and comes out the same. A directory whose lock is held is never touched,
//! and the segments of one that is read stay until the reader has gone.

mod fold;
mod frames;
mod read;
mod readers;
mod spill;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::OFlag;
use packs_schema::agent::execution::file;
use packs_schema::agent::execution::output::Stream;

pub(super) use fold::{Folded, fold, tidy};
pub(super) use read::Archived;
pub(super) use readers::Readers;
pub(super) use readers::Reading;

use super::output::index;

/// The largest blob that goes into the database, in bytes.
pub(super) const SMALL: usize = 8 << 10;

const MAGIC: [u8; 8] = *b"BOLTARC1";
const HEADER: usize = 64;

/// Why an archive cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It does not begin as one, or is shorter than it says.
    #[error("its header is not one")]
    Header,
    /// What stands in it makes no sense.
    #[error("its frames do not fit its data")]
    Frames,
    /// The system's words, also for damaged gzip.
    #[error("cannot read or write it")]
    Io(#[from] io::Error),
}

/// What stands in the header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Header {
    /// Bytes of frames, stdout and stderr, compressed.
    members: [u64; 3],
    /// Bytes of each stream that are there.
    kept: [u64; 2],
    /// Bytes of each stream that are not.
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

    /// Reads a header of a blob of `length` bytes.
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

/// An archive that was found.
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
    /// Out of the database.
    pub(super) fn from_bytes(bytes: Arc<[u8]>) -> Result<Archive, ArchiveError> {
        let header = bytes.first_chunk().ok_or(ArchiveError::Header)?;
        let header = Header::decode(header, bytes.len() as u64)?;
        Ok(Archive { blob: Blob::Memory(bytes), header })
    }

    /// From an execution's directory, if there is one.
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

    /// Reads it: each stream from its offset on, or not at all.
    pub(super) fn read(&self, from: [Option<u64>; 2]) -> Archived {
        Archived::new(self, from)
    }

    /// Bytes of a stream that are there, and that are not.
    pub fn totals(&self, stream: Stream) -> (u64, u64) {
        (self.header.kept[index(stream)], self.header.dropped[index(stream)])
    }

    /// The data of a stream as they are stored, compressed with gzip, and how many bytes that is.
    pub fn stored(&self, stream: Stream) -> (Section, u64) {
        let member = 1 + index(stream);
        (self.section(member), self.header.members[member])
    }

    fn section(&self, member: usize) -> Section {
        let at = HEADER as u64 + self.header.members[..member].iter().sum::<u64>();
        Section { blob: self.blob.clone(), at, end: at + self.header.members[member] }
    }
}

/// A stretch of a blob.
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
