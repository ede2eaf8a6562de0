//! Directories for targets that use files. `tests/fuzz/run` puts them into memory.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tempfile::TempDir;

/// Calls `with` with a new directory, which is removed afterwards.
pub(crate) fn with_directory<T>(with: impl FnOnce(&Path) -> T) -> T {
    with(tempfile::tempdir().expect("a directory").path())
}

/// Directories that are used until the process ends.
static KEPT: Mutex<Vec<TempDir>> = Mutex::new(Vec::new());

/// Makes a directory that stays until [`clean_up`].
pub(crate) fn keep_directory() -> PathBuf {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_owned();
    KEPT.lock().expect("no code panics while it holds this").push(directory);
    path
}

/// Removes what targets keep until the process ends, after which no target may run.
pub fn clean_up() {
    KEPT.lock().expect("no code panics while it holds this").clear();
}
