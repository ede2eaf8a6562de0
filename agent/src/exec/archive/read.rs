//! Reads an archive with the same result as reading the segments: the same pieces, offsets and times.

use std::io::{self, BufReader, Read};

use flate2::bufread::GzDecoder;
use packs_schema::agent::execution::output::{MAX_CHUNK, Stream};

use super::super::segments::{Piece, index};
use super::frames::{Reader, Record};
use super::{Archive, ArchiveError, Header, Section};

/// Size of the buffer before each decoder.
const AHEAD: usize = 8 << 10;

/// Decompressor of a member; `None` for one of length 0.
struct Member(Option<GzDecoder<BufReader<Section>>>);

impl Member {
    fn new(archive: &Archive, number: usize) -> Member {
        let section = archive.section(number);
        let there = section.at < section.end;
        Member(there.then(|| GzDecoder::new(BufReader::with_capacity(AHEAD, section))))
    }
}

impl Read for Member {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.as_mut().map_or(Ok(0), |decoder| decoder.read(into))
    }
}

/// Reader of an archive, from given offsets.
pub(in crate::exec) struct ArchiveReader {
    frames: Reader<BufReader<Member>>,
    data: [Member; 2],
    /// Current offset of each stream.
    reached: [u64; 2],
    /// Length of each stream.
    ends: [u64; 2],
    /// First offset to return of each stream; `None`: the stream is not read.
    from: [Option<u64>; 2],
}

impl ArchiveReader {
    pub(super) fn new(archive: &Archive, from: [Option<u64>; 2]) -> ArchiveReader {
        let member = |number: usize| Member::new(archive, number);
        let wanted = |i: usize| if from[i].is_some() { member(1 + i) } else { Member(None) };
        let frames = Reader::new(BufReader::with_capacity(AHEAD, member(0)));
        let Header { kept, dropped, .. } = archive.header;
        let ends = [kept[0].saturating_add(dropped[0]), kept[1].saturating_add(dropped[1])];
        ArchiveReader { frames, data: [wanted(0), wanted(1)], reached: [0; 2], ends, from }
    }

    /// Returns the next piece; `None` at the end.
    pub(in crate::exec) fn read(&mut self) -> Result<Option<Piece>, ArchiveError> {
        while let Some(record) = self.frames.next()? {
            let i = index(record.stream);
            let at = self.reached[i];
            let end = at.checked_add(record.bytes).ok_or(ArchiveError::Frames)?;
            self.reached[i] = end;
            let Some(from) = self.from[i] else { continue };
            let skip = from.saturating_sub(at).min(record.bytes);
            if record.dropped {
                if skip < record.bytes {
                    return Ok(Some(dropped(&record, at + skip, record.bytes - skip)));
                }
                continue;
            }
            if record.bytes > MAX_CHUNK as u64 {
                return Err(ArchiveError::Frames);
            }
            let mut bytes = vec![0; record.bytes as usize];
            self.data[i].read_exact(&mut bytes)?;
            if skip < record.bytes {
                bytes.drain(..skip as usize);
                let (stream, at_us) = (record.stream, record.at_us);
                return Ok(Some(Piece::Data { stream, offset: at + skip, at_us, bytes }));
            }
        }
        // Gzip verifies a member's checksum at its end.
        for data in &mut self.data {
            if data.read(&mut [0])? != 0 {
                return Err(ArchiveError::Frames);
            }
        }
        if self.reached == self.ends { Ok(None) } else { Err(ArchiveError::Frames) }
    }
}

fn dropped(record: &Record, offset: u64, bytes: u64) -> Piece {
    Piece::Dropped { stream: record.stream, offset, at_us: record.at_us, bytes }
}

impl Archive {
    /// Calls `each` with the length of every piece of a stream, without reading its data; `true` for dropped bytes.
    pub fn lengths(&self, stream: Stream, mut each: impl FnMut(bool, u64)) -> Result<(), ArchiveError> {
        let mut frames = Reader::new(BufReader::with_capacity(AHEAD, Member::new(self, 0)));
        while let Some(record) = frames.next()? {
            if record.stream == stream {
                each(record.dropped, record.bytes);
            }
        }
        Ok(())
    }
}
