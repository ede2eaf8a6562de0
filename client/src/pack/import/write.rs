//! Writes a plan: into a temporary directory beside the target, then one rename. After an error nothing is there.

mod temporary;

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use self::temporary::Temporary;
use super::plan::Plan;
use crate::pack::PackError;

/// Returns the directory in which `to` lies.
pub(super) fn parent(to: &Path) -> &Path {
    match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes a directory and those above it, and returns the ones that did not exist, the innermost first.
pub(super) fn make_directory(to: &Path) -> Result<Vec<PathBuf>, PackError> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && path.symlink_metadata().is_err();
    let missing = to.ancestors().take_while(is_missing).map(Path::to_owned).collect();
    fs::create_dir_all(to).map_err(PackError::file("create", to))?;
    Ok(missing)
}

/// Removes directories that [`make_directory`] made, if nothing is in them.
pub(super) fn remove_empty(made: &[PathBuf]) {
    let _ = made.iter().try_for_each(fs::remove_dir);
}

/// Writes the files of `plan` as the directory `to`.
pub(super) fn write(plan: &Plan, to: &Path) -> Result<(), PackError> {
    let parent = parent(to);
    let temporary = Temporary::new_in(parent).map_err(PackError::file("write", parent))?;
    let root = temporary.path().join("pack");
    fs::create_dir(&root).map_err(PackError::file("create", &root))?;
    for (path, file) in &plan.files {
        let full = root.join(path);
        let directory = full.parent().unwrap_or(&root);
        fs::create_dir_all(directory).map_err(PackError::file("create", directory))?;
        let mode = if file.executable { 0o755 } else { 0o644 };
        let mut options = OpenOptions::new();
        let written = options.write(true).create_new(true).mode(mode).open(&full).and_then(|mut opened| {
            opened.write_all(&file.bytes)?;
            opened.set_permissions(Permissions::from_mode(mode))
        });
        written.map_err(PackError::file("write", to.join(path)))?;
    }
    // A directory that came to exist meanwhile is replaced only if it is empty.
    fs::rename(&root, to).map_err(PackError::file("write", to))
}
