//! Finds the sources below a directory, for `bolt pack import --all`.

use std::path::{Path, PathBuf};

use super::{Format, ImportError, source};

/// Maximum number of directories that are looked at.
const MAX_DIRECTORIES: usize = 100_000;
/// Maximum depth below the directory.
const MAX_DEPTH: usize = 6;

/// Returns the sources below `root`, sorted, relative to it. A source is not searched for further ones.
pub(super) fn find(root: &Path) -> Result<Vec<PathBuf>, ImportError> {
    let mut found = Vec::new();
    let mut waiting = vec![(PathBuf::new(), 0)];
    let mut looked_at = 0;
    while let Some((directory, depth)) = waiting.pop() {
        looked_at += 1;
        if looked_at > MAX_DIRECTORIES {
            let problem = format!("more than {MAX_DIRECTORIES} directories lie below it; import parts of it");
            return Err(ImportError::refused(root.display().to_string(), problem));
        }
        let full = root.join(&directory);
        if Format::detect(&full)?.is_some() {
            found.push(directory);
        } else if depth < MAX_DEPTH {
            let names = source::names(&full)?.into_iter();
            let directories = names.filter(|(name, is_directory)| *is_directory && !name.starts_with('.'));
            waiting.extend(directories.map(|(name, _)| (directory.join(name), depth + 1)));
        }
    }
    found.sort();
    Ok(found)
}
