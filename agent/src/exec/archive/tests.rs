//! An archive reads exactly like the segments it was made from.

use std::fs;
use std::io::Write;
use std::path::Path;

use packs_schema::agent::execution::output::{Frame, MAGIC as SEGMENT, Stream, tail_name};
use proptest::prelude::*;

use super::super::segments::{Piece, SegmentReader};
use super::spill::NEW;
use super::*;

/// Chunk of output, kept or dropped.
#[derive(Debug, Clone)]
struct Chunk {
    stream: Stream,
    bytes: Vec<u8>,
    kept: bool,
    tail: bool,
    later_us: i64,
}

fn chunk() -> impl Strategy<Value = Chunk> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..40),
        Just(vec![b'a'; 3_000]),
        prop::collection::vec(any::<u8>(), 4_000..6_000),
    ];
    (any::<bool>(), bytes, 0..10_u8, any::<bool>(), -5..50_i64).prop_map(|(out, bytes, kept, tail, later_us)| Chunk {
        stream: if out { Stream::Stdout } else { Stream::Stderr },
        bytes,
        kept: kept > 1,
        tail,
        later_us,
    })
}

/// Writes segments as a shim does; returns how many bytes each stream wrote.
fn write(directory: &Path, chunks: &[Chunk]) -> [u64; 2] {
    let (mut written, mut at_us, mut tails) = ([0_u64; 2], 1_000_000_u64, [false; 2]);
    let mut numbers = [0_u64; 2];
    let append = |name: &str, bytes: &[u8]| {
        let path = directory.join(name);
        let fresh = !path.exists();
        let mut file = fs::File::options().append(true).create(true).open(path).unwrap();
        if fresh {
            file.write_all(&SEGMENT).unwrap();
        }
        file.write_all(bytes).unwrap();
    };
    for chunk in chunks {
        let i = index(chunk.stream);
        at_us = at_us.saturating_add_signed(chunk.later_us);
        let frame = Frame { stream: chunk.stream, length: chunk.bytes.len() as u32, at_us, offset: written[i] };
        written[i] += chunk.bytes.len() as u64;
        tails[i] |= chunk.tail;
        if !chunk.kept {
            continue;
        }
        let bytes = [&frame.encode()[..], &chunk.bytes].concat();
        if tails[i] {
            numbers[i] += u64::from(chunk.tail);
            append(&tail_name(chunk.stream, numbers[i]), &bytes);
        } else {
            append(file::OUTPUT, &bytes);
        }
    }
    written
}

fn segments(directory: &Path, from: [Option<u64>; 2], written: [u64; 2]) -> Vec<Piece> {
    let mut reader = SegmentReader::open(directory, from[0], from[1]);
    let mut pieces: Vec<Piece> = std::iter::from_fn(|| reader.read().unwrap()).collect();
    pieces.extend(Stream::ALL.into_iter().filter_map(|stream| reader.missing(stream, written[index(stream)])));
    pieces
}

fn archived(archive: &Archive, from: [Option<u64>; 2]) -> Vec<Piece> {
    let mut archived = archive.read(from);
    std::iter::from_fn(|| archived.read().unwrap()).collect()
}

/// Archives a directory and returns the archive.
fn archive_of(directory: &Path, written: [u64; 2]) -> Option<Archive> {
    match archive_output(directory, written.map(Some)).unwrap() {
        ArchivedOutput::Empty => None,
        ArchivedOutput::Inline(bytes) => {
            assert!(bytes.len() <= MAX_INLINE && !directory.join(file::ARCHIVE).exists());
            Some(Archive::from_bytes(bytes.into()).unwrap())
        }
        ArchivedOutput::File => Some(Archive::open(directory).unwrap().expect("the archive exists")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn archived_output_reads_as_it_did(chunks in prop::collection::vec(chunk(), 0..30), cuts in any::<[u16; 2]>()) {
        let dir = tempfile::tempdir().unwrap();
        let written = write(dir.path(), &chunks);
        let Some(archive) = archive_of(dir.path(), written) else {
            prop_assert_eq!(written, [0, 0]);
            return Ok(());
        };
        let cut = |i: usize| u64::from(cuts[i]) % (written[i] + 2);
        for from in [
            [Some(0), Some(0)],
            [Some(0), None],
            [None, Some(0)],
            [Some(cut(0)), Some(cut(1))],
            [None, Some(cut(1))],
        ] {
            prop_assert_eq!(archived(&archive, from), segments(dir.path(), from, written), "{:?}", from);
        }
        for stream in Stream::ALL {
            let mut from = [None, None];
            from[index(stream)] = Some(0);
            let (mut data, mut dropped, mut lengths) = (Vec::new(), 0, Vec::new());
            for piece in segments(dir.path(), from, written) {
                match piece {
                    Piece::Data { bytes, .. } => {
                        lengths.push((false, bytes.len() as u64));
                        data.extend(bytes);
                    }
                    Piece::Dropped { bytes, .. } => {
                        lengths.push((true, bytes));
                        dropped += bytes;
                    }
                }
            }
            prop_assert_eq!(archive.totals(stream), (data.len() as u64, dropped));
            let mut reported = Vec::new();
            archive.lengths(stream, |dropped, bytes| reported.push((dropped, bytes))).unwrap();
            prop_assert_eq!(reported, lengths);
            // Data as it is sent to callers: still compressed.
            let (section, length) = archive.stored(stream);
            let mut plain = Vec::new();
            if length > 0 {
                flate2::read::GzDecoder::new(section).read_to_end(&mut plain).unwrap();
            }
            prop_assert_eq!(plain, data);
        }
    }
}

fn chunks(count: usize, bytes: usize) -> Vec<Chunk> {
    // Does not compress.
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let mut one = || (0..bytes).map(|_| random()).collect::<Vec<u8>>();
    (0..count).map(|_| Chunk { stream: Stream::Stdout, bytes: one(), kept: true, tail: false, later_us: 3 }).collect()
}

#[test]
fn archiving_again_after_a_crash_gives_the_same_archive() {
    let dir = tempfile::tempdir().unwrap();
    for name in [file::SPEC, file::EXIT, file::LOCK, file::STARTED] {
        fs::write(dir.path().join(name), "{}").unwrap();
    }
    let written = write(dir.path(), &chunks(20, 2_000));
    let before = segments(dir.path(), [Some(0), Some(0)], written);
    // Left by a crash while writing.
    fs::write(dir.path().join(NEW), b"half of it").unwrap();
    assert_eq!(archive_output(dir.path(), written.map(Some)).unwrap(), ArchivedOutput::File);
    let bytes = fs::read(dir.path().join(file::ARCHIVE)).unwrap();
    // A crash before the row, and one while segments are removed: the segments are no longer needed.
    fs::remove_file(dir.path().join(file::OUTPUT)).unwrap();
    assert_eq!(archive_output(dir.path(), written.map(Some)).unwrap(), ArchivedOutput::File);
    remove_segments(dir.path()).unwrap();
    remove_segments(dir.path()).unwrap();
    assert_eq!(archive_output(dir.path(), written.map(Some)).unwrap(), ArchivedOutput::File);
    assert_eq!(fs::read(dir.path().join(file::ARCHIVE)).unwrap(), bytes);
    let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [file::ARCHIVE, file::EXIT, file::SPEC]);
    let archive = Archive::open(dir.path()).unwrap().unwrap();
    assert_eq!(archived(&archive, [Some(0), Some(0)]), before);
}

#[test]
fn an_invalid_archive_file_is_replaced_from_the_segments() {
    let dir = tempfile::tempdir().unwrap();
    let written = write(dir.path(), &chunks(20, 2_000));
    let before = segments(dir.path(), [Some(0), Some(0)], written);
    fs::write(dir.path().join(file::ARCHIVE), vec![7; 200]).unwrap();
    assert!(matches!(Archive::open(dir.path()), Err(ArchiveError::Header)));
    let archive = archive_of(dir.path(), written).unwrap();
    assert_eq!(archived(&archive, [Some(0), Some(0)]), before);
}

#[test]
fn output_after_damage_counts_as_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let written = write(dir.path(), &chunks(10, 50));
    let path = dir.path().join(file::OUTPUT);
    let mut bytes = fs::read(&path).unwrap();
    let half = SEGMENT.len() + 5 * (packs_schema::agent::execution::output::HEADER + 50);
    bytes[half] = 9;
    fs::write(&path, bytes).unwrap();
    let archive = archive_of(dir.path(), written).unwrap();
    assert_eq!(archive.totals(Stream::Stdout), (250, 250));
    let last = archived(&archive, [Some(0), Some(0)]).pop();
    assert_eq!(last, Some(Piece::Dropped { stream: Stream::Stdout, offset: 250, at_us: 0, bytes: 250 }));
}

#[test]
fn a_damaged_archive_is_an_error_and_never_other_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut input = chunks(6, 400);
    input[3].kept = false;
    input[4].stream = Stream::Stderr;
    let written = write(dir.path(), &input);
    let ArchivedOutput::Inline(good) = archive_output(dir.path(), written.map(Some)).unwrap() else {
        panic!("it is small")
    };
    let whole = archived(&Archive::from_bytes(good.clone().into()).unwrap(), [Some(0), Some(0)]);
    for length in 0..good.len() {
        assert!(Archive::from_bytes(good[..length].into()).is_err(), "{length}");
    }
    let mut same = 0;
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x41;
        let Ok(archive) = Archive::from_bytes(bad.into()) else { continue };
        let mut reader = archive.read([Some(0), Some(0)]);
        let mut pieces = Vec::new();
        let failed = loop {
            match reader.read() {
                Ok(Some(piece)) => pieces.push(piece),
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        if !failed {
            assert!(pieces == whole, "{at}");
            same += 1;
        }
    }
    // Harmless positions: names, times and flags in gzip headers, and totals that only lengths depend on.
    assert!(same < 90, "{same}");
}

#[test]
fn tiny_frames_compress_well_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let count = 200_000;
    let mut segment = SEGMENT.to_vec();
    for n in 0..count {
        let frame = Frame { stream: Stream::Stdout, length: 1, at_us: 1_000_000 + n * 7, offset: n };
        segment.extend(frame.encode());
        segment.push(n as u8);
    }
    fs::write(dir.path().join(file::OUTPUT), &segment).unwrap();
    let ArchivedOutput::Inline(bytes) = archive_output(dir.path(), [Some(count), Some(0)]).unwrap() else {
        panic!("it is small")
    };
    assert!(bytes.len() * 500 < segment.len(), "{} of {}", bytes.len(), segment.len());
    let archive = Archive::from_bytes(bytes.into()).unwrap();
    assert_eq!(archive.totals(Stream::Stdout), (count, 0));
    let mut reader = archive.read([Some(count - 2), None]);
    let piece =
        |n: u64| Piece::Data { stream: Stream::Stdout, offset: n, at_us: 1_000_000 + n * 7, bytes: vec![n as u8] };
    assert_eq!(reader.read().unwrap(), Some(piece(count - 2)));
    assert_eq!(reader.read().unwrap(), Some(piece(count - 1)));
    assert_eq!(reader.read().unwrap(), None);
}
