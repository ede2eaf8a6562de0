//! The highest version of each role that was ever seen, and the highest serial of each channel file, durably and in a
//! file of our own: rollback protection that does not rest on the datastore of a library, which is written without fsync
//! and ignored when it does not parse.
//!
//! What these marks cannot do: tell anything when they are gone, or when a disk of long ago was restored under them. Then
//! what is left is the root of the configuration, expiry, the time at which the newest target says that it was published,
//! and the active version, below which nothing goes without a signed rollback.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use packs_schema::name::{ChannelName, PackName};
use serde::{Deserialize, Serialize};
use tough::Repository;
use tough::schema::RoleType;

use super::{SyncError, disk};

/// The version of the file that this code writes.
const FORMAT: u32 = 1;
/// The largest file, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// The most roles and the most channel files that are remembered. A repository with more is refused.
const MAX_MARKS: usize = 4096;
/// The roles that a root has keys for.
const TOP: [&str; 4] = ["root", "targets", "snapshot", "timestamp"];

/// What was seen of a role, or of a channel file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mark {
    /// The highest version of its metadata, or the highest serial.
    pub(super) version: u64,
    /// The ids of the keys that sign it, sorted.
    pub(super) keys: Vec<String>,
}

/// The file `marks.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Marks {
    format: u32,
    roles: BTreeMap<String, Mark>,
    /// By `<channel>/<pack>`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    channels: BTreeMap<String, Mark>,
}

impl Marks {
    /// What `repository`, verified, has.
    pub(super) fn of(repository: &Repository) -> Marks {
        let root = &repository.root().signed;
        let top = [
            (RoleType::Root, root.version),
            (RoleType::Targets, repository.targets().signed.version),
            (RoleType::Snapshot, repository.snapshot().signed.version),
            (RoleType::Timestamp, repository.timestamp().signed.version),
        ];
        let top = top.map(|(role, version)| {
            let ids = root.roles.get(&role).map_or(&[][..], |keys| &keys.keyids);
            (role.to_string(), Mark { version: version.get(), keys: key_ids(ids) })
        });
        let delegations = repository.targets().signed.delegations.iter();
        let delegated = delegations.flat_map(|delegations| &delegations.roles).filter_map(|role| {
            let version = role.targets.as_ref()?.signed.version.get();
            Some((role.name.clone(), Mark { version, keys: key_ids(&role.keyids) }))
        });
        // A delegated role cannot take the place of one of the four.
        let roles = delegated.filter(|(name, _)| !TOP.contains(&name.as_str())).chain(top).collect();
        Marks { format: FORMAT, roles, channels: BTreeMap::new() }
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
    /// somebody who raised its versions with a stolen key. The same holds for a delegated role to which newer targets
    /// give other keys. A role that is delegated no more is remembered all the same: it may come again.
    pub(super) fn advance(&self, found: &Marks) -> Result<Marks, SyncError> {
        let version = |marks: &Marks, role: &str| marks.roles.get(role).map_or(0, |mark| mark.version);
        let newer_root = version(found, "root") > version(self, "root");
        // The snapshot counts the targets: where the keys of one were replaced, the others' versions may fall too.
        let online = ["snapshot", "timestamp"];
        let rotated = |role: &str| match (self.roles.get(role), found.roles.get(role)) {
            (Some(old), Some(new)) => old.keys != new.keys,
            _ => false,
        };
        let online_rotated = online.iter().any(|role| rotated(role));
        let older = |role: &str, found: u64, seen: u64| Err(SyncError::Older { role: role.to_owned(), found, seen });
        for role in TOP {
            let (seen, now) = (version(self, role), version(found, role));
            let starts_anew =
                role != "root" && newer_root && (rotated(role) || (online_rotated && online.contains(&role)));
            if now < seen && !starts_anew {
                return older(role, now, seen);
            }
        }
        let newer_targets = (newer_root && rotated("targets")) || version(found, "targets") > version(self, "targets");
        let mut advanced = Marks { channels: self.channels.clone(), ..found.clone() };
        for (role, seen) in self.roles.iter().filter(|(role, _)| !TOP.contains(&role.as_str())) {
            match found.roles.get(role) {
                Some(now) if now.version < seen.version && !(newer_targets && now.keys != seen.keys) => {
                    return older(role, now.version, seen.version);
                }
                Some(_) => {}
                None => drop(advanced.roles.insert(role.clone(), seen.clone())),
            }
        }
        if advanced.roles.len() > MAX_MARKS {
            return Err(SyncError::TooMany { what: "delegated roles", most: MAX_MARKS });
        }
        Ok(advanced)
    }

    /// Notes the serial of a channel file, signed by a role with these keys; true if it was higher than any before.
    ///
    /// Other keys count anew, as with roles. An error names the highest serial seen.
    pub(super) fn note_serial(
        &mut self,
        channel: &ChannelName,
        pack: &PackName,
        found: Mark,
    ) -> Result<bool, SerialError> {
        let key = format!("{channel}/{pack}");
        match self.channels.get(&key) {
            Some(seen) if seen.keys == found.keys && seen.version > found.version => {
                return Err(SerialError::Older(seen.version));
            }
            Some(seen) if *seen == found => return Ok(false),
            None if self.channels.len() >= MAX_MARKS => return Err(SerialError::TooMany(MAX_MARKS)),
            _ => {}
        }
        self.channels.insert(key, found);
        Ok(true)
    }

    /// Writes the file and has it on the disk.
    pub(super) fn write(&self, path: &Path) -> Result<(), SyncError> {
        let bytes = serde_json::to_vec(self).expect("marks serialise");
        disk::replace(path, &bytes, 0o600).map_err(SyncError::file("write", path))
    }
}

/// Why a channel file is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SerialError {
    /// This serial was seen before.
    Older(u64),
    /// So many channel files are remembered already.
    TooMany(usize),
}

/// Key ids as text, sorted.
pub(super) fn key_ids(ids: &[tough::schema::decoded::Decoded<tough::schema::decoded::Hex>]) -> Vec<String> {
    let mut keys: Vec<String> = ids.iter().map(|id| id.iter().map(|b| format!("{b:02x}")).collect()).collect();
    keys.sort();
    keys
}

/// Where the marks of a store are.
pub(super) fn path(tuf: &Path) -> PathBuf {
    tuf.join("marks.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(version: u64, key: &str) -> Mark {
        Mark { version, keys: vec![key.to_owned()] }
    }

    fn marks(versions: &[(&str, u64, &str)]) -> Marks {
        let roles = versions.iter().map(|(role, v, key)| ((*role).to_owned(), mark(*v, key))).collect();
        Marks { format: FORMAT, roles, channels: BTreeMap::new() }
    }

    fn base() -> [(&'static str, u64, &'static str); 5] {
        [("root", 2, "r"), ("targets", 5, "t"), ("snapshot", 7, "s"), ("timestamp", 9, "x"), ("team-dba", 3, "d")]
    }

    #[test]
    fn nothing_older_passes_whichever_role_it_is() {
        let seen = marks(&base());
        assert!(seen.advance(&seen).is_ok());
        for index in 0..5 {
            let mut found = base();
            found[index].1 += 1;
            assert!(seen.advance(&marks(&found)).is_ok());
            found[index].1 -= 2;
            assert!(seen.advance(&marks(&found)).is_err(), "{}", found[index].0);
        }
    }

    #[test]
    fn only_a_newer_root_with_other_keys_lets_a_role_start_anew() {
        let seen = marks(&base());
        let mut found = base();
        (found[3].1, found[3].2) = (1, "other");
        assert!(seen.advance(&marks(&found)).is_err(), "the root is not newer");
        found[0].1 = 3;
        assert!(seen.advance(&marks(&found)).is_ok());
        found[1].1 = 1;
        assert!(seen.advance(&marks(&found)).is_err(), "the targets' keys are the same");
    }

    #[test]
    fn a_team_starts_anew_with_other_keys_and_newer_targets_only() {
        let seen = marks(&base());
        let mut found = base();
        (found[4].1, found[4].2) = (1, "other");
        assert!(seen.advance(&marks(&found)).is_err(), "the targets are the same");
        found[1].1 = 6;
        assert!(seen.advance(&marks(&found)).is_ok());
        found[4].2 = "d";
        assert!(seen.advance(&marks(&found)).is_err(), "the keys are the same");
        // Delegated no more, and then again.
        let without = seen.advance(&marks(&found[..4])).unwrap();
        found[1].1 = 7;
        assert!(without.advance(&marks(&found)).is_err());
    }

    #[test]
    fn a_serial_only_rises_for_as_long_as_the_keys_are_the_same() {
        let (channel, pack) = (ChannelName::new("prod").unwrap(), PackName::new("demo").unwrap());
        let mut marks = marks(&base());
        let mut note = |serial, key| marks.note_serial(&channel, &pack, mark(serial, key));
        assert_eq!(note(5, "t"), Ok(true));
        assert_eq!(note(5, "t"), Ok(false));
        assert_eq!(note(4, "t"), Err(SerialError::Older(5)));
        assert_eq!(note(1, "other"), Ok(true));
        assert_eq!(note(0, "other"), Err(SerialError::Older(1)));
        let carried = marks.advance(&self::marks(&base())).unwrap();
        assert_eq!(carried.channels, marks.channels);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_one_of_before_is_read() {
        let temp = tempfile::tempdir().unwrap();
        let path = path(temp.path());
        assert_eq!(Marks::read(&path).unwrap(), None);
        marks(&base()).write(&path).unwrap();
        assert_eq!(Marks::read(&path).unwrap(), Some(marks(&base())));
        for damage in ["", "{", "{\"format\":2,\"roles\":{}}"] {
            std::fs::write(&path, damage).unwrap();
            assert!(matches!(Marks::read(&path), Err(SyncError::Marks { .. })), "{damage:?}");
        }
        std::fs::write(&path, "{\"format\":1,\"roles\":{\"root\":{\"version\":1,\"keys\":[]}}}").unwrap();
        assert!(Marks::read(&path).unwrap().unwrap().channels.is_empty());
    }
}
