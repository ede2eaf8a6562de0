//! An execution's output log, read back in the order in which the shim read it from the action.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use crate::confined_dir::ConfinedDir;
use packs_schema::agent::execution::file;
use packs_schema::agent::execution::output::{Frame, HEADER, MAGIC, Stream, parse_tail_name};

/// The largest segment that is read, in bytes: more than the largest `bolt.output` and its frames.
const MAX_SEGMENT: u64 = 4 << 30;

/// A piece of output, or a gap in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Of which stream.
    pub stream: Stream,
    /// When it was read from the action, in microseconds since 1970.
    pub at_us: u64,
    /// Bytes of this stream right before it that were not kept.
    pub dropped_bytes: u64,
    /// The bytes.
    pub data: Vec<u8>,
}

/// Reads all segments of an execution's directory.
pub fn read(directory: &Path) -> io::Result<Vec<Piece>> {
    let mut frames = Vec::new();
    // In an agent's directory the api's account may have changed it.
    let files = ConfinedDir::open(directory)?;
    match files.read(Path::new(file::OUTPUT), MAX_SEGMENT) {
        Ok(bytes) => segment(&bytes, &mut frames)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    }
    let mut tails = BTreeMap::new();
    for name in files.entries(Path::new(""))?.into_keys() {
        if let Some(key) = parse_tail_name(&name) {
            tails.insert(key, name);
        }
    }
    for name in tails.values() {
        segment(&files.read(Path::new(name), MAX_SEGMENT)?, &mut frames)?;
    }
    // Stable: what came at the same microsecond stays in the order of its segment.
    frames.sort_by_key(|(frame, _)| frame.at_us);
    let mut ends: BTreeMap<Stream, u64> = BTreeMap::new();
    let pieces = frames.into_iter().map(|(frame, data)| {
        let end = ends.entry(frame.stream).or_default();
        let dropped_bytes = frame.offset.saturating_sub(*end);
        *end = frame.offset + u64::from(frame.length);
        Piece { stream: frame.stream, at_us: frame.at_us, dropped_bytes, data }
    });
    Ok(pieces.collect())
}

fn segment(bytes: &[u8], frames: &mut Vec<(Frame, Vec<u8>)>) -> io::Result<()> {
    let mut rest = bytes.strip_prefix(&MAGIC).ok_or_else(|| io::Error::other("it does not begin as an output log"))?;
    while let Some((header, after)) = rest.split_first_chunk::<HEADER>() {
        let frame = Frame::decode(header).map_err(io::Error::other)?;
        // A frame that is cut short at the end was still being written.
        let Some((data, after)) = after.split_at_checked(frame.length as usize) else { break };
        frames.push((frame, data.to_vec()));
        rest = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use packs_schema::agent::execution::output::tail_name;

    fn frame(stream: Stream, at_us: u64, offset: u64, data: &str) -> Vec<u8> {
        let length = u32::try_from(data.len()).unwrap();
        [&Frame { stream, length, at_us, offset }.encode()[..], data.as_bytes()].concat()
    }

    #[test]
    fn streams_are_interleaved_and_gaps_are_counted() {
        let temp = tempfile::tempdir().unwrap();
        let (out, err) = (Stream::Stdout, Stream::Stderr);
        let log = [&MAGIC[..], &frame(out, 1, 0, "ab"), &frame(err, 2, 0, "E"), &frame(out, 5, 2, "c")].concat();
        fs::write(temp.path().join(file::OUTPUT), log).unwrap();
        let cut = frame(out, 10, 14, "cut")[..26].to_vec();
        let tail = [&MAGIC[..], &frame(out, 9, 13, "z"), &cut].concat();
        fs::write(temp.path().join(tail_name(out, 3)), tail).unwrap();
        let pieces = read(temp.path()).unwrap();
        let shown: Vec<_> =
            pieces.iter().map(|p| (p.stream, p.dropped_bytes, String::from_utf8_lossy(&p.data).into_owned())).collect();
        let piece = |stream, dropped, text: &str| (stream, dropped, text.to_owned());
        assert_eq!(shown, [piece(out, 0, "ab"), piece(err, 0, "E"), piece(out, 0, "c"), piece(out, 10, "z")]);
    }
}
