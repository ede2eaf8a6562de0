//! Pruning of old versions. The two versions before the active one are kept, in the order in which they were active, not of
//! their numbers; every other version is kept until no execution can still run in it: 49 hours after it was replaced.
//!
//! Executions hold no lock on a version that this process, which may not examine other processes, could see. So the rule is a
//! time: an execution accepted for a version may wait for 24 hours and run for 24 more, the maximum that an action may set.
//! Time is measured by the boot clock and not by the wall clock, which may be set; a boot ends every execution.

use std::fs;
use std::io;
use std::path::Path;

use packs_schema::base::name::PackName;
use serde::{Deserialize, Serialize};

use super::clock::{Clock, Since};
use super::store::{Store, parse_version_directory};
use super::{disk, pushed, venv};

/// Name of a pack's record, in its directory.
pub(super) const RECORD: &str = ".versions.json";
/// Number of versions before the active one that are kept at any age.
const KEEP: usize = 2;
/// Maximum size of the record, in bytes.
const MAX_RECORD: u64 = 4 << 20;

/// Content of a pack's `.versions.json`: the versions before the active one, the last replaced first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Versions {
    active: Option<String>,
    replaced: Vec<Replaced>,
}

/// Version that was active.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Replaced {
    directory: String,
    /// Time of its replacement.
    #[serde(flatten)]
    since: Since,
}

/// Records the active versions, and removes old ones. A version that cannot be removed only costs space.
pub(super) fn prune(store: &Store) {
    let now = match Clock::read() {
        Ok(now) => now,
        Err(error) => return tracing::warn!(%error, "cannot read the time since the boot; old versions are kept"),
    };
    for pack in store.packs().unwrap_or_default() {
        if let Err(error) = prune_pack(store, &pack, &now) {
            tracing::warn!(%pack, %error, "cannot remove old versions");
        }
    }
    venv::prune(store, &now);
}

fn prune_pack(store: &Store, pack: &PackName, now: &Clock) -> io::Result<()> {
    let home = store.pack(pack);
    // Pushed versions are removed elsewhere, and do not count among the signed versions that are kept.
    let Some(active) = pushed::signed(&home)? else { return Ok(()) };
    let record = pushed::read(&home)?;
    let pushed = pushed::pushed_directories(&record);
    let record = home.join(RECORD);
    let before = disk::read_if_there(&record, MAX_RECORD)?;
    let before: Versions = before.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let mut there = version_directories(&home)?;
    there.retain(|name| !pushed.contains(name.as_str()));
    let (after, gone) = before.clone().after(active, there, now);
    if after != before {
        disk::replace(&record, &serde_json::to_vec(&after)?, 0o600)?;
    }
    for name in gone {
        disk::remove_atomically(&home.join(name), &store.staging())?;
    }
    Ok(())
}

/// Lists the directories of a pack's versions.
fn version_directories(home: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(home)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string()
            && entry.file_type()?.is_dir()
            && let Some(version) = parse_version_directory(&name)
        {
            found.push((version, name));
        }
    }
    // The highest first, for versions of which no order is known.
    found.sort_by(|a, b| b.cmp(a));
    Ok(found.into_iter().map(|(_, name)| name).collect())
}

impl Versions {
    /// Returns the new record, and the directories to remove.
    fn after(mut self, active: String, there: Vec<String>, now: &Clock) -> (Versions, Vec<String>) {
        let replaced = |directory: &String| Replaced { directory: directory.clone(), since: now.since() };
        if let Some(last) = self.active.take().filter(|last| *last != active) {
            self.replaced.insert(0, replaced(&last));
        }
        let unknown = there.iter().filter(|name| !self.replaced.iter().any(|known| known.directory == **name));
        let unknown: Vec<Replaced> = unknown.map(replaced).collect();
        self.replaced.extend(unknown);
        let mut gone = Vec::new();
        let mut kept: Vec<Replaced> = Vec::new();
        for old in self.replaced {
            let is_there = there.contains(&old.directory);
            let twice = kept.iter().any(|other| other.directory == old.directory);
            if !is_there || twice || old.directory == active || gone.contains(&old.directory) {
                continue;
            }
            if kept.len() < KEEP || now.may_run_since(&old.since) { kept.push(old) } else { gone.push(old.directory) }
        }
        (Versions { active: Some(active), replaced: kept }, gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(boot: &str, hours: u64) -> Clock {
        Clock::at(boot, hours * 3600)
    }

    /// Activates one after the other, each at its hour; says what is left after each.
    fn run(steps: &[(&str, &str, u64)]) -> Vec<Vec<String>> {
        let (mut versions, mut there) = (Versions::default(), Vec::<String>::new());
        let mut left = Vec::new();
        for (active, boot, hours) in steps {
            if !there.contains(&(*active).to_owned()) {
                there.push((*active).to_owned());
            }
            let (next, gone) = versions.after((*active).to_owned(), there.clone(), &at(boot, *hours));
            there.retain(|name| !gone.contains(name));
            versions = next;
            left.push(there.clone());
        }
        left
    }

    #[test]
    fn two_stay_in_the_order_in_which_they_were_active() {
        // 9 was active before 5: it goes first, although its number is the highest.
        let left = run(&[("9", "a", 0), ("5", "a", 1), ("6", "a", 2), ("7", "a", 3), ("7", "a", 60)]);
        assert_eq!(left[3], ["9", "5", "6", "7"], "an execution may still run in each");
        assert_eq!(left[4], ["5", "6", "7"]);
    }

    #[test]
    fn a_version_stays_until_nothing_can_run_in_it() {
        let steps =
            [("1", "a", 0), ("2", "a", 100), ("3", "a", 101), ("4", "a", 102), ("4", "a", 148), ("4", "a", 149)];
        let left = run(&steps);
        assert_eq!((left[3].len(), left[4].len()), (4, 4), "1 was active until 100");
        assert_eq!(left[5], ["2", "3", "4"]);
    }

    #[test]
    fn a_boot_ends_every_execution() {
        let left = run(&[("1", "a", 0), ("2", "a", 1), ("3", "a", 2), ("4", "a", 3), ("4", "b", 0)]);
        assert_eq!(left[4], ["2", "3", "4"]);
    }

    #[test]
    fn a_version_that_comes_back_is_active_and_once_only() {
        let left = run(&[("1", "a", 0), ("2", "a", 1), ("1", "a", 2), ("2", "a", 3), ("3", "a", 4), ("3", "a", 400)]);
        assert_eq!(left[5], ["1", "2", "3"]);
    }

    #[test]
    fn versions_of_which_nothing_is_known_count_as_replaced_now() {
        let there = ["5", "4", "3", "2"].map(String::from).to_vec();
        let (versions, gone) = Versions::default().after("5".to_owned(), there.clone(), &at("a", 9));
        assert_eq!(gone, [""; 0]);
        let (_, gone) = versions.after("5".to_owned(), there, &at("a", 58));
        assert_eq!(gone, ["2"]);
    }
}
