//! The directory in which a pack is written before it gets its name. One that a killed import left is removed by the next import
//! beside it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg, OFlag};
use tempfile::TempDir;

const PREFIX: &str = ".bolt-import-";
/// Attempts to lock a new directory before another import takes it for one that was left.
const ATTEMPTS: usize = 10;

/// A new directory. It is removed at the end, with whatever is in it.
pub(super) struct Temporary {
    directory: TempDir,
    /// Held as long as the directory is used; none where the file system has no locks, and nothing is removed either.
    _lock: Option<Flock<File>>,
}

impl Temporary {
    /// Makes a directory in `parent`, and removes those that were left there.
    pub(super) fn new_in(parent: &Path) -> io::Result<Temporary> {
        remove_left(parent);
        for _ in 0..ATTEMPTS {
            let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
            let lock = open(directory.path()).and_then(|opened| lock(opened, FlockArg::LockExclusive));
            if directory.path().exists() {
                return Ok(Temporary { directory, _lock: lock.ok() });
            }
        }
        Err(io::Error::other("other imports remove its temporary directory"))
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Removes directories of this account that no import holds. Errors are left to the next import: this one needs none of them.
fn remove_left(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        if !entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let Ok(opened) = open(&entry.path()) else { continue };
        if opened.metadata().is_ok_and(|found| found.uid() == nix::unistd::geteuid().as_raw())
            && let Ok(_held) = lock(opened, FlockArg::LockExclusiveNonblock)
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn open(directory: &Path) -> io::Result<File> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(directory)
}

fn lock(opened: File, how: FlockArg) -> io::Result<Flock<File>> {
    Flock::lock(opened, how).map_err(|(_, errno)| errno.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_that_no_import_holds_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let at = |name: &str| parent.path().join(name);
        fs::create_dir_all(at(".bolt-import-left").join("pack/actions")).unwrap();
        fs::write(at(".bolt-import-left").join("pack/pack.yaml"), "x").unwrap();
        fs::create_dir(at("kept")).unwrap();
        fs::write(at("kept").join("file"), "x").unwrap();
        std::os::unix::fs::symlink("kept", at(".bolt-import-link")).unwrap();
        fs::write(at(".bolt-import-file"), "x").unwrap();

        let first = Temporary::new_in(parent.path()).unwrap();
        let second = Temporary::new_in(parent.path()).unwrap();
        let names = || {
            let mut names: Vec<_> = fs::read_dir(parent.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
            names.sort();
            names
        };
        let others = [at(".bolt-import-file"), at(".bolt-import-link"), at("kept")];
        let mut wanted = others.to_vec();
        wanted.extend([first.path().to_owned(), second.path().to_owned()]);
        wanted.sort();
        assert_eq!(names(), wanted);
        assert!(at("kept/file").exists());
        drop((first, second));
        assert_eq!(names(), others);
    }
}
