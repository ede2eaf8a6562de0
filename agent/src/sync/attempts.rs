//! Record of the versions that are being installed (`.tuf/attempts.json`), so that one on which this process ends does not keep
//! all other packs from their updates, poll after poll. A pack may need more memory or processor time than the process may have,
//! or meet a fault of it; all of these end the process, and nothing is written about the failure.
//!
//! ```text
//!  (nothing) ──begin──▶ counted ──the process goes on──▶ (nothing)
//!                          └────the process ends────▶ counted ──begin──▶ … as often as may be ──begin──▶ failure of the pack
//! ```
//!
//! A restart of the agent, or a reboot, may end the process as well: a boot begins without a record, and the first end of a
//! signed version counts for nothing yet.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use packs_schema::base::name::PushId;
use serde::{Deserialize, Serialize};

use super::choose::Chosen;
use super::clock::Clock;
use super::disk;
use super::error::{PackFailure, Step};
use super::store::Store;

/// Format of the file that this code writes.
const FORMAT: u32 = 1;
/// Maximum size of the file, in bytes.
const MAX_FILE: u64 = 64 << 10;
/// Maximum number of versions in it; more than one process ever leaves.
const MAX_BEGUN: usize = 64;

/// Content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    format: u32,
    /// Boot in which the processes ended.
    boot: String,
    /// Number of times that an installation was begun and has not come to an end.
    begun: BTreeMap<String, u32>,
}

impl Record {
    /// Reads the file; an empty record if it does not exist, is of another boot or cannot be used.
    fn read(path: &Path, boot: &str) -> Record {
        let bytes = disk::read_if_there(path, MAX_FILE).ok().flatten();
        let read: Option<Record> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let usable = read.filter(|read| read.format == FORMAT && read.boot == boot && read.begun.len() <= MAX_BEGUN);
        usable.unwrap_or_else(|| Record { format: FORMAT, boot: boot.to_owned(), begun: BTreeMap::new() })
    }

    /// Writes the file durably, or removes it if the record is empty.
    fn write(&self, path: &Path) -> io::Result<()> {
        if self.begun.is_empty() {
            return disk::remove_if_there(path);
        }
        disk::replace(path, &serde_json::to_vec(self)?, 0o600)
    }

    fn set(&mut self, what: &str, count: u32) {
        match count {
            0 => drop(self.begun.remove(what)),
            count => drop(self.begun.insert(what.to_owned(), count)),
        }
    }
}

/// Installation that has begun. When this is dropped, it has come to an end, whichever.
#[derive(Debug)]
pub(super) struct Attempt {
    path: PathBuf,
    boot: String,
    what: String,
}

impl Attempt {
    /// Begins to install a signed version. It fails if the process has ended on it twice, and then may be tried once more later.
    pub(super) fn of_version(store: &Store, clock: &Clock, chosen: &Chosen) -> Result<Attempt, PackFailure> {
        Attempt::begin(store, clock, format!("{} {}", chosen.pack, chosen.digest), 2)
    }

    /// Begins to install a pushed version. It fails if the process has ended on this push before: the caller can repeat it.
    pub(super) fn of_push(store: &Store, clock: &Clock, push: &PushId) -> Result<Attempt, PackFailure> {
        Attempt::begin(store, clock, format!("push {push}"), 1)
    }

    fn begin(store: &Store, clock: &Clock, what: String, most: u32) -> Result<Attempt, PackFailure> {
        let path = store.tuf().join("attempts.json");
        let mut record = Record::read(&path, &clock.boot);
        let before = record.begun.get(&what).copied().unwrap_or_default();
        let is_refused = before >= most;
        record.set(&what, if is_refused { most.saturating_sub(1) } else { before + 1 });
        if let Err(error) = record.write(&path) {
            // The record could only keep other packs from being held up.
            tracing::warn!(path = %path.display(), %error, "cannot record which version is being installed");
        }
        if is_refused {
            let message = "the sync ended in the middle of installing this version, without memory or time left unless the agent \
                           was restarted; the log of the launcher says how";
            return Err(PackFailure::new(Step::Check, message.to_owned()));
        }
        Ok(Attempt { path, boot: clock.boot.clone(), what })
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let mut record = Record::read(&self.path, &self.boot);
        record.set(&self.what, 0);
        if let Err(error) = record.write(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot record that a version has been installed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_on_which_the_process_ends_is_left_out_and_tried_again_once_later() {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(&temp.path().join("packs")).unwrap();
        let file = store.tuf().join("attempts.json");
        let begin = |boot: &str, what: &str, most| Attempt::begin(&store, &Clock::at(boot, 0), what.to_owned(), most);
        // As the end of the process: nothing is dropped.
        let dies = |boot: &str, what: &str, most| begin(boot, what, most).map(std::mem::forget).is_ok();
        assert!(dies("a", "demo 1", 2) && dies("a", "demo 1", 2));
        assert!(!dies("a", "demo 1", 2), "the third time it is refused");
        drop(begin("a", "other 1", 2).unwrap());
        assert!(dies("a", "demo 1", 2) && !dies("a", "demo 1", 2), "once more, and no other pack forgets it");
        assert!(dies("a", "push 1", 1) && !dies("a", "push 1", 1));
        // Nothing is left of an installation that comes to an end, nor of another boot.
        drop(begin("a", "demo 1", 2).unwrap());
        assert!(!file.exists());
        assert!(dies("a", "demo 1", 2) && dies("a", "demo 1", 2) && dies("b", "demo 1", 2) && file.exists());
        std::fs::write(&file, "{").unwrap();
        drop(begin("b", "demo 1", 1).unwrap());
        assert!(!file.exists());
    }
}
