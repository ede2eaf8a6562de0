//! `bolt repo trust`: pins the root of a repository that another publisher made, and shows the pinned one.

use std::path::PathBuf;

use serde::Serialize;
use tough::schema::{RoleType, Root, Signed};

use super::files::{self, TrustFiles};
use super::{RepoError, fingerprint, marks, top_keys};
use crate::repo::PinError;
use crate::repo::block_on;
use crate::repo::storage::Storage;

/// Arguments of [`trust`].
#[derive(Debug, Clone)]
pub struct TrustOptions {
    /// The repository: a directory, `file:///` or `s3://bucket/prefix`.
    pub repository: PathBuf,
    /// The keys' directory.
    pub keys: PathBuf,
    /// Directory of pin and marks; absent: the keys' directory.
    pub state: Option<PathBuf>,
    /// Root to pin, from the publisher who ran `bolt repo init`; absent: the pinned one is shown.
    pub root: Option<PathBuf>,
    /// Its fingerprint, as that person read it out.
    pub fingerprint: Option<String>,
    /// Accept that the repository is at an older state than one seen before.
    pub accept_older: bool,
}

/// The root that is pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trusted {
    /// The file.
    pub root: PathBuf,
    /// Its version.
    pub version: u64,
    /// SHA-256 of its signed part.
    pub fingerprint: String,
    /// The ids of the root keys …
    pub root_keys: Vec<String>,
    /// … of which so many must sign the next root.
    pub threshold: u64,
    /// An older state of the repository was accepted.
    pub accepted_older: bool,
}

/// Pins a root, when the repository verifies from it.
pub fn trust(options: &TrustOptions) -> Result<Trusted, RepoError> {
    let TrustOptions { repository, keys, state, fingerprint: wanted, .. } = options;
    let trust = TrustFiles::of(keys, state.as_deref());
    let pinned = trust.root()?;
    let (path, bytes) = match (&options.root, &pinned) {
        (Some(path), _) => (path.clone(), files::read_root(path)?),
        (None, Some(pinned)) => (trust.pin(), pinned.clone()),
        (None, None) => {
            return Err(RepoError::Trust(PinError::NotPinned { directory: trust.directory().to_owned() }));
        }
    };
    let given = files::parse_root(&path, &bytes)?;
    let found = fingerprint(&given)?;
    if let Some(wanted) = wanted.as_ref().filter(|wanted| !wanted.eq_ignore_ascii_case(&found)) {
        return Err(RepoError::Trust(PinError::OtherFingerprint {
            path,
            found,
            wanted: wanted.chars().take(80).collect(),
        }));
    }
    if let (Some(_), Some(pinned)) = (&options.root, &pinned)
        && fingerprint(&files::parse_root(&trust.pin(), pinned)?)? != found
    {
        return Err(RepoError::Trust(PinError::PinnedAlready { path: trust.pin() }));
    }
    trust.check_writable()?;
    let storage = Storage::at(repository)?;
    storage.check_repository()?;
    let (root, accepted_older) = block_on(async || {
        let repository = storage.load(&bytes, None).await?;
        let (seen, found) = (trust.marks()?, marks(&repository));
        let marks = match seen.as_ref().map_or_else(|| Ok(found.clone()), |seen| seen.advance(&found)) {
            Ok(marks) => Some(marks),
            Err(_) if options.accept_older => None,
            Err(source) => {
                let (storage, directory) = (storage.name(), trust.directory().to_owned());
                return Err(RepoError::Trust(PinError::Older { storage, directory, source }));
            }
        };
        match &marks {
            Some(marks) => trust.keep(Some(repository.root()), marks)?,
            None => trust.accept(super::digest(&repository)?)?,
        }
        Ok((repository.root().clone(), marks.is_none()))
    })?;
    describe(trust.pin(), &root, accepted_older)
}

/// Describes a pinned root.
pub(in crate::repo) fn describe(
    path: PathBuf,
    root: &Signed<Root>,
    accepted_older: bool,
) -> Result<Trusted, RepoError> {
    Ok(Trusted {
        root: path,
        version: root.signed.version.get(),
        fingerprint: fingerprint(root)?,
        root_keys: top_keys(&root.signed, RoleType::Root),
        threshold: root.signed.roles.get(&RoleType::Root).map_or(0, |keys| keys.threshold.get()),
        accepted_older,
    })
}
