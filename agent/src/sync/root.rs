//! Pinned root of the repository: the file that says whose signatures are accepted.

use std::path::Path;

use jiff::Timestamp;
use tough::schema::{Root, Signed};

use super::{SyncError, disk, trusted};

/// Maximum size of the file, in bytes.
pub(super) const MAX_ROOT: u64 = 1 << 20;

/// Reads the text of the file, after a check of its owner and mode.
pub(super) fn read_text(path: &Path) -> Result<String, SyncError> {
    trusted(path)?;
    disk::read_text(path, MAX_ROOT).map_err(SyncError::file("read", path))
}

/// Reads the root and verifies its signatures by its own keys.
pub(crate) fn read(path: &Path) -> Result<Signed<Root>, SyncError> {
    let text = read_text(path)?;
    let wrong = |problem: String| {
        let message =
            format!("it is not the root of a repository ({problem}): copy root.json from the repository's publisher");
        SyncError::file("use", path)(std::io::Error::other(message))
    };
    let root: Signed<Root> = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    root.signed.verify_role(&root).map_err(|e| wrong(e.to_string()))?;
    Ok(root)
}

/// Returns the time at which the root expired, or `None` while it is valid.
pub(crate) fn expired_at(root: &Signed<Root>) -> Option<Timestamp> {
    Some(root.signed.expires).filter(|expires| *expires < Timestamp::now())
}
