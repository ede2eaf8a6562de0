//! Doors for the fuzz targets to the sync: archives, and the record of the last verification.

use std::path::Path;

use packs_schema::agent::store::ManifestFile;

use super::last_verified::LastVerified;
use super::unpack;

/// Unpacks an archive into an empty directory, as the sync does; returns the files that are in it then.
pub fn unpack_archive(archive: &[u8], directory: &Path) -> Result<Vec<ManifestFile>, String> {
    unpack::unpack_bytes(archive, directory)
}

/// Reads the record of the last verification; returns what would be written again.
pub fn last_verified(bytes: &[u8]) -> Option<Vec<u8>> {
    let seen = LastVerified::parse(bytes)?;
    let _ = seen.etag();
    let written = serde_json::to_vec(&seen).expect("a record serialises");
    assert_eq!(LastVerified::parse(&written), Some(seen), "what was written reads back");
    Some(written)
}
