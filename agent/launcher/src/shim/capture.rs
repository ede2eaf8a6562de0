//! Capture of output into framed segments (see `packs_schema::agent::execution::output`). The first half of a stream's budget is kept in
//! `output.log`, the last half in `tail.*`; the output between them is dropped and counted, and so is output that the disk does
//! not take or that would use up the disk reserve ([`FreeSpaceCheck`]): an action never waits for the disk and never fails
//! because of it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use packs_schema::agent::execution::output::{Frame, HEADER, MAGIC, Stream, tail_name};
use packs_schema::agent::execution::{StreamTotals, file};

use super::clock::Clock;
use super::free_space::FreeSpaceCheck;
use crate::dir::Dir;
use crate::sys::Pages;

/// Minimum size of a tail segment, in bytes of data.
const MIN_SEGMENT: u64 = 64 << 10;

/// Result of a read from a pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadOutcome {
    /// Data was read and recorded.
    Recorded,
    /// No data is available now.
    Empty,
    /// All writers have closed the pipe.
    Closed,
}

pub(super) struct Capture<'a> {
    directory: &'a Dir,
    clock: &'a Clock,
    free_space: FreeSpaceCheck,
    head: Segment,
    streams: [Tail; 2],
    /// Maximum bytes of each stream in `output.log`, and again in its tail.
    half: u64,
    /// Maximum bytes of data in a tail segment.
    segment: u64,
    /// Space for a header, then for a chunk of data: a frame is written by one system call.
    buffer: &'a mut Pages,
    /// True if the buffer may have pages of its own.
    buffer_used: bool,
}

/// The output of one stream after its part of `output.log`.
struct Tail {
    stream: Stream,
    totals: StreamTotals,
    segments: VecDeque<Segment>,
    next_number: u64,
    /// Bytes of data in `segments`.
    retained: u64,
}

struct Segment {
    name: String,
    file: Option<File>,
    /// Bytes of complete frames in the file.
    length: u64,
    /// Bytes of data in these frames.
    data: u64,
    /// True if the file ends with an incomplete frame that could not be truncated: no frame may follow.
    damaged: bool,
}

impl<'a> Capture<'a> {
    pub(super) fn new(directory: &'a Dir, clock: &'a Clock, budget: u64, buffer: &'a mut Pages) -> Capture<'a> {
        let half = budget / 2;
        let tail = |stream| Tail {
            stream,
            totals: StreamTotals::default(),
            segments: VecDeque::new(),
            next_number: 0,
            retained: 0,
        };
        let mut capture = Capture {
            directory,
            clock,
            free_space: FreeSpaceCheck::default(),
            head: Segment::new(file::OUTPUT.to_owned()),
            streams: Stream::ALL.map(tail),
            half,
            segment: (half / 8).max(MIN_SEGMENT),
            buffer,
            // By the execution before.
            buffer_used: true,
        };
        let _ = capture.head.open(directory);
        capture
    }

    /// Reads once, up to 64 KiB.
    pub(super) fn read(&mut self, stream: Stream, pipe: impl AsFd) -> ReadOutcome {
        match nix::unistd::read(pipe, &mut self.buffer[HEADER..]) {
            Ok(0) => ReadOutcome::Closed,
            Ok(length) => {
                self.buffer_used = true;
                self.record(stream, length);
                ReadOutcome::Recorded
            }
            Err(Errno::EAGAIN | Errno::EINTR) => ReadOutcome::Empty,
            Err(_) => ReadOutcome::Closed,
        }
    }

    /// Returns true if [`Capture::release_buffer`] would free memory.
    pub(super) fn holds_buffer(&self) -> bool {
        self.buffer_used
    }

    /// Frees the memory of the buffer until data is read again.
    pub(super) fn release_buffer(&mut self) {
        if std::mem::take(&mut self.buffer_used) {
            self.buffer.clear();
        }
    }

    /// Returns the open `output.log`, if there is one.
    pub(super) fn into_output(self) -> Option<File> {
        self.head.file
    }

    /// Returns how many bytes a stream has written and how many of them were dropped.
    pub(super) fn totals(&self, stream: Stream) -> StreamTotals {
        self.streams[stream as usize].totals
    }

    /// Records `length` bytes of the buffer's data part.
    fn record(&mut self, stream: Stream, length: usize) {
        let at_us = self.clock.now_us();
        let fits = self.free_space.allows(self.directory, length as u64);
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
            let (segment, part) =
                if to_head > 0 { (&mut self.head, to_head) } else { tail.current_segment(left, self.segment) };
            let take = usize::try_from(part).expect("at most a chunk");
            let frame = Frame { stream, length: u32::try_from(part).expect("at most a chunk"), at_us, offset };
            // The header overwrites data that was written to disk already or, for the first frame, the space left for it.
            self.buffer[done..done + HEADER].copy_from_slice(&frame.encode());
            let appended = segment.append(self.directory, &self.buffer[done..done + HEADER + take], part);
            tail.totals.written_bytes += part;
            match appended {
                true if to_head == 0 => tail.retained += part,
                true => {}
                false => tail.totals.dropped_bytes += part,
            }
            done += take;
            tail.prune(self.directory, self.half);
        }
    }
}

impl Tail {
    /// Returns the segment for the next bytes, and how many of the `left` bytes it takes.
    fn current_segment(&mut self, left: u64, size: u64) -> (&mut Segment, u64) {
        if self.segments.back().is_none_or(|s| s.data >= size || s.damaged) {
            if let Some(full) = self.segments.back_mut() {
                full.file = None;
            }
            self.segments.push_back(Segment::new(tail_name(self.stream, self.next_number)));
            self.next_number += 1;
        }
        let last = self.segments.back_mut().expect("just pushed");
        let part = left.min(size - last.data);
        (last, part)
    }

    /// Removes the oldest segments while the others hold the second half of the budget.
    fn prune(&mut self, directory: &Dir, half: u64) {
        while let Some(oldest) =
            self.segments.front().filter(|s| self.segments.len() > 1 && self.retained - s.data >= half)
        {
            let _ = directory.remove_file(&oldest.name);
            self.retained -= oldest.data;
            self.totals.dropped_bytes += oldest.data;
            self.segments.pop_front();
        }
    }
}

impl Segment {
    fn new(name: String) -> Segment {
        Segment { name, file: None, length: 0, data: 0, damaged: false }
    }

    /// Returns the open file and creates it if needed. After an error, the next frame tries again.
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

    /// Appends a frame with `data` bytes of data, completely or not at all.
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
