//! Pruning of environments that no version refers to. They are kept as long as a replaced version: an execution may still run in
//! one whose version refers to another since, and a version that is activated again finds it. Unfinished ones are removed at
//! once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;

use packs_schema::base::name::Digest;
use serde::{Deserialize, Serialize};

use super::requests::Requests;
use super::{linked, record};
use crate::sync::clock::{Clock, Since};
use crate::sync::disk;
use crate::sync::store::Store;

/// Record of unused environments, in the directory of environments.
const UNUSED: &str = ".unused.json";
/// Maximum size of the record, in bytes.
const MAX_UNUSED: u64 = 1 << 20;

/// Time since which each is unused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Unused(BTreeMap<Digest, Since>);

/// Removes environments that can no longer be in use. One that cannot be removed only costs space.
pub(in crate::sync) fn prune(store: &Store, now: &Clock) {
    if let Err(error) = try_prune(store, now) {
        tracing::warn!(%error, "cannot remove virtual environments");
    }
}

fn try_prune(store: &Store, now: &Clock) -> io::Result<()> {
    let home = store.venvs();
    let Ok(entries) = fs::read_dir(&home) else { return Ok(()) };
    let mut there = BTreeSet::new();
    // Held during the check: the holder builds, and an environment without a record may be its work.
    let requests = Requests::open(store)?;
    let nobody_builds = requests.lock()?;
    for entry in entries {
        let entry = entry?;
        let Some(venv) = entry.file_name().to_str().and_then(|name| Digest::new(name).ok()) else { continue };
        match record(&entry.path()) {
            Ok(Some(_)) => drop(there.insert(venv)),
            Ok(None) if nobody_builds.is_none() => {}
            Ok(None) => disk::remove_atomically(&entry.path(), &store.staging())?,
            Err(error) => tracing::warn!(path = %entry.path().display(), %error, "virtual environment is damaged"),
        }
    }
    drop(nobody_builds);
    let used = used(store)?;
    let file = home.join(UNUSED);
    let before = disk::read_if_there(&file, MAX_UNUSED)?;
    let before: Unused = before.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let (after, gone) = before.clone().after(&there, &used, now);
    if after != before {
        disk::replace(&file, &serde_json::to_vec(&after)?, 0o600)?;
    }
    gone.iter().try_for_each(|venv| disk::remove_atomically(&store.venv(venv), &store.staging()))
}

/// Returns every environment that a version of any pack refers to.
fn used(store: &Store) -> io::Result<BTreeSet<Digest>> {
    let mut used = BTreeSet::new();
    for pack in store.packs()? {
        for version in fs::read_dir(store.pack(&pack))? {
            let version = version?;
            // An unreadable reference could be to any environment: then none is removed.
            if version.file_type()?.is_dir() {
                used.extend(linked(&version.path())?);
            }
        }
    }
    Ok(used)
}

impl Unused {
    /// Returns the new record, and the environments to remove.
    fn after(self, there: &BTreeSet<Digest>, used: &BTreeSet<Digest>, now: &Clock) -> (Unused, Vec<Digest>) {
        let Unused(before) = self;
        let unused = there.difference(used).map(|venv| {
            let since = before.get(venv).cloned().unwrap_or_else(|| now.since());
            (venv.clone(), since)
        });
        let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) = unused.partition(|(_, since)| now.may_run_since(since));
        (Unused(kept), gone.into_keys().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unused_environment_is_pruned_when_no_execution_can_be_in_it() {
        let venv = |n: u8| Digest::new(format!("{n:02x}").repeat(32)).unwrap();
        let set = |list: &[u8]| list.iter().map(|n| venv(*n)).collect::<BTreeSet<_>>();
        /// Existing and used environments, boot and hours; the environments to remove.
        type Step = (&'static [u8], &'static [u8], &'static str, u64, &'static [u8]);
        let steps: [Step; 6] = [
            (&[1, 2], &[1, 2], "a", 0, &[]),
            (&[1, 2], &[1], "a", 10, &[]),
            (&[1, 2], &[1], "a", 58, &[]),
            // Used again meanwhile: it counts again.
            (&[1, 2], &[2], "a", 59, &[]),
            (&[1, 2], &[2], "a", 108, &[1]),
            (&[2, 3], &[3], "b", 0, &[]),
        ];
        let mut unused = Unused::default();
        for (there, used, boot, hours, expected) in steps {
            let (after, gone) = unused.after(&set(there), &set(used), &Clock::at(boot, hours * 3600));
            assert_eq!(gone, expected.iter().map(|n| venv(*n)).collect::<Vec<_>>(), "{boot} {hours}");
            unused = after;
        }
        // A boot ends every execution.
        let (_, gone) = unused.after(&set(&[2, 3]), &set(&[3]), &Clock::at("c", 0));
        assert_eq!(gone, [venv(2)]);
    }
}
