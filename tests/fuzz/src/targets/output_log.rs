//! Output of an execution as files hold it after a crash: segments and archives. Offsets never fall, what is lost is marked, and an
//! archive reads as its segments do.
//!
//! The first byte chooses an archive, or segments; of segments, its bits say which of both streams are read, and from where.

use std::fs;

use bolt_agent::fuzz::{Piece, archive, archive_segments, segments};
use packs_schema::agent::execution::file;
use packs_schema::agent::execution::output::{Frame, HEADER, MAGIC, MAX_CHUNK, Stream, parse_tail_name, tail_name};

use crate::{repository, scratch};

/// Separates files in an input.
const NEXT_FILE: &[u8] = b"\xffNEXT";

pub(super) fn run(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    if let Ok(name) = std::str::from_utf8(bytes)
        && let Some((stream, number)) = parse_tail_name(name)
    {
        assert_eq!(tail_name(stream, number), name);
    }
    if let Some(header) = bytes.first_chunk::<HEADER>()
        && let Ok(frame) = Frame::decode(header)
    {
        assert_eq!(&frame.encode(), header);
        assert!(frame.length as usize <= MAX_CHUNK);
    }
    if choice % 2 == 0 {
        if let Ok(pieces) = archive(bytes, [Some(0), Some(0)]) {
            in_order(&pieces);
        }
        return;
    }
    let from = [Some(u64::from(choice >> 4)), (choice & 2 == 0).then_some(0)];
    scratch::with_directory(|directory| {
        let names = [file::OUTPUT.to_owned(), tail_name(Stream::Stdout, 0), tail_name(Stream::Stdout, 2), tail_name(Stream::Stderr, 1)];
        for (name, content) in names.iter().zip(split(bytes)) {
            fs::write(directory.join(name), content).expect("a file");
        }
        in_order(&segments(directory, from, [0, 0]));
        let written = [if choice & 4 == 0 { 1 << 40 } else { u64::MAX }, 0];
        let whole = segments(directory, [Some(0), Some(0)], written);
        in_order(&whole);
        let archived = archive_segments(directory, written).expect("bytes of standard output are missing at least");
        // An archive has no offsets for the marks at the end of a stream, which have no time.
        assert_eq!(archive(&archived, [Some(0), Some(0)]).as_ref(), Ok(&whole), "the archive reads otherwise");
    });
}

fn split(bytes: &[u8]) -> Vec<&[u8]> {
    let mut files = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(NEXT_FILE.len()).position(|window| window == NEXT_FILE) {
        files.push(&rest[..at]);
        rest = &rest[at + NEXT_FILE.len()..];
    }
    files.push(rest);
    files
}

/// Each piece begins where the last one of its stream ended, and is not empty.
fn in_order(pieces: &[Piece]) {
    let mut next: [Option<u64>; 2] = [None; 2];
    for piece in pieces {
        let (stream, offset, length) = match piece {
            Piece::Data { stream, offset, bytes, .. } => (*stream, *offset, bytes.len() as u64),
            Piece::Dropped { stream, offset, bytes, .. } => (*stream, *offset, *bytes),
        };
        let next = &mut next[usize::from(stream == Stream::Stderr)];
        assert!(next.is_none_or(|next| next == offset), "a piece at {offset} follows {next:?}");
        *next = Some(offset.checked_add(length).expect("offsets have 64 bits"));
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let read = |name: &str| repository::read(&format!("tests/fixtures/execution-format-1/{name}"));
    let frame = |stream, at_us, offset, data: &[u8]| {
        let length = u32::try_from(data.len()).expect("short");
        [&Frame { stream, length, at_us, offset }.encode()[..], data].concat()
    };
    let mut seeds = Vec::new();
    let output = read("output.log");
    if output.len() < 3000 {
        seeds.push([&[1], output.as_slice(), NEXT_FILE, &read("tail.1.0")].concat());
    }
    let head = [&MAGIC[..], &frame(Stream::Stdout, 1, 0, b"head "), &frame(Stream::Stderr, 2, 0, b"oops ")].concat();
    let tail = [&MAGIC[..], &frame(Stream::Stdout, 4, 105, b"late ")].concat();
    let again = [&MAGIC[..], &frame(Stream::Stdout, 3, 100, b"before "), &frame(Stream::Stdout, 5, 120, b"x")].concat();
    seeds.push([&[1], head.as_slice(), NEXT_FILE, &tail, NEXT_FILE, &again, NEXT_FILE, &head].concat());
    scratch::with_directory(|directory| {
        fs::write(directory.join(file::OUTPUT), &head).expect("a file");
        fs::write(directory.join(tail_name(Stream::Stdout, 0)), &tail).expect("a file");
        let archived = archive_segments(directory, [200, 5]).expect("output");
        seeds.push([&[0], archived.as_slice()].concat());
    });
    seeds
}
