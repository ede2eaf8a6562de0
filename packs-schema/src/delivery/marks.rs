//! High-water marks: the highest version seen of each role of a repository, and the highest serial seen of each channel
//! file. Agents and publishers store them durably and refuse lower ones, so that an attacker who controls the storage
//! cannot bring back an earlier state, even if it is correctly signed.
//!
//! ```text
//!  Marks seen before ──advance(Marks found now)──▶ Marks to keep from now on, or Older
//! ```
//!
//! Lost marks (a removed file, or a disk restored from an old copy) do not protect until they are built up again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::name::{ChannelName, PackName};

/// Format of the file that this code writes.
const FORMAT: u32 = 1;
/// Maximum size of the file, in bytes.
pub const MAX_FILE: u64 = 4 << 20;
/// Maximum number of roles, and of channel files. A repository with more is refused.
const MAX_MARKS: usize = 4096;
/// Roles for which the root has keys.
const TOP: [&str; 4] = ["root", "targets", "snapshot", "timestamp"];

/// Highest version seen of a role, or highest serial seen of a channel file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Highest version of the metadata, or highest serial.
    pub version: u64,
    /// Ids of the signing keys, sorted.
    pub keys: Vec<String>,
}

impl Mark {
    /// Creates a mark; sorts the key ids.
    pub fn new(version: u64, mut keys: Vec<String>) -> Mark {
        keys.sort();
        Mark { version, keys }
    }
}

/// Content of `marks.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marks {
    format: u32,
    roles: BTreeMap<String, Mark>,
    /// Marks by `<channel>/<pack>`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    channels: BTreeMap<String, Mark>,
}

/// Error returned when a repository is older than the marks, or has too many roles.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MarksError {
    /// A role has a lower version than before.
    #[error("the metadata of {role} are at version {found}, but version {seen} was seen before")]
    Older {
        /// The role.
        role: String,
        /// Version found.
        found: u64,
        /// Highest version seen.
        seen: u64,
    },
    /// Too many delegated roles.
    #[error("the repository has more than {0} delegated roles")]
    TooMany(usize),
}

/// Error returned when a channel file is older than the marks, or there are too many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SerialError {
    /// A higher serial was seen before.
    Older(u64),
    /// Too many channel files; the number is the maximum.
    TooMany(usize),
}

impl Marks {
    /// Creates the marks of a repository with verified roles: the four of `top`, and the delegated ones.
    ///
    /// A delegated role cannot replace one of the four.
    pub fn of(top: [(&str, Mark); 4], delegated: impl IntoIterator<Item = (String, Mark)>) -> Marks {
        let delegated = delegated.into_iter().filter(|(name, _)| !TOP.contains(&name.as_str()));
        let roles = delegated.chain(top.map(|(role, mark)| (role.to_owned(), mark))).collect();
        Marks { format: FORMAT, roles, channels: BTreeMap::new() }
    }

    /// Parses the content of the file. A damaged file is an error and never counts as an absent one.
    pub fn read(bytes: &[u8]) -> Result<Marks, String> {
        let marks: Marks = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if marks.format == FORMAT { Ok(marks) } else { Err(format!("format {} is not {FORMAT}", marks.format)) }
    }

    /// Returns the content of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("marks serialise")
    }

    /// Returns the highest version seen of `role`, or 0.
    pub fn version(&self, role: &str) -> u64 {
        self.roles.get(role).map_or(0, |mark| mark.version)
    }

    /// Replaces the mark of a role whose new version was written.
    pub fn set(&mut self, role: &str, mark: Mark) {
        self.roles.insert(role.to_owned(), mark);
    }

    /// Returns marks with the higher version of each role.
    #[must_use]
    pub fn highest(mut self, other: &Marks) -> Marks {
        for (kept, more) in [(&mut self.roles, &other.roles), (&mut self.channels, &other.channels)] {
            for (name, mark) in more {
                if kept.get(name).is_none_or(|kept| kept.version < mark.version) {
                    kept.insert(name.clone(), mark.clone());
                }
            }
        }
        self
    }

    /// Checks that `found` is not older than `self`, and returns the marks to store.
    ///
    /// If a newer root changes the keys of a role, that role may restart at any version: this is how a repository
    /// recovers after an attacker raised its versions with a stolen key. The same holds for a delegated role whose keys
    /// were changed by newer targets. The mark of a role that is no longer delegated is kept, because the role may
    /// return.
    pub fn advance(&self, found: &Marks) -> Result<Marks, MarksError> {
        let newer_root = found.version("root") > self.version("root");
        // The snapshot lists the version of the targets: if the keys of one online role were replaced, the versions of
        // the others may fall too.
        let online = ["snapshot", "timestamp"];
        let rotated = |role: &str| match (self.roles.get(role), found.roles.get(role)) {
            (Some(old), Some(new)) => old.keys != new.keys,
            _ => false,
        };
        let online_rotated = online.iter().any(|role| rotated(role));
        let older = |role: &str, found: u64, seen: u64| Err(MarksError::Older { role: role.to_owned(), found, seen });
        for role in TOP {
            let (seen, now) = (self.version(role), found.version(role));
            let may_restart =
                role != "root" && newer_root && (rotated(role) || (online_rotated && online.contains(&role)));
            if now < seen && !may_restart {
                return older(role, now, seen);
            }
        }
        let newer_targets = (newer_root && rotated("targets")) || found.version("targets") > self.version("targets");
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
            return Err(MarksError::TooMany(MAX_MARKS));
        }
        Ok(advanced)
    }

    /// Records the serial of a channel file, signed by a role with these keys; true if it is higher than before.
    ///
    /// Other keys restart the count, as with roles. The error contains the highest serial seen.
    pub fn note_serial(&mut self, channel: &ChannelName, pack: &PackName, found: Mark) -> Result<bool, SerialError> {
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
    fn an_older_version_of_any_role_is_refused() {
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
    fn only_a_newer_root_with_other_keys_restarts_a_role() {
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
    fn only_newer_targets_with_other_keys_restart_a_team() {
        let seen = marks(&base());
        let mut found = base();
        (found[4].1, found[4].2) = (1, "other");
        assert!(seen.advance(&marks(&found)).is_err(), "the targets are the same");
        found[1].1 = 6;
        assert!(seen.advance(&marks(&found)).is_ok());
        found[4].2 = "d";
        assert!(seen.advance(&marks(&found)).is_err(), "the keys are the same");
        // No longer delegated, and then delegated again.
        let without = seen.advance(&marks(&found[..4])).unwrap();
        found[1].1 = 7;
        assert!(without.advance(&marks(&found)).is_err());
    }

    #[test]
    fn a_serial_increases_only_while_the_keys_are_the_same() {
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
    fn a_damaged_file_is_an_error_and_an_earlier_format_is_read() {
        assert_eq!(Marks::read(&marks(&base()).to_bytes()).unwrap(), marks(&base()));
        for damage in ["", "{", "{\"format\":2,\"roles\":{}}"] {
            assert!(Marks::read(damage.as_bytes()).is_err(), "{damage:?}");
        }
        let earlier = "{\"format\":1,\"roles\":{\"root\":{\"version\":1,\"keys\":[]}}}";
        assert!(Marks::read(earlier.as_bytes()).unwrap().channels.is_empty());
    }

    #[test]
    fn the_highest_of_two_has_the_higher_version_of_each_role() {
        let mut other = base();
        (other[1].1, other[2].1) = (9, 1);
        let both = marks(&base()).highest(&marks(&other));
        assert_eq!([both.version("targets"), both.version("snapshot"), both.version("none")], [9, 7, 0]);
    }
}
