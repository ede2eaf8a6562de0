//! Files of the site that others change while the agent runs: noticing a change, and reading what is there.
//!
//! A file that is renamed into place is read at once. One that is written in place, or is empty, is read when it has been unchanged for
//! a while: an editor or a script may have written a part of it, and a part of `grants.toml` would take grants away for a moment.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::OFlag;

/// Time for which a file that is written in place must have been unchanged.
const SETTLE: Duration = Duration::from_millis(500);

/// Identifies one content of a file, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    size: u64,
    /// Last change of content, mode or owner (`st_ctim`).
    changed_ns: i128,
}

impl Stamp {
    /// Returns the stamp of the file at `path` now; `None` when it cannot be examined.
    pub(crate) fn of(path: &Path) -> Option<Stamp> {
        let meta = std::fs::metadata(path).ok()?;
        let changed_ns = i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec());
        Some(Stamp { inode: meta.ino(), size: meta.size(), changed_ns })
    }

    /// True if the last change was less than [`SETTLE`] before or after `now_ms`: the clock that stamps files is coarse.
    fn changed_lately(&self, now_ms: u64) -> bool {
        let age_ns = i128::from(now_ms) * 1_000_000 - self.changed_ns;
        age_ns.unsigned_abs() < SETTLE.as_nanos()
    }
}

/// True if the file was changed in place a moment ago, so that more may follow; also if it is empty, as it is for a moment when
/// install(1) or an unpacker has made a new one.
pub(crate) fn is_being_written(new: Option<Stamp>, old: Option<Stamp>, now_ms: u64) -> bool {
    let Some(new) = new else { return false };
    let is_in_place = old.is_some_and(|old| new.inode == old.inode);
    Some(new) != old && (is_in_place || new.size == 0) && new.changed_lately(now_ms)
}

/// Opens a file for reading. Anything but a regular file is an error: opening a named pipe would wait for its writer.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
}

/// Replaces a file as a deployment should: by one that is renamed into its place.
#[cfg(test)]
pub(crate) fn replace(path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
    let path = path.as_ref();
    let new = path.with_extension("new");
    std::fs::write(&new, content).unwrap();
    std::fs::rename(new, path).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_that_is_written_in_place_has_to_settle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "one end\n").unwrap();
        let old = Stamp::of(&path);
        let now_ms = crate::clock::now_ms();
        assert!(!is_being_written(old, old, now_ms), "unchanged");
        fs::write(&path, "a part end\n").unwrap();
        let new = Stamp::of(&path);
        let changed_ms = crate::clock::now_ms();
        assert!(is_being_written(new, old, changed_ms), "more may follow");
        assert!(!is_being_written(new, old, changed_ms + 60_000));
        assert!(!is_being_written(new, old, changed_ms - 60_000), "the clock was set back");
        replace(&path, "two end\n");
        assert!(!is_being_written(Stamp::of(&path), new, crate::clock::now_ms()), "it was renamed into place");
        assert!(!is_being_written(None, new, now_ms));
    }

    #[test]
    fn a_new_file_that_is_still_empty_has_to_settle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "one end\n").unwrap();
        let old = Stamp::of(&path);
        replace(&path, "");
        let (new, now_ms) = (Stamp::of(&path), crate::clock::now_ms());
        for before in [old, None] {
            assert!(is_being_written(new, before, now_ms), "its content may follow");
            assert!(!is_being_written(new, before, now_ms + 60_000), "it stays empty");
        }
        assert!(!is_being_written(new, new, now_ms), "unchanged");
    }

    #[test]
    fn only_a_regular_file_is_opened_and_a_pipe_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        for path in [pipe.as_path(), dir.path()] {
            assert_eq!(open(path).unwrap_err().to_string(), "it is not a regular file");
        }
        let file = dir.path().join("file");
        fs::write(&file, "text").unwrap();
        assert_eq!(io::read_to_string(open(&file).unwrap()).unwrap(), "text");
    }
}
