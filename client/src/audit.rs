//! Audit log of an instance, read from its files: found, verified and listed, without the agent.
//!
//! The directory belongs to the agent's account and is read by root: a file must be a regular one, links are not followed, and
//! memory is bounded whatever the files hold.

mod entries;
#[cfg(test)]
mod tests;
mod verify;

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use packs_schema::agent::audit::Chain;
use packs_schema::agent::audit::lines::Lines;

pub use entries::{Entries, Listed};
pub use verify::{Broken, Incomplete, Problem, Report, verify};

/// Error returned when the audit log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The directory or a file cannot be read.
    #[error("cannot read {}", crate::show::path(.0))]
    Read(PathBuf, #[source] io::Error),
    /// A file is a link, a directory or a device.
    #[error("{} is not a regular file", crate::show::path(.0))]
    NotAFile(PathBuf),
    /// The directory has no audit log.
    #[error("{} has no audit log: no file is called changes-<number>.jsonl or refusals-<number>.jsonl", crate::show::path(.0))]
    Nothing(PathBuf),
}

/// Files of one chain, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainFiles {
    /// Chain; `None` for a file with a name of its own.
    pub chain: Option<Chain>,
    /// Files, each with the sequence number in its name.
    pub files: Vec<(Option<u64>, PathBuf)>,
}

/// Finds the files of the audit log: those in a directory, or one file.
pub fn find(path: &Path) -> Result<Vec<ChainFiles>, AuditError> {
    let failed = |source| AuditError::Read(path.to_owned(), source);
    if !path.metadata().map_err(failed)?.is_dir() {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(Chain::parse_file_name);
        let files = vec![(name.map(|(_, first)| first), path.to_owned())];
        return Ok(vec![ChainFiles { chain: name.map(|(chain, _)| chain), files }]);
    }
    let mut found: Vec<(Chain, u64, PathBuf)> = Vec::new();
    for entry in path.read_dir().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if let Some((chain, first)) = entry.file_name().to_str().and_then(Chain::parse_file_name) {
            found.push((chain, first, entry.path()));
        }
    }
    if found.is_empty() {
        return Err(AuditError::Nothing(path.to_owned()));
    }
    found.sort();
    let files_of = |chain| found.iter().filter(move |(of, ..)| *of == chain);
    let chains = Chain::ALL.into_iter().map(|chain| ChainFiles {
        chain: Some(chain),
        files: files_of(chain).map(|(_, first, path)| (Some(*first), path.clone())).collect(),
    });
    Ok(chains.filter(|chain| !chain.files.is_empty()).collect())
}

/// Opens a file for reading its lines.
fn open(path: &Path) -> Result<Lines<BufReader<File>>, AuditError> {
    let failed = |source| AuditError::Read(path.to_owned(), source);
    // Neither a link nor a pipe, for which opening would wait.
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(AuditError::NotAFile(path.to_owned()));
    }
    Ok(Lines::new(BufReader::new(file)))
}
