//! Index of an archive: length and time of each piece, both streams in one order.
//!
//! ```text
//!  record   varint   length << 2 | dropped << 1 | stream     stream: 0 stdout, 1 stderr
//!           varint   zigzag of the microseconds since the previous record
//! ```
//!
//! Varints are LEB128. A piece begins where the previous one of its stream ended.

use std::io::{self, ErrorKind, Read, Write};

use packs_schema::agent::execution::output::Stream;

use super::super::segments::index;
use super::ArchiveError;

/// A piece without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) stream: Stream,
    pub(super) dropped: bool,
    pub(super) bytes: u64,
    pub(super) at_us: u64,
}

/// Maximum length of a piece that fits the encoding.
const MAX_BYTES: u64 = u64::MAX >> 2;

/// Writes records.
pub(super) struct Writer<W> {
    to: W,
    last_us: u64,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(to: W) -> Writer<W> {
        Writer { to, last_us: 0 }
    }

    pub(super) fn write(&mut self, record: &Record) -> io::Result<()> {
        if record.bytes > MAX_BYTES {
            return Err(io::Error::new(ErrorKind::InvalidData, "a piece is too long for an archive"));
        }
        let since = record.at_us.wrapping_sub(self.last_us) as i64;
        self.last_us = record.at_us;
        let head = record.bytes << 2 | u64::from(record.dropped) << 1 | index(record.stream) as u64;
        self.varint(head)?;
        self.varint(((since << 1) ^ (since >> 63)) as u64)
    }

    pub(super) fn into_inner(self) -> W {
        self.to
    }

    fn varint(&mut self, mut number: u64) -> io::Result<()> {
        let (mut bytes, mut used) = ([0; 10], 0);
        while number >= 0x80 {
            bytes[used] = number as u8 | 0x80;
            used += 1;
            number >>= 7;
        }
        bytes[used] = number as u8;
        self.to.write_all(&bytes[..=used])
    }
}

/// Reads records.
pub(super) struct Reader<R> {
    from: R,
    last_us: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(from: R) -> Reader<R> {
        Reader { from, last_us: 0 }
    }

    /// Returns the next record; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Record>, ArchiveError> {
        let Some(head) = self.varint()? else { return Ok(None) };
        let since = self.varint()?.ok_or(ArchiveError::Frames)?;
        let since = (since >> 1) as i64 ^ -((since & 1) as i64);
        self.last_us = self.last_us.wrapping_add(since as u64);
        let stream = if head & 1 == 0 { Stream::Stdout } else { Stream::Stderr };
        Ok(Some(Record { stream, dropped: head & 2 != 0, bytes: head >> 2, at_us: self.last_us }))
    }

    fn varint(&mut self) -> Result<Option<u64>, ArchiveError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            // Not `read_exact`: a member that was cut short must not pass for a clean end.
            match self.from.read(&mut byte)? {
                0 if shift == 0 => return Ok(None),
                0 => return Err(ArchiveError::Frames),
                _ => {}
            }
            number |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] & 0x80 == 0 {
                return Ok(Some(number));
            }
        }
        Err(ArchiveError::Frames)
    }
}
