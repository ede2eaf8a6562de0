//! Door for the fuzz targets to the files of a chain.

use std::io;
use std::path::Path;

use packs_schema::agent::audit::{Chain, Entry};

use super::chain_file::{Bounds, ChainFile};

/// Opens the chain of changes in a directory as an agent does when it starts, and records an entry. Returns its sequence number.
pub fn continue_chain(directory: &Path, entry: &Entry) -> io::Result<u64> {
    let bounds = Bounds { file_bytes: 1 << 20, max_files: 8 };
    let (mut chain, _) = ChainFile::open(directory, Chain::Changes, bounds)?;
    let head = chain.append(entry)?;
    chain.sync()?;
    Ok(head.sequence)
}
