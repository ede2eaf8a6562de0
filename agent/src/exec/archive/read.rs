//! An archive, read as if it were still being written: the same pieces at the same offsets with the same times.

use std::io::{self, BufReader, Read};

use flate2::bufread::GzDecoder;
use packs_schema::agent::execution::output::{MAX_CHUNK, Stream};

use super::super::output::{Piece, index};
use super::frames::{Reader, Record};
use super::{Archive, ArchiveError, Header, Section};

/// What each decoder reads ahead.
const AHEAD: usize = 8 << 10;

/// Decompresses a member; one of length 0 has nothing in it.
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

/// Reads an archive from given offsets on.
pub(in crate::exec) struct Archived {
    frames: Reader<BufReader<Member>>,
    data: [Member; 2],
    /// Where each stream stands.
    reached: [u64; 2],
    /// Where each ends.
    ends: [u64; 2],
    /// From where on each stream is wanted; `None`: it is not.
    from: [Option<u64>; 2],
}

impl Archived {
    pub(super) fn new(archive: &Archive, from: [Option<u64>; 2]) -> Archived {
        let member = |number: usize| Member::new(archive, number);
        let wanted = |i: usize| if from[i].is_some() { member(1 + i) } else { Member(None) };
        let frames = Reader::new(BufReader::with_capacity(AHEAD, member(0)));
        let Header { kept, dropped, .. } = archive.header;
        let ends = [kept[0].saturating_add(dropped[0]), kept[1].saturating_add(dropped[1])];
        Archived { frames, data: [wanted(0), wanted(1)], reached: [0; 2], ends, from }
    }

    /// The next piece; `None` at the end.
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
        // The checksums are looked at where the members end.
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
    /// The lengths of a stream's pieces in order, without reading its data; `true`: of bytes that are not there.
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
