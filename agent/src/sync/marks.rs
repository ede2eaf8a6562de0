//! The highest version of each role that was ever seen, durably and in a file of our own: rollback protection that
//! does not rest on the datastore of a library, which is written without fsync and ignored when it does not parse.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tough::Repository;
use tough::schema::RoleType;

use super::{SyncError, disk};

/// The version of the file that this code writes.
const FORMAT: u32 = 1;
/// The largest file, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// What was seen of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mark {
    /// The highest version of its metadata.
    pub(super) version: u64,
    /// The ids of the keys that signed them, sorted.
    pub(super) keys: Vec<String>,
}

/// The file `marks.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Marks {
    format: u32,
    roles: BTreeMap<String, Mark>,
}

impl Marks {
    /// What `repository`, verified, has.
    pub(super) fn of(repository: &Repository) -> Marks {
        let root = &repository.root().signed;
        let roles = [
            (RoleType::Root, root.version),
            (RoleType::Targets, repository.targets().signed.version),
            (RoleType::Snapshot, repository.snapshot().signed.version),
            (RoleType::Timestamp, repository.timestamp().signed.version),
        ];
        let mark = |role: RoleType, version: u64| {
            let ids = root.roles.get(&role).map_or(&[][..], |keys| &keys.keyids);
            let mut keys: Vec<String> = ids.iter().map(|id| id.iter().map(|b| format!("{b:02x}")).collect()).collect();
            keys.sort();
            (role.to_string(), Mark { version, keys })
        };
        Marks { format: FORMAT, roles: roles.into_iter().map(|(role, version)| mark(role, version.get())).collect() }
    }

    /// Reads the file; `None` when nothing was ever seen. A damaged file is an error, never nothing.
    pub(super) fn read(path: &Path) -> Result<Option<Marks>, SyncError> {
        let damaged = |problem: String| SyncError::Marks { path: path.to_owned(), problem };
        let Some(bytes) = disk::read_if_there(path, MAX_FILE).map_err(SyncError::file("read", path))? else {
            return Ok(None);
        };
        let marks: Marks = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if marks.format != FORMAT {
            return Err(damaged(format!("format {} is not {FORMAT}", marks.format)));
        }
        Ok(Some(marks))
    }

    /// Refuses what is older than `self`; else the marks that hold from now on.
    ///
    /// When a newer root gives a role other keys, that role starts anew: this is how a repository recovers from
    /// somebody who raised its versions with a stolen key.
    pub(super) fn advance(&self, found: &Marks) -> Result<Marks, SyncError> {
        const ROLES: [&str; 4] = ["root", "targets", "snapshot", "timestamp"];
        let version = |marks: &Marks, role: &str| marks.roles.get(role).map_or(0, |mark| mark.version);
        let newer_root = version(found, "root") > version(self, "root");
        // The snapshot counts the targets: where the keys of one were replaced, the others' versions may fall too.
        let online = ["snapshot", "timestamp"];
        let rotated = |role: &str| match (self.roles.get(role), found.roles.get(role)) {
            (Some(old), Some(new)) => old.keys != new.keys,
            _ => false,
        };
        let online_rotated = online.iter().any(|role| rotated(role));
        for role in ROLES {
            let (seen, now) = (version(self, role), version(found, role));
            let starts_anew =
                role != "root" && newer_root && (rotated(role) || (online_rotated && online.contains(&role)));
            if now < seen && !starts_anew {
                return Err(SyncError::Older { role, found: now, seen });
            }
        }
        Ok(found.clone())
    }

    /// Writes the file and has it on the disk.
    pub(super) fn write(&self, path: &Path) -> Result<(), SyncError> {
        let bytes = serde_json::to_vec(self).expect("marks serialise");
        disk::replace(path, &bytes, 0o600).map_err(SyncError::file("write", path))
    }
}

/// Where the marks of a store are.
pub(super) fn path(tuf: &Path) -> PathBuf {
    tuf.join("marks.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(versions: [(&str, u64, &str); 4]) -> Marks {
        let mark = |version, key: &str| Mark { version, keys: vec![key.to_owned()] };
        Marks { format: FORMAT, roles: versions.map(|(role, v, key)| (role.to_owned(), mark(v, key))).into() }
    }

    fn base() -> [(&'static str, u64, &'static str); 4] {
        [("root", 2, "r"), ("targets", 5, "t"), ("snapshot", 7, "s"), ("timestamp", 9, "x")]
    }

    #[test]
    fn nothing_older_passes_whichever_role_it_is() {
        let seen = marks(base());
        assert!(seen.advance(&seen).is_ok());
        for index in 0..4 {
            let mut found = base();
            found[index].1 += 1;
            assert!(seen.advance(&marks(found)).is_ok());
            found[index].1 -= 2;
            assert!(seen.advance(&marks(found)).is_err(), "{}", found[index].0);
        }
    }

    #[test]
    fn only_a_newer_root_with_other_keys_lets_a_role_start_anew() {
        let seen = marks(base());
        let mut found = base();
        (found[3].1, found[3].2) = (1, "other");
        assert!(seen.advance(&marks(found)).is_err(), "the root is not newer");
        found[0].1 = 3;
        assert!(seen.advance(&marks(found)).is_ok());
        found[1].1 = 1;
        assert!(seen.advance(&marks(found)).is_err(), "the targets' keys are the same");
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let temp = tempfile::tempdir().unwrap();
        let path = path(temp.path());
        assert_eq!(Marks::read(&path).unwrap(), None);
        marks(base()).write(&path).unwrap();
        assert_eq!(Marks::read(&path).unwrap(), Some(marks(base())));
        for damage in ["", "{", "{\"format\":2,\"roles\":{}}"] {
            std::fs::write(&path, damage).unwrap();
            assert!(matches!(Marks::read(&path), Err(SyncError::Marks { .. })), "{damage:?}");
        }
    }
}
