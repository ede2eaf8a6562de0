//! Values that were parsed from files, kept while the files are the same. Each use opens the file, and checks owner and mode, as
//! ever: only reading and parsing are skipped.

use std::cell::RefCell;
use std::rc::Rc;

use nix::sys::stat::FileStat;

use crate::clock;

/// Age of a change, in seconds, from which on a file is kept: a later change may have the same time, which has the resolution of
/// the kernel's clock tick.
const SETTLED: i64 = 2;

/// Properties of a file of which at least one differs after any change: only root can set the time of the last change of the inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    fn of(stat: &FileStat) -> Version {
        Version {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    fn is_settled(&self) -> bool {
        let now_s = i64::try_from(clock::wall_ms() / 1000).unwrap_or(0);
        self.changed.0 + SETTLED < now_s
    }
}

/// A bounded number of parsed values; the oldest is removed first.
#[derive(Debug)]
pub(crate) struct Parsed<T> {
    values: RefCell<Vec<(Version, Rc<T>)>>,
    max: usize,
}

impl<T> Parsed<T> {
    pub(crate) fn new(max: usize) -> Parsed<T> {
        Parsed { values: RefCell::new(Vec::new()), max }
    }

    /// Returns the value of the open file that `stat` describes.
    pub(crate) fn get(&self, stat: &FileStat) -> Option<Rc<T>> {
        let version = Version::of(stat);
        self.values.borrow().iter().find(|(known, _)| *known == version).map(|(_, value)| value.clone())
    }

    /// Keeps the value that was parsed from the file. `stat` is from before it was read.
    pub(crate) fn put(&self, stat: &FileStat, value: T) -> Rc<T> {
        let (version, value) = (Version::of(stat), Rc::new(value));
        if version.is_settled() {
            let mut values = self.values.borrow_mut();
            // An earlier version of this file is of no use any more.
            values.retain(|(known, _)| (known.device, known.inode) != (version.device, version.inode));
            if values.len() >= self.max {
                values.remove(0);
            }
            values.push((version, value.clone()));
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::{Duration, SystemTime};

    use nix::sys::stat::{fstat, stat};

    use super::*;

    /// Status of a file whose inode was last changed long ago.
    fn aged(mut status: FileStat) -> FileStat {
        status.st_ctime -= 60;
        status
    }

    #[test]
    fn a_value_is_kept_while_nothing_of_the_file_has_changed() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("a");
        fs::write(&path, "one").unwrap();
        let before = aged(stat(&path).unwrap());
        let parsed = Parsed::new(2);
        assert_eq!(parsed.get(&before), None);
        parsed.put(&before, 1);
        assert_eq!(parsed.get(&before).as_deref(), Some(&1));
        // Content of the same length, and the old time of modification set again.
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "two").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
        let mut after = fstat(File::open(&path).unwrap()).unwrap();
        assert_eq!((after.st_mtime_nsec, after.st_size), (before.st_mtime_nsec, before.st_size));
        after.st_ctime -= 60;
        assert_eq!(parsed.get(&after), None, "the inode was changed");
        // Another file with the same name.
        let mut other = before;
        other.st_ino += 1;
        assert_eq!(parsed.get(&other), None);
    }

    #[test]
    fn a_file_that_was_changed_just_now_is_not_kept_and_the_oldest_goes_first() {
        let temporary = tempfile::tempdir().unwrap();
        let status = |name: &str| {
            let path = temporary.path().join(name);
            fs::write(&path, name).unwrap();
            stat(&path).unwrap()
        };
        let parsed = Parsed::new(2);
        let fresh = status("fresh");
        assert_eq!(*parsed.put(&fresh, 0), 0);
        assert_eq!(parsed.get(&fresh), None);
        let mut ahead = fresh;
        ahead.st_ctime = i64::try_from(
            (SystemTime::now() + Duration::from_secs(600)).duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(),
        )
        .unwrap();
        parsed.put(&ahead, 0);
        assert_eq!(parsed.get(&ahead), None, "a clock that was set back");
        let old = ["a", "b", "c"].map(|name| aged(status(name)));
        for (value, status) in old.iter().enumerate() {
            parsed.put(status, value);
        }
        assert_eq!(old.map(|status| parsed.get(&status).as_deref().copied()), [None, Some(1), Some(2)]);
    }
}
