//! Empty directories in the directory of executions, made while the api waits for an action, so that an execution that is accepted
//! renames one instead of making its own: some file systems search all their block groups for the place of a new directory.
//!
//! Called `spare-<n>`. They mean nothing: those of an earlier api are removed when the next one starts, with whatever a power cut
//! left in one whose new name was lost.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::directory;

/// Maximum number of spare directories.
const MAX: usize = 2;
/// Beginning of their names, which no execution id has.
const PREFIX: &str = "spare-";

/// The spare directories of this process.
pub(super) struct SpareDirectories {
    /// Directory of executions.
    parent: PathBuf,
    spares: Mutex<Spares>,
}

#[derive(Default)]
struct Spares {
    ready: Vec<PathBuf>,
    /// Number of directories made so far.
    made: u64,
}

impl SpareDirectories {
    /// Creates a pool without directories for executions in `parent`, and removes those that an earlier process left there.
    pub(super) fn new(parent: &Path) -> SpareDirectories {
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
                directory::remove(&entry.path());
            }
        }
        SpareDirectories { parent: parent.to_owned(), spares: Mutex::default() }
    }

    /// Creates `directory`, which must not exist: from a spare one, or else a new one.
    pub(super) fn create(&self, directory: &Path) -> io::Result<()> {
        let spare = self.lock().ready.pop();
        if let Some(spare) = spare {
            // A plain rename would replace an empty directory, and an execution's directory is made once.
            if renameat2(AT_FDCWD, &spare, AT_FDCWD, directory, RenameFlags::RENAME_NOREPLACE).is_ok() {
                return Ok(());
            }
            // Removed by someone else, for example, or a file system without such a rename; a spare that cannot be renamed must
            // not stay behind.
            let _ = std::fs::remove_dir(&spare);
        }
        make(directory)
    }

    /// Makes a spare directory unless there are enough. A failure is of no consequence: the next execution makes its own.
    pub(super) fn refill(&self) {
        let mut spares = self.lock();
        if spares.ready.len() < MAX {
            spares.made += 1;
            let path = self.parent.join(format!("{PREFIX}{}", spares.made));
            if make(&path).is_ok() {
                spares.ready.push(path);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Spares> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(parent: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(parent).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn an_execution_gets_a_spare_directory_or_its_own() {
        let parent = tempfile::tempdir().unwrap();
        let spares = SpareDirectories::new(parent.path());
        spares.create(&parent.path().join("a")).unwrap();
        for _ in 0..5 {
            spares.refill();
        }
        assert_eq!(names(parent.path()), ["a", "spare-1", "spare-2"]);
        spares.create(&parent.path().join("b")).unwrap();
        assert_eq!(names(parent.path()), ["a", "b", "spare-1"]);
        std::fs::remove_dir(parent.path().join("spare-1")).unwrap();
        spares.create(&parent.path().join("c")).unwrap();
        assert_eq!(names(parent.path()), ["a", "b", "c"]);
        assert!(spares.create(&parent.path().join("c")).is_err(), "an id is never used twice");
        spares.refill();
        assert!(spares.create(&parent.path().join("c")).is_err(), "nor with a spare directory");
        assert_eq!(names(parent.path()), ["a", "b", "c"], "the spare one did not stay behind");
    }

    #[test]
    fn spare_directories_of_an_earlier_process_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        SpareDirectories::new(parent.path()).refill();
        // A power cut may lose the new name of a directory but not the file in it.
        std::fs::write(parent.path().join("spare-1/spec"), "{}").unwrap();
        std::fs::create_dir(parent.path().join("01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa")).unwrap();
        drop(SpareDirectories::new(parent.path()));
        assert_eq!(names(parent.path()), ["01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa"]);
    }
}
