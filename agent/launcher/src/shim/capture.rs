//! Output as it comes, into framed segments (see `packs_schema::agent::execution::output`). The first half of a stream's budget is
//! kept in `output.log`, the last half in `tail.*`; what lies between is dropped and counted. So is what the disk does not take,
//! or should not ([`Disk`]): the action never waits for the disk and never fails by it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use packs_schema::agent::execution::output::{Frame, HEADER, MAGIC, MAX_CHUNK, Stream, tail_name};
use packs_schema::agent::execution::{StreamTotals, file};

use super::clock::Clock;
use super::disk::Disk;
use crate::dir::Dir;

/// The smallest tail segment, in bytes of data.
const MIN_SEGMENT: u64 = 64 << 10;

/// What a read from a pipe brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// Bytes, which are recorded.
    Data,
    /// Nothing at the moment.
    Empty,
    /// Everybody who could write has closed it.
    Ended,
}

pub(super) struct Capture<'a> {
    directory: &'a Dir,
    clock: &'a Clock,
    disk: Disk,
    head: Segment,
    streams: [Tail; 2],
    /// Bytes of each stream for `output.log`, and again for its tail.
    half: u64,
    segment: u64,
    /// Room for a header, then for data: a frame goes out in one write.
    buffer: Vec<u8>,
}

/// One stream beyond `output.log`.
struct Tail {
    stream: Stream,
    totals: StreamTotals,
    segments: VecDeque<Segment>,
    next: u64,
    /// Bytes of data in `segments`.
    kept: u64,
}

struct Segment {
    name: String,
    file: Option<File>,
    /// Bytes in the file that belong to whole frames.
    length: u64,
    /// Bytes of data in them.
    data: u64,
    /// The end of the file could not be repaired: nothing may follow.
    damaged: bool,
}

impl<'a> Capture<'a> {
    pub(super) fn new(directory: &'a Dir, clock: &'a Clock, budget: u64) -> Capture<'a> {
        let half = budget / 2;
        let tail =
            |stream| Tail { stream, totals: StreamTotals::default(), segments: VecDeque::new(), next: 0, kept: 0 };
        let mut capture = Capture {
            directory,
            clock,
            disk: Disk::default(),
            head: Segment::new(file::OUTPUT.to_owned()),
            streams: Stream::ALL.map(tail),
            half,
            segment: (half / 8).max(MIN_SEGMENT),
            buffer: vec![0; HEADER + MAX_CHUNK],
        };
        let _ = capture.head.open(directory);
        capture
    }

    /// Reads once, up to 64 KiB.
    pub(super) fn read(&mut self, stream: Stream, pipe: impl AsFd) -> Read {
        match nix::unistd::read(pipe, &mut self.buffer[HEADER..]) {
            Ok(0) => Read::Ended,
            Ok(length) => {
                self.record(stream, length);
                Read::Data
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Read::Empty,
            Err(_) => Read::Ended,
        }
    }

    /// What a stream wrote, and what of it was not kept.
    pub(super) fn totals(&self, stream: Stream) -> StreamTotals {
        self.streams[stream as usize].totals
    }

    /// Records `length` bytes of the buffer's data part.
    fn record(&mut self, stream: Stream, length: usize) {
        let at_us = self.clock.now_us();
        let fits = self.disk.takes(self.directory, length as u64);
        let tail = &mut self.streams[stream as usize];
        if !fits {
            tail.totals.written_bytes += length as u64;
            tail.totals.dropped_bytes += length as u64;
            return;
        }
        let mut done = 0;
        while done < length {
            let offset = tail.totals.written_bytes;
            let left = (length - done) as u64;
            let to_head = self.half.saturating_sub(offset).min(left);
            let (segment, part) = if to_head > 0 { (&mut self.head, to_head) } else { tail.room(left, self.segment) };
            let take = usize::try_from(part).expect("at most a chunk");
            let frame = Frame { stream, length: u32::try_from(part).expect("at most a chunk"), at_us, offset };
            // The header goes over bytes that have been written out already, or over the room left for the first.
            self.buffer[done..done + HEADER].copy_from_slice(&frame.encode());
            let kept = segment.append(self.directory, &self.buffer[done..done + HEADER + take], part);
            tail.totals.written_bytes += part;
            match kept {
                true if to_head == 0 => tail.kept += part,
                true => {}
                false => tail.totals.dropped_bytes += part,
            }
            done += take;
            tail.prune(self.directory, self.half);
        }
    }
}

impl Tail {
    /// The segment for the next bytes, and how many of `left` it takes.
    fn room(&mut self, left: u64, size: u64) -> (&mut Segment, u64) {
        if self.segments.back().is_none_or(|s| s.data >= size || s.damaged) {
            if let Some(full) = self.segments.back_mut() {
                full.file = None;
            }
            self.segments.push_back(Segment::new(tail_name(self.stream, self.next)));
            self.next += 1;
        }
        let last = self.segments.back_mut().expect("just pushed");
        let part = left.min(size - last.data);
        (last, part)
    }

    /// Removes the oldest segments as long as the others hold the budget's second half.
    fn prune(&mut self, directory: &Dir, half: u64) {
        while let Some(oldest) = self.segments.front().filter(|s| self.segments.len() > 1 && self.kept - s.data >= half)
        {
            let _ = directory.remove_file(&oldest.name);
            self.kept -= oldest.data;
            self.totals.dropped_bytes += oldest.data;
            self.segments.pop_front();
        }
    }
}

impl Segment {
    fn new(name: String) -> Segment {
        Segment { name, file: None, length: 0, data: 0, damaged: false }
    }

    /// Makes the file; it is tried again with the next frame if that fails.
    fn open(&mut self, directory: &Dir) -> Option<&mut File> {
        if self.file.is_none() {
            let mut made = directory.make_file(&self.name, 0o644, OFlag::O_WRONLY | OFlag::O_APPEND).ok()?;
            if made.write_all(&MAGIC).is_err() {
                let _ = directory.remove_file(&self.name);
                return None;
            }
            self.length = MAGIC.len() as u64;
            self.file = Some(made);
        }
        self.file.as_mut()
    }

    /// Appends a frame with `data` bytes of data, as a whole or not at all.
    fn append(&mut self, directory: &Dir, frame: &[u8], data: u64) -> bool {
        if self.damaged {
            return false;
        }
        let length = self.length;
        let Some(file) = self.open(directory) else { return false };
        if file.write_all(frame).is_err() {
            let repaired = file.set_len(length.max(MAGIC.len() as u64)).is_ok();
            self.damaged = !repaired;
            return false;
        }
        self.length += frame.len() as u64;
        self.data += data;
        true
    }
}
