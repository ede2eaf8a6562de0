//! Folding one output, in a blocking thread: three passes over its segments, each a stream from disk to disk, so that
//! memory stays flat whatever its size and whatever the size of its frames.

use std::fs::DirEntry;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use packs_schema::agent::execution::file;
use packs_schema::agent::execution::output::Stream;

use super::super::output::{Live, OutputError, Piece, index};
use super::frames::{Record, Writer};
use super::spill::Spill;
use super::{Archive, ArchiveError, Header};

/// Where a folded output is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::exec) enum Folded {
    /// There was none.
    Nothing,
    /// Here.
    Small(Vec<u8>),
    /// In the directory, durably.
    File,
}

/// Collects small writes for the compressor, and small outputs of it.
const BUFFER: usize = 8 << 10;

type Gzip = BufWriter<GzEncoder<Spill>>;

/// Folds the segments in `directory` of an execution that has ended; `written`: what each stream wrote, if it is known.
/// One that is folded already stays as it is.
pub(in crate::exec) fn fold(directory: &Path, written: [Option<u64>; 2]) -> Result<Folded, OutputError> {
    match Archive::open(directory) {
        Ok(Some(_)) => return Ok(Folded::File),
        Ok(None) => {}
        // Renamed into place after fsync, so not ours: the segments say what it should have been.
        Err(ArchiveError::Header) => remove(&directory.join(file::ARCHIVE)).map_err(ArchiveError::Io)?,
        Err(error) => return Err(error.into()),
    }
    let mut header = Header::default();
    let mut frames = Writer::new(gzip(Spill::new(directory)));
    each(directory, [Some(0), Some(0)], written, |piece| {
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
        return Ok(Folded::Nothing);
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
        each(directory, from, [None, None], |piece| match piece {
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
    Ok(spill.finish(&header).map_err(ArchiveError::Io)?.map_or(Folded::File, Folded::Small))
}

/// Hands out what can be read. What is damaged is read up to the damage: the rest counts as not kept.
fn each(
    directory: &Path,
    from: [Option<u64>; 2],
    written: [Option<u64>; 2],
    mut take: impl FnMut(Piece) -> io::Result<()>,
) -> Result<(), OutputError> {
    let mut live = Live::open(directory, from[0], from[1]);
    loop {
        match live.read() {
            Ok(Some(piece)) => take(piece).map_err(ArchiveError::Io)?,
            Ok(None) => break,
            Err(OutputError::Damaged(path, error)) => {
                tracing::error!(path = %path.display(), %error, "archived up to the damage");
                break;
            }
            Err(OutputError::Read(path, error)) if error.kind() == ErrorKind::InvalidData => {
                tracing::error!(path = %path.display(), %error, "archived up to the damage");
                break;
            }
            Err(error) => return Err(error),
        }
    }
    for stream in Stream::ALL {
        if let Some(piece) = written[index(stream)].and_then(|written| live.missing(stream, written)) {
            take(piece).map_err(ArchiveError::Io)?;
        }
    }
    Ok(())
}

fn gzip(spill: Spill) -> Gzip {
    BufWriter::with_capacity(BUFFER, GzEncoder::new(spill, Compression::default()))
}

fn end(gzip: Gzip) -> Result<Spill, OutputError> {
    let encoder = gzip.into_inner().map_err(|e| ArchiveError::Io(e.into_error()))?;
    Ok(encoder.finish().map_err(ArchiveError::Io)?)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Removes from a directory what its archive stands for.
pub(in crate::exec) fn tidy(directory: &Path) -> io::Result<()> {
    let stays = |entry: &DirEntry| {
        let name = entry.file_name();
        [file::SPEC, file::EXIT, file::ARCHIVE].iter().any(|stays| name == *stays)
    };
    let entries = match std::fs::read_dir(directory) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if !stays(&entry) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}
