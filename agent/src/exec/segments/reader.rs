//! Reads segments: merges the three sources by time and marks gaps.
//!
//! Segments grow while they are read. The end of a source is final only once a later segment of its stream exists, and a frame
//! that is cut short at the end is not complete yet.
//!
//! Output is not synced to the disk when an execution ends, so a power cut can leave zeros or old bytes in a segment. A segment
//! ends where it is damaged: what is lost becomes a gap like any other, and the rest remains readable.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use packs_schema::agent::execution::file;
use packs_schema::agent::execution::output::{Frame, HEADER, MAGIC, MAX_OFFSET, Stream, parse_tail_name, tail_name};

use super::{Piece, SegmentError, index};

/// Reads one execution's output from given offsets on.
pub(in crate::exec) struct SegmentReader {
    sources: Vec<Source>,
    /// Next offset of each stream; `None`: the stream is not read.
    next: [Option<u64>; 2],
    /// Data to return after the gap before it.
    pending: Option<Piece>,
}

impl SegmentReader {
    /// Opens the output in `directory`: each stream from its offset, or not at all.
    pub(in crate::exec) fn open(directory: &Path, stdout_from: Option<u64>, stderr_from: Option<u64>) -> SegmentReader {
        let next = [stdout_from, stderr_from];
        let mut sources = vec![Source::new(directory, None)];
        let wanted = Stream::ALL.into_iter().filter(|stream| next[index(*stream)].is_some());
        sources.extend(wanted.map(|stream| Source::new(directory, Some(stream))));
        SegmentReader { sources, next, pending: None }
    }

    /// Returns the next piece; `None` when there is none at this moment.
    pub(in crate::exec) fn read(&mut self) -> Result<Option<Piece>, SegmentError> {
        if let Some(pending) = self.pending.take() {
            return Ok(Some(pending));
        }
        loop {
            let mut oldest: Option<(u64, usize)> = None;
            for (at, source) in self.sources.iter_mut().enumerate() {
                if let Some(frame) = source.peek()?
                    && oldest.is_none_or(|(us, _)| frame.at_us < us)
                {
                    oldest = Some((frame.at_us, at));
                }
            }
            let Some((_, at)) = oldest else { return Ok(None) };
            if let Some((frame, bytes)) = self.sources[at].take()?
                && let Some(piece) = self.make_piece(frame, bytes)
            {
                return Ok(Some(piece));
            }
        }
    }

    /// Returns a mark for bytes missing at the end of a stream of which the shim wrote `written_bytes`.
    pub(in crate::exec) fn missing(&mut self, stream: Stream, written_bytes: u64) -> Option<Piece> {
        let next = self.next[index(stream)].as_mut()?;
        let written_bytes = written_bytes.min(MAX_OFFSET);
        let bytes = written_bytes.checked_sub(*next).filter(|bytes| *bytes > 0)?;
        let offset = std::mem::replace(next, written_bytes);
        Some(Piece::Dropped { stream, offset, at_us: 0, bytes })
    }

    /// Turns a frame into a piece, without bytes that were returned before.
    fn make_piece(&mut self, frame: Frame, mut bytes: Vec<u8>) -> Option<Piece> {
        let next = self.next[index(frame.stream)].as_mut()?;
        let (stream, at_us) = (frame.stream, frame.at_us);
        let seen = usize::try_from(next.saturating_sub(frame.offset)).unwrap_or(usize::MAX);
        if seen >= bytes.len() {
            return None;
        }
        bytes.drain(..seen);
        let offset = frame.offset.max(*next);
        let gap = offset - *next;
        let from = std::mem::replace(next, offset + bytes.len() as u64);
        let data = Piece::Data { stream, offset, at_us, bytes };
        if gap == 0 {
            return Some(data);
        }
        self.pending = Some(data);
        Some(Piece::Dropped { stream, offset: from, at_us, bytes: gap })
    }
}

/// `output.log`, or the tail segments of one stream in order.
struct Source {
    directory: PathBuf,
    tail: Option<Stream>,
    segment: Option<Segment>,
    number: u64,
    peeked: Option<Frame>,
}

struct Segment {
    path: PathBuf,
    file: BufReader<File>,
    /// Offset of the next header.
    at: u64,
    /// True if there is no frame at this offset; reported once.
    damaged: bool,
}

impl Source {
    fn new(directory: &Path, tail: Option<Stream>) -> Source {
        Source { directory: directory.to_owned(), tail, segment: None, number: 0, peeked: None }
    }

    /// Returns the header of the next complete frame without consuming it.
    fn peek(&mut self) -> Result<Option<Frame>, SegmentError> {
        loop {
            if self.peeked.is_some() {
                return Ok(self.peeked);
            }
            if self.segment.is_none() && !self.open_next(0)? {
                return Ok(None);
            }
            // Checked before reading: if a later segment exists, the end of this one is final.
            let later = self.later()?;
            let Some(segment) = self.segment.as_mut() else { return Ok(None) };
            self.peeked = segment.peek(self.tail)?;
            if self.peeked.is_none() {
                match later {
                    Some(number) if self.open_next(number)? => {}
                    _ => return Ok(None),
                }
            }
        }
    }

    fn take(&mut self) -> Result<Option<(Frame, Vec<u8>)>, SegmentError> {
        let (Some(frame), Some(segment)) = (self.peeked.take(), self.segment.as_mut()) else { return Ok(None) };
        Ok(Some((frame, segment.take(&frame)?)))
    }

    /// Returns the smallest segment number above the present one.
    fn later(&self) -> Result<Option<u64>, SegmentError> {
        let Some(stream) = self.tail else { return Ok(None) };
        let least = if self.segment.is_some() { self.number + 1 } else { 0 };
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(SegmentError(self.directory.clone(), e)),
        };
        let numbers = entries.filter_map(|entry| parse_tail_name(entry.ok()?.file_name().to_str()?));
        Ok(numbers.filter(|(of, n)| *of == stream && *n >= least).map(|(_, n)| n).min())
    }

    /// Opens `output.log`, or the first tail segment from `number` on; false when it does not exist yet.
    fn open_next(&mut self, number: u64) -> Result<bool, SegmentError> {
        let (name, number) = match self.tail {
            None => (file::OUTPUT.to_owned(), 0),
            Some(stream) => match self.later()? {
                Some(found) => (tail_name(stream, found.max(number)), found.max(number)),
                None => return Ok(false),
            },
        };
        let path = self.directory.join(name);
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Ok(opened) => {
                let file = BufReader::with_capacity(16 << 10, opened);
                self.segment = Some(Segment { path, file, at: 0, damaged: false });
                self.number = number;
                Ok(true)
            }
            // The shim removes the oldest tails while the action writes.
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(SegmentError(path, e)),
        }
    }
}

impl Segment {
    /// Returns the header of the next complete frame. All frames are of the stream `of`, where that is given.
    fn peek(&mut self, of: Option<Stream>) -> Result<Option<Frame>, SegmentError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |e: io::Error| SegmentError(path, e)
        };
        if self.damaged {
            return Ok(None);
        }
        let length = self.file.get_ref().metadata().map_err(failed(&self.path))?.len();
        if self.at == 0 {
            let mut magic = [0; MAGIC.len()];
            if length < MAGIC.len() as u64 {
                return Ok(None);
            }
            self.seek(0)?;
            self.file.read_exact(&mut magic).map_err(failed(&self.path))?;
            if magic != MAGIC {
                self.end_here(&"it is not an output log");
                return Ok(None);
            }
            self.at = MAGIC.len() as u64;
        }
        if length < self.at + HEADER as u64 {
            return Ok(None);
        }
        let mut header = [0; HEADER];
        self.seek(self.at)?;
        self.file.read_exact(&mut header).map_err(failed(&self.path))?;
        let frame = match Frame::decode(&header) {
            // A reader of one stream would not see it.
            Ok(frame) if of.is_some_and(|of| of != frame.stream) => {
                self.end_here(&"it holds output of the other stream");
                return Ok(None);
            }
            Ok(frame) => frame,
            Err(error) => {
                self.end_here(&error);
                return Ok(None);
            }
        };
        Ok((length >= self.at + HEADER as u64 + u64::from(frame.length)).then_some(frame))
    }

    /// Ends the segment at the next header.
    fn end_here(&mut self, error: &dyn std::fmt::Display) {
        self.damaged = true;
        tracing::error!(path = %self.path.display(), at = self.at, %error, "output is damaged; the rest of this file is lost");
    }

    fn take(&mut self, frame: &Frame) -> Result<Vec<u8>, SegmentError> {
        let mut bytes = vec![0; frame.length as usize];
        self.seek(self.at + HEADER as u64)?;
        self.file.read_exact(&mut bytes).map_err(|e| SegmentError(self.path.clone(), e))?;
        self.at += HEADER as u64 + u64::from(frame.length);
        Ok(bytes)
    }

    /// Seeks; without a system call if the target is in the buffer.
    fn seek(&mut self, to: u64) -> Result<(), SegmentError> {
        let failed = |e: io::Error| SegmentError(self.path.clone(), e);
        let now = self.file.stream_position().map_err(failed)?;
        let by = i64::try_from(to).ok().zip(i64::try_from(now).ok()).map(|(to, now)| to - now);
        match by {
            Some(by) => self.file.seek_relative(by).map_err(|e| SegmentError(self.path.clone(), e)),
            None => self.file.seek(SeekFrom::Start(to)).map(drop).map_err(|e| SegmentError(self.path.clone(), e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn frame(stream: Stream, at_us: u64, offset: u64, data: &str) -> Vec<u8> {
        let header = Frame { stream, length: data.len() as u32, at_us, offset }.encode();
        [&header[..], data.as_bytes()].concat()
    }

    fn append(directory: &Path, name: &str, bytes: &[u8]) {
        let path = directory.join(name);
        let fresh = !path.exists();
        let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        if fresh {
            file.write_all(&MAGIC).unwrap();
        }
        file.write_all(bytes).unwrap();
    }

    fn read_all(output: &mut SegmentReader) -> Vec<String> {
        let mut pieces = Vec::new();
        while let Some(piece) = output.read().unwrap() {
            pieces.push(match piece {
                Piece::Data { stream, offset, bytes, .. } => {
                    format!("{stream:?}@{offset} {}", String::from_utf8(bytes).unwrap())
                }
                Piece::Dropped { stream, offset, bytes, .. } => format!("{stream:?}@{offset} -{bytes}"),
            });
        }
        pieces
    }

    #[test]
    fn sources_are_merged_by_time_and_gaps_are_marked() {
        let dir = tempfile::tempdir().unwrap();
        let (out, err) = (Stream::Stdout, Stream::Stderr);
        append(dir.path(), file::OUTPUT, &frame(out, 1, 0, "head "));
        append(dir.path(), file::OUTPUT, &frame(err, 2, 0, "oops "));
        append(dir.path(), &tail_name(out, 3), &frame(out, 4, 105, "late "));
        append(dir.path(), &tail_name(out, 4), &frame(out, 6, 110, "end"));
        append(dir.path(), &tail_name(err, 0), &frame(err, 5, 5, "again"));
        let mut output = SegmentReader::open(dir.path(), Some(0), Some(0));
        let want = [
            "Stdout@0 head ",
            "Stderr@0 oops ",
            "Stdout@5 -100",
            "Stdout@105 late ",
            "Stderr@5 again",
            "Stdout@110 end",
        ];
        assert_eq!(read_all(&mut output), want);
        assert_eq!(output.missing(err, 10), None);
        assert!(matches!(output.missing(out, 115), Some(Piece::Dropped { offset: 113, bytes: 2, .. })));
        let mut from = SegmentReader::open(dir.path(), Some(107), None);
        assert_eq!(read_all(&mut from), ["Stdout@107 te ", "Stdout@110 end"]);
    }

    #[test]
    fn a_frame_is_returned_once_it_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let mut output = SegmentReader::open(dir.path(), Some(0), Some(0));
        assert!(read_all(&mut output).is_empty());
        let bytes = frame(Stream::Stdout, 1, 0, "abc");
        for cut in [0, 3, HEADER, HEADER + 2] {
            let _ = std::fs::remove_file(dir.path().join(file::OUTPUT));
            append(dir.path(), file::OUTPUT, &bytes[..cut]);
            let mut output = SegmentReader::open(dir.path(), Some(0), Some(0));
            assert!(read_all(&mut output).is_empty());
            append(dir.path(), file::OUTPUT, &bytes[cut..]);
            assert_eq!(read_all(&mut output), ["Stdout@0 abc"]);
        }
        assert_eq!(read_all(&mut output), ["Stdout@0 abc"]);
        append(dir.path(), file::OUTPUT, &frame(Stream::Stdout, 2, 3, "def"));
        assert_eq!(read_all(&mut output), ["Stdout@3 def"]);
        append(dir.path(), &tail_name(Stream::Stdout, 0), &frame(Stream::Stdout, 3, 6, "g"));
        assert_eq!(read_all(&mut output), ["Stdout@6 g"]);
        append(dir.path(), &tail_name(Stream::Stdout, 1), &frame(Stream::Stdout, 4, 7, "h"));
        assert_eq!(read_all(&mut output), ["Stdout@7 h"]);
    }

    /// Such an offset would be a gap that no archive can hold, and the output would never be archived.
    #[test]
    fn an_impossible_offset_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let (out, err) = (Stream::Stdout, Stream::Stderr);
        append(dir.path(), file::OUTPUT, &frame(out, 1, 0, "head "));
        append(dir.path(), file::OUTPUT, &frame(out, 2, MAX_OFFSET, "far"));
        append(dir.path(), &tail_name(err, 0), &frame(err, 2, MAX_OFFSET - 3, "end"));
        let mut output = SegmentReader::open(dir.path(), Some(0), Some(0));
        let gap = format!("Stderr@0 -{}", MAX_OFFSET - 3);
        assert_eq!(read_all(&mut output), ["Stdout@0 head ".to_owned(), gap, format!("Stderr@{} end", MAX_OFFSET - 3)]);
        assert!(
            matches!(output.missing(out, u64::MAX), Some(Piece::Dropped { offset: 5, bytes, .. }) if bytes == MAX_OFFSET - 5)
        );
        assert_eq!(output.missing(out, u64::MAX), None);
    }

    /// Otherwise what both streams hold would differ from what each holds, and the output would never be archived.
    #[test]
    fn output_of_the_other_stream_in_a_tail_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let (out, err) = (Stream::Stdout, Stream::Stderr);
        append(dir.path(), &tail_name(out, 0), &frame(out, 1, 0, "out"));
        append(dir.path(), &tail_name(out, 0), &frame(err, 2, 0, "err"));
        let mut output = SegmentReader::open(dir.path(), Some(0), Some(0));
        assert_eq!(read_all(&mut output), ["Stdout@0 out"]);
    }

    #[test]
    fn damage_ends_one_segment_and_is_a_gap() {
        let dir = tempfile::tempdir().unwrap();
        let out = Stream::Stdout;
        append(dir.path(), file::OUTPUT, &frame(out, 1, 0, "head "));
        append(dir.path(), file::OUTPUT, &[0; 2 * HEADER]);
        append(dir.path(), &tail_name(out, 0), &frame(out, 2, 100, "tail"));
        append(dir.path(), &tail_name(out, 1), &[0; HEADER]);
        append(dir.path(), &tail_name(out, 2), &frame(out, 3, 200, "end"));
        std::fs::write(dir.path().join(tail_name(out, 3)), [0; 4096]).unwrap();
        let mut output = SegmentReader::open(dir.path(), Some(0), None);
        let want = ["Stdout@0 head ", "Stdout@5 -95", "Stdout@100 tail", "Stdout@104 -96", "Stdout@200 end"];
        assert_eq!(read_all(&mut output), want);
        assert!(matches!(output.missing(out, 300), Some(Piece::Dropped { offset: 203, bytes: 97, .. })));
    }
}
