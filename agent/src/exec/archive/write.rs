//! Writes an archive from segments, in a blocking thread: three passes, each streaming from disk to disk, so that memory stays
//! constant whatever the size of the output and of its frames.

use std::fs::DirEntry;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use packs_schema::agent::execution::file;
use packs_schema::agent::execution::output::Stream;

use super::super::segments::{Piece, SegmentError, SegmentReader, index};
use super::frames::{Record, Writer};
use super::spill::Spill;
use super::{Archive, ArchiveError, Header};

/// Error returned when an output cannot be archived.
#[derive(Debug, thiserror::Error)]
pub(in crate::exec) enum ArchiveOutputError {
    /// A segment cannot be read.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The archive cannot be written.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// Result of archiving an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::exec) enum ArchivedOutput {
    /// The execution wrote no output.
    Empty,
    /// Archive of at most `MAX_INLINE` bytes, for the database.
    Inline(Vec<u8>),
    /// The archive is a file in the directory, durably.
    File,
}

/// Size of the buffer before the compressor.
const BUFFER: usize = 8 << 10;

type Gzip = BufWriter<GzEncoder<Spill>>;

/// Archives the segments in `directory` of an execution that has ended. `written` is the number of bytes that each stream wrote,
/// if known. An output that is archived already stays as it is.
pub(in crate::exec) fn archive_output(
    directory: &Path,
    written: [Option<u64>; 2],
) -> Result<ArchivedOutput, ArchiveOutputError> {
    match Archive::open(directory) {
        Ok(Some(_)) => return Ok(ArchivedOutput::File),
        Ok(None) => {}
        // Ours are renamed into place after fsync, so this file is not one of them: make it from the segments.
        Err(ArchiveError::Header) => remove(&directory.join(file::ARCHIVE)).map_err(ArchiveError::Io)?,
        Err(error) => return Err(error.into()),
    }
    let mut header = Header::default();
    let mut frames = Writer::new(gzip(Spill::new(directory)));
    for_each_piece(directory, [Some(0), Some(0)], written, |piece| {
        let record = match &piece {
            Piece::Data { stream, at_us, bytes, .. } => {
                Record { stream: *stream, dropped: false, bytes: bytes.len() as u64, at_us: *at_us }
            }
            Piece::Dropped { stream, at_us, bytes, .. } => {
                Record { stream: *stream, dropped: true, bytes: *bytes, at_us: *at_us }
            }
        };
        let total = if record.dropped { &mut header.dropped } else { &mut header.kept };
        total[index(record.stream)] += record.bytes;
        frames.write(&record)
    })?;
    if header.kept == [0, 0] && header.dropped == [0, 0] {
        return Ok(ArchivedOutput::Empty);
    }
    let mut spill = end(frames.into_inner())?;
    header.members[0] = spill.written() - super::HEADER as u64;
    for stream in Stream::ALL {
        let i = index(stream);
        if header.kept[i] == 0 {
            continue;
        }
        let before = spill.written();
        let mut from = [None, None];
        from[i] = Some(0);
        let (mut data, mut kept) = (gzip(spill), 0);
        for_each_piece(directory, from, [None, None], |piece| match piece {
            Piece::Data { bytes, .. } => {
                kept += bytes.len() as u64;
                data.write_all(&bytes)
            }
            Piece::Dropped { .. } => Ok(()),
        })?;
        if kept != header.kept[i] {
            return Err(ArchiveError::Io(io::Error::other("the output changed while it was folded")).into());
        }
        spill = end(data)?;
        header.members[1 + i] = spill.written() - before;
    }
    Ok(spill.finish(&header).map_err(ArchiveError::Io)?.map_or(ArchivedOutput::File, ArchivedOutput::Inline))
}

/// Calls `take` for each piece. What damage has destroyed counts as dropped.
fn for_each_piece(
    directory: &Path,
    from: [Option<u64>; 2],
    written: [Option<u64>; 2],
    mut take: impl FnMut(Piece) -> io::Result<()>,
) -> Result<(), ArchiveOutputError> {
    let mut reader = SegmentReader::open(directory, from[0], from[1]);
    loop {
        match reader.read() {
            Ok(Some(piece)) => take(piece).map_err(ArchiveError::Io)?,
            Ok(None) => break,
            Err(error) => return Err(error.into()),
        }
    }
    for stream in Stream::ALL {
        if let Some(piece) = written[index(stream)].and_then(|written| reader.missing(stream, written)) {
            take(piece).map_err(ArchiveError::Io)?;
        }
    }
    Ok(())
}

fn gzip(spill: Spill) -> Gzip {
    BufWriter::with_capacity(BUFFER, GzEncoder::new(spill, Compression::default()))
}

fn end(gzip: Gzip) -> Result<Spill, ArchiveOutputError> {
    let encoder = gzip.into_inner().map_err(|e| ArchiveError::Io(e.into_error()))?;
    Ok(encoder.finish().map_err(ArchiveError::Io)?)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Removes everything from a directory that its archive replaces.
pub(in crate::exec) fn remove_segments(directory: &Path) -> io::Result<()> {
    let is_kept = |entry: &DirEntry| {
        let name = entry.file_name();
        [file::SPEC, file::EXIT, file::ARCHIVE].iter().any(|kept| name == *kept)
    };
    let entries = match std::fs::read_dir(directory) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if !is_kept(&entry) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}
