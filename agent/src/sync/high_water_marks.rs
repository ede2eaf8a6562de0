//! File of the high-water marks ([`packs_schema::delivery::marks`]): rollback protection that is independent of the datastore of
//! the TUF library, which is written without fsync and ignored when it does not parse.
//!
//! When `.tuf` is missing, or was restored from an old disk, an old state that has not expired looks new. Then the remaining
//! protection is the pinned root, expiry, the publication time of the newest target, and the active version, which is only
//! replaced by an older one after a signed rollback. A signed rollback from before is accepted again in that case;
//! `tests/attacks.rs` shows both.

use std::path::{Path, PathBuf};

use packs_schema::delivery::marks::{MAX_FILE, Mark, Marks, MarksError};
use tough::Repository;
use tough::schema::RoleType;

use super::{SyncError, disk};

/// Returns the marks of a verified repository.
pub(super) fn of(repository: &Repository) -> Marks {
    let root = &repository.root().signed;
    let top = |name, role: RoleType, version: u64| {
        let ids = root.roles.get(&role).map_or(&[][..], |keys| &keys.keyids);
        (name, Mark::new(version, key_ids(ids)))
    };
    let top = [
        top("root", RoleType::Root, root.version.get()),
        top("targets", RoleType::Targets, repository.targets().signed.version.get()),
        top("snapshot", RoleType::Snapshot, repository.snapshot().signed.version.get()),
        top("timestamp", RoleType::Timestamp, repository.timestamp().signed.version.get()),
    ];
    let delegations = repository.targets().signed.delegations.iter();
    let delegated = delegations.flat_map(|delegations| &delegations.roles).filter_map(|role| {
        let version = role.targets.as_ref()?.signed.version.get();
        Some((role.name.clone(), Mark::new(version, key_ids(&role.keyids))))
    });
    Marks::of(top, delegated)
}

/// Reads the file; `None` if there was no verified state yet. A damaged file is an error, never treated as missing.
pub(super) fn read(path: &Path) -> Result<Option<Marks>, SyncError> {
    let bytes = disk::read_if_there(path, MAX_FILE).map_err(SyncError::file("read", path))?;
    let damaged = |problem: String| SyncError::Marks { path: path.to_owned(), problem };
    bytes.map(|bytes| Marks::read(&bytes).map_err(damaged)).transpose()
}

/// Writes the file durably.
pub(super) fn write(marks: &Marks, path: &Path) -> Result<(), SyncError> {
    disk::replace(path, &marks.to_bytes(), 0o600).map_err(SyncError::file("write", path))
}

impl From<MarksError> for SyncError {
    fn from(error: MarksError) -> SyncError {
        match error {
            MarksError::Older { role, found, seen } => SyncError::Older { role, found, seen },
            MarksError::TooMany(most) => SyncError::TooMany { what: "delegated roles", most },
        }
    }
}

/// Returns key ids as text, sorted.
pub(super) fn key_ids(ids: &[tough::schema::decoded::Decoded<tough::schema::decoded::Hex>]) -> Vec<String> {
    let mut keys: Vec<String> = ids.iter().map(|id| id.iter().map(|b| format!("{b:02x}")).collect()).collect();
    keys.sort();
    keys
}

/// Returns the path of the marks of a store.
pub(super) fn path(tuf: &Path) -> PathBuf {
    tuf.join("marks.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_an_error_and_none_is_not() {
        let temp = tempfile::tempdir().unwrap();
        let path = path(temp.path());
        assert_eq!(read(&path).unwrap(), None);
        let mark = || Mark::new(1, vec!["k".to_owned()]);
        let marks = Marks::of(["root", "targets", "snapshot", "timestamp"].map(|role| (role, mark())), []);
        write(&marks, &path).unwrap();
        assert_eq!(read(&path).unwrap(), Some(marks));
        for damage in ["", "{", "{\"format\":2,\"roles\":{}}"] {
            std::fs::write(&path, damage).unwrap();
            assert!(matches!(read(&path), Err(SyncError::Marks { .. })), "{damage:?}");
        }
    }
}
