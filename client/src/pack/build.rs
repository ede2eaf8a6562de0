//! From a directory to an archive with a digest, or from an archive that was built before.

use std::fs;
use std::path::Path;

use packs_schema::name::Digest;
use packs_schema::pack::Pack;
use sha2::{Digest as _, Sha256};

use super::{PackError, archive, extract, lint, listing};

/// A pack that agents can take.
#[derive(Debug, Clone)]
pub struct BuiltPack {
    /// The archive: gzip over tar.
    pub archive: Vec<u8>,
    /// SHA-256 of the archive.
    pub digest: Digest,
    /// What the pack says of itself.
    pub pack: Pack,
}

impl BuiltPack {
    pub(crate) fn of(archive: Vec<u8>, pack: Pack) -> BuiltPack {
        BuiltPack { digest: digest(&archive), archive, pack }
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

/// Builds a directory, or checks an archive that `bolt pack build` made.
pub fn load(path: &Path) -> Result<BuiltPack, PackError> {
    let meta = fs::metadata(path).map_err(PackError::file("read", path))?;
    if meta.is_dir() {
        return build(path);
    }
    let archive = fs::read(path).map_err(PackError::file("read", path))?;
    let unpacked = tempfile::tempdir().map_err(PackError::file("create", std::env::temp_dir()))?;
    extract::extract(&archive, unpacked.path())
        .map_err(|problem| PackError::Archive { path: path.to_owned(), problem: problem.to_string() })?;
    let report = lint::lint(unpacked.path())?;
    match report.checked {
        Some(checked) => Ok(BuiltPack::of(archive, checked.pack)),
        None => Err(PackError::Findings { path: path.to_owned(), findings: report.findings }),
    }
}

fn digest(bytes: &[u8]) -> Digest {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    Digest::new(hex).expect("SHA-256 has 64 hexadecimal digits")
}
