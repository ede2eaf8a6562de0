//! Checks archives of published versions against their signed metadata: missing, wrong length, or wrong bytes.
//!
//! A listing of the repository gives presence and length of every archive. Archives that a channel holds are read as well where
//! that is cheap, in a directory, or when the reader asked for it. A change that gives instances a version reads its archive
//! first, so that none is promoted that they could not take.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use packs_schema::delivery::channel::parse_pack_target;
use tough::schema::Target;

use super::storage::{Storage, StoredFile};
use super::{RepoError, hex};
use crate::repo::ReleaseError;

/// Result of checking the archives.
#[derive(Debug, Default)]
pub(super) struct Archives {
    /// Problems, by target name.
    pub(super) problems: BTreeMap<String, String>,
    /// Error that kept them from being listed: then nothing is known about them.
    pub(super) not_checked: Option<String>,
}

/// Compares every archive with its signed metadata. Reads those that are `held` by a channel, in a bucket only if `read`.
pub(super) fn compare<'a>(
    targets: impl Iterator<Item = (&'a str, &'a Target)>,
    storage: &Storage,
    held: &BTreeSet<String>,
    read: bool,
) -> Result<Archives, RepoError> {
    let stored: HashMap<String, u64> = match storage.list() {
        Ok(stored) => stored.into_iter().map(|file| (file.name, file.bytes)).collect(),
        Err(error) => return Ok(Archives { not_checked: Some(chain(&error)), ..Archives::default() }),
    };
    let mut archives = Archives::default();
    for (name, target) in targets {
        if parse_pack_target(name).is_none() {
            continue;
        }
        let stored = stored.get(&format!("targets/{}.{name}", hex(&target.hashes.sha256))).copied();
        let found = match stored {
            None => Some(MISSING.to_owned()),
            Some(bytes) if bytes != target.length => Some(wrong_length(bytes, target)),
            Some(_) if held.contains(name) && (read || storage.is_directory()) => problem(storage, name, target)?,
            Some(_) => None,
        };
        archives.problems.extend(found.map(|problem| (name.to_owned(), problem)));
    }
    Ok(archives)
}

/// Formats an error and its causes in one line.
fn chain(error: &RepoError) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |said, cause| format!("{said}: {cause}"))
}

const MISSING: &str = "it is missing";

fn wrong_length(bytes: u64, target: &Target) -> String {
    format!("it has {bytes} bytes instead of the {} that are signed", target.length)
}

/// Returns an error if instances could not take the archive.
pub(super) fn require(storage: &Storage, name: &str, target: &Target) -> Result<(), RepoError> {
    match (problem(storage, name, target)?, parse_pack_target(name)) {
        (Some(problem), Some((pack, version))) => {
            Err(RepoError::Release(ReleaseError::BadArchive { pack, version, problem }))
        }
        _ => Ok(()),
    }
}

/// Reads an archive in pieces and returns its problem.
fn problem(storage: &Storage, name: &str, target: &Target) -> Result<Option<String>, RepoError> {
    let digest = hex(&target.hashes.sha256);
    Ok(match storage.digest_of_target(name, &digest, target.length)? {
        StoredFile::Missing => Some(MISSING.to_owned()),
        StoredFile::Longer => Some(format!("it has more than the {} bytes that are signed", target.length)),
        StoredFile::File(found) if found.bytes != target.length => Some(wrong_length(found.bytes, target)),
        StoredFile::File(found) if found.sha256 != digest => {
            Some("its bytes are not those that were signed".to_owned())
        }
        StoredFile::File(_) => None,
    })
}
