//! Entries of executions that a crash kept from the audit log, found at the next start.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use packs_schema::agent::audit::Chain;
use packs_schema::agent::audit::lines::Piece;
use packs_schema::base::name::ExecutionId;
use serde::Deserialize;

use super::RUN;
use super::chain_file::{files, read};

/// Part of an entry that names its execution.
#[derive(Deserialize)]
struct Named {
    verb: String,
    execution: Option<ExecutionId>,
}

/// Returns those of `marked` that have no entry after `after`. Reads only files that may have one.
pub(super) fn find_missing(
    directory: &Path,
    mut marked: HashSet<ExecutionId>,
    after: u64,
) -> io::Result<HashSet<ExecutionId>> {
    let all = match files(directory, Chain::Changes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(marked),
        other => other?,
    };
    // Of the files that begin with the next entry or before it, only the last has later ones.
    let from = all.partition_point(|(first, _)| *first <= after.saturating_add(1)).saturating_sub(1);
    for (_, path) in &all[from..] {
        let mut lines = read(path)?;
        while let Some(piece) = lines.next_piece()? {
            let Piece::Line(text) = piece else { continue };
            if marked.is_empty() {
                return Ok(marked);
            }
            if let Ok(Named { verb, execution: Some(execution) }) = serde_json::from_slice(text)
                && verb == RUN
            {
                marked.remove(&execution);
            }
        }
    }
    Ok(marked)
}
