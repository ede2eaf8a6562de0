//! Doors for the fuzz targets to the output of executions: segments as a shim wrote them, and archives.

use std::path::Path;
use std::sync::Arc;

use packs_schema::agent::execution::output::Stream;

use super::archive::{Archive, ArchivedOutput, archive_output};
use super::output::Output;
pub use super::segments::Piece;

/// Maximum number of pieces that are read: a small archive may hold millions of empty ones.
const MAX_PIECES: usize = 10_000;

/// Reads the segments in a directory: each stream from its offset, or not at all. `written` is what each stream is said to have written.
pub fn segments(directory: &Path, from: [Option<u64>; 2], written: [u64; 2]) -> Vec<Piece> {
    let mut output = Output::from_segments(directory, from, None);
    let mut pieces = read(&mut output).expect("the files can be read");
    let missing = Stream::ALL.into_iter().zip(written).filter_map(|(stream, written)| output.missing(stream, written));
    pieces.extend(missing);
    pieces
}

/// Reads an archive: each stream from its offset, or not at all.
pub fn archive(bytes: &[u8], from: [Option<u64>; 2]) -> Result<Vec<Piece>, String> {
    let archive = Archive::from_bytes(Arc::from(bytes)).map_err(|error| error.to_string())?;
    read(&mut Output::from_archive(&archive, from))
}

/// Archives the segments in a directory, and removes nothing; `None` if there is no output.
pub fn archive_segments(directory: &Path, written: [u64; 2]) -> Option<Vec<u8>> {
    match archive_output(directory, written.map(Some)).expect("the output is archived") {
        ArchivedOutput::Empty => None,
        ArchivedOutput::Inline(bytes) => Some(bytes),
        ArchivedOutput::File => {
            let file = directory.join(packs_schema::agent::execution::file::ARCHIVE);
            Some(std::fs::read(file).expect("the archive is there"))
        }
    }
}

fn read(output: &mut Output) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    while let Some(piece) = output.read().map_err(|error| error.to_string())? {
        pieces.push(piece);
        if pieces.len() >= MAX_PIECES {
            return Err("too many pieces".to_owned());
        }
    }
    Ok(pieces)
}
