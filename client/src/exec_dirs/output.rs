//! Output in an execution's directory, as it is at this moment: segments merged by time, with marks for what is missing.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use packs_schema::agent::execution::file;
use packs_schema::agent::execution::output::{Frame, HEADER, MAGIC, Stream, parse_tail_name};
use packs_schema::agent::rest::OutputChunk;
use packs_schema::base::name::ExecutionId;

use crate::confined_dir::ConfinedDir;

/// Reader of the chunks of both streams.
pub(crate) struct OutputReader<'a> {
    sources: [Source<'a>; 3],
    /// Next offset of each stream.
    next: [u64; 2],
    /// Data to return after the gap before it.
    pending: Option<OutputChunk>,
}

impl<'a> OutputReader<'a> {
    /// Reads the segments among the files `names` of the directory of `id`.
    pub(super) fn new(root: &'a ConfinedDir, id: &ExecutionId, names: &[String]) -> OutputReader<'a> {
        let tails = |wanted: Stream| {
            let mut numbers: Vec<u64> = names
                .iter()
                .filter_map(|name| parse_tail_name(name))
                .filter(|(of, _)| *of == wanted)
                .map(|(_, n)| n)
                .collect();
            numbers.sort_unstable();
            let name = |n| packs_schema::agent::execution::output::tail_name(wanted, n);
            Source::new(root, id, numbers.into_iter().map(name).collect())
        };
        let head = Source::new(root, id, VecDeque::from([file::OUTPUT.to_owned()]));
        OutputReader { sources: [head, tails(Stream::Stdout), tails(Stream::Stderr)], next: [0, 0], pending: None }
    }

    /// Returns the next chunk; `None` at the end of what is there.
    pub(crate) fn next(&mut self) -> Option<OutputChunk> {
        if let Some(pending) = self.pending.take() {
            return Some(pending);
        }
        loop {
            let times = self.sources.iter_mut().enumerate().filter_map(|(at, source)| Some((source.peek()?, at)));
            let (_, at) = times.min()?;
            let (frame, mut bytes) = self.sources[at].peeked.take()?;
            let next = &mut self.next[usize::from(frame.stream == Stream::Stderr)];
            let seen = usize::try_from(next.saturating_sub(frame.offset)).unwrap_or(usize::MAX);
            if seen >= bytes.len() {
                continue;
            }
            bytes.drain(..seen);
            let offset = frame.offset.max(*next);
            let from = std::mem::replace(next, offset + bytes.len() as u64);
            let data = chunk(&frame, offset, Ok(bytes));
            if offset == from {
                return Some(data);
            }
            self.pending = Some(data);
            return Some(chunk(&frame, from, Err(offset - from)));
        }
    }
}

/// Returns a chunk with these bytes, or with the number of bytes that are missing.
fn chunk(frame: &Frame, offset: u64, content: Result<Vec<u8>, u64>) -> OutputChunk {
    let (stream, at_us) = (frame.stream, frame.at_us);
    let empty = OutputChunk { stream, offset, at_us, text: None, base64: None, dropped_bytes: None };
    match content.map(String::from_utf8) {
        Ok(Ok(text)) => OutputChunk { text: Some(text), ..empty },
        Ok(Err(bytes)) => OutputChunk { base64: Some(STANDARD.encode(bytes.as_bytes())), ..empty },
        Err(missing) => OutputChunk { dropped_bytes: Some(missing), ..empty },
    }
}

/// Segments that continue each other. One that cannot be read, or is damaged, ends there, and the next one is read.
struct Source<'a> {
    root: &'a ConfinedDir,
    directory: PathBuf,
    names: VecDeque<String>,
    segment: Option<BufReader<File>>,
    peeked: Option<(Frame, Vec<u8>)>,
}

impl<'a> Source<'a> {
    fn new(root: &'a ConfinedDir, id: &ExecutionId, names: VecDeque<String>) -> Source<'a> {
        Source { root, directory: Path::new(id.as_str()).to_owned(), names, segment: None, peeked: None }
    }

    /// Returns the time of the next frame.
    fn peek(&mut self) -> Option<u64> {
        while self.peeked.is_none() {
            if self.segment.is_none() {
                let name = self.names.pop_front()?;
                self.segment = self.root.file(&self.directory.join(name)).ok().and_then(open);
            }
            self.peeked = self.segment.as_mut().and_then(frame);
            if self.peeked.is_none() {
                self.segment = None;
            }
        }
        self.peeked.as_ref().map(|(frame, _)| frame.at_us)
    }
}

fn open(file: File) -> Option<BufReader<File>> {
    let mut reader = BufReader::new(file);
    let mut magic = [0; MAGIC.len()];
    reader.read_exact(&mut magic).ok()?;
    (magic == MAGIC).then_some(reader)
}

/// Reads a frame; `None` at the end, at one that is not complete, and at damage.
fn frame(reader: &mut BufReader<File>) -> Option<(Frame, Vec<u8>)> {
    let mut header = [0; HEADER];
    reader.read_exact(&mut header).ok()?;
    let frame = Frame::decode(&header).ok()?;
    // At most MAX_CHUNK.
    let mut bytes = vec![0; frame.length as usize];
    reader.read_exact(&mut bytes).ok()?;
    Some((frame, bytes))
}
