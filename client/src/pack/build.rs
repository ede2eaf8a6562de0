//! Builds an archive with a digest of a directory, or checks an archive that was built before.

use std::fs::{self, File};
use std::path::Path;

use packs_schema::base::name::Digest;
use packs_schema::pack::Pack;

use super::{ArchiveFile, PackError, archive, extract, lint, listing};

/// Pack that agents can take.
#[derive(Debug, Clone)]
pub struct BuiltPack {
    /// The archive: gzip over tar.
    pub archive: ArchiveFile,
    /// SHA-256 of the archive.
    pub digest: Digest,
    /// Metadata of the pack.
    pub pack: Pack,
}

impl BuiltPack {
    pub(crate) fn of(archive: ArchiveFile, pack: Pack) -> BuiltPack {
        BuiltPack { digest: archive.digest().clone(), archive, pack }
    }
}

/// Builds the pack in `directory`: the same files give the same bytes, whenever and wherever.
pub fn build(directory: &Path) -> Result<BuiltPack, PackError> {
    let listing = listing::list(directory)?;
    let report = lint::report(&listing);
    match report.checked {
        Some(checked) => {
            let archive = archive::write(&listing)?;
            Ok(BuiltPack::of(archive, checked.pack))
        }
        None => Err(PackError::Findings { path: directory.to_owned(), findings: report.findings }),
    }
}

/// Returns the metadata of the pack in a directory, without building it; `None` for an archive.
pub fn describe(path: &Path) -> Result<Option<Pack>, PackError> {
    if !path.is_dir() {
        return Ok(None);
    }
    let report = lint::lint(path)?;
    match report.checked {
        Some(checked) => Ok(Some(checked.pack)),
        None => Err(PackError::Findings { path: path.to_owned(), findings: report.findings }),
    }
}

/// Builds a directory, or checks an archive that `bolt pack build` made.
pub fn load(path: &Path) -> Result<BuiltPack, PackError> {
    let meta = fs::metadata(path).map_err(PackError::file("read", path))?;
    if meta.is_dir() {
        return build(path);
    }
    // A copy, so that the published bytes are the checked ones even if the file changes meanwhile.
    let file = File::open(path).map_err(PackError::file("read", path))?;
    let archive = ArchiveFile::copy_of(file, PackError::file("read", path))?;
    let unpacked = tempfile::tempdir().map_err(PackError::file("create", std::env::temp_dir()))?;
    extract::extract(&archive, unpacked.path())
        .map_err(|problem| PackError::Archive { path: path.to_owned(), problem: problem.to_string() })?;
    let report = lint::lint(unpacked.path())?;
    match report.checked {
        Some(checked) => Ok(BuiltPack::of(archive, checked.pack)),
        None => Err(PackError::Findings { path: path.to_owned(), findings: report.findings }),
    }
}
