//! Finds the sources below a directory, for `bolt pack import --all`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::report::LeftOut;
use super::source::{self, SourceFile};
use super::{Format, ImportError};

/// Maximum number of directories that are looked at.
const MAX_DIRECTORIES: usize = 100_000;
/// Maximum number of files that are read to find documents.
const MAX_FILES: usize = 50_000;
/// Maximum depth below the directory.
const MAX_DEPTH: usize = 12;

/// Result of [`find`].
pub(super) struct Found {
    /// Sorted, relative to the directory that was searched.
    pub(super) sources: Vec<(PathBuf, Format)>,
    /// Files that may be documents by their names, and are too large or not UTF-8.
    pub(super) skipped: Vec<LeftOut>,
}

/// Returns the sources below `root`. A source is not searched for further ones. Documents are one
/// source for each directory of `root` that they lie below.
pub(super) fn find(root: &Path) -> Result<Found, ImportError> {
    let too_many = |what: &str| {
        ImportError::refused(root.display().to_string(), format!("more than {what} lie below it; import parts of it"))
    };
    let (mut found, mut skipped) = (BTreeSet::new(), Vec::new());
    let mut waiting = vec![(PathBuf::new(), 0)];
    let (mut directories, mut files) = (0, 0);
    while let Some((directory, depth)) = waiting.pop() {
        directories += 1;
        if directories > MAX_DIRECTORIES {
            return Err(too_many(&format!("{MAX_DIRECTORIES} directories")));
        }
        let full = root.join(&directory);
        if let Some(format) = Format::of_directory(&full)? {
            found.insert((directory, format));
            continue;
        }
        for (name, is_directory) in source::names(&full)?.into_iter().filter(|(name, _)| !name.starts_with('.')) {
            if is_directory && depth < MAX_DEPTH && name != "node_modules" {
                waiting.push((directory.join(name), depth + 1));
            } else if !is_directory && Format::may_be_document(&name) {
                files += 1;
                if files > MAX_FILES {
                    return Err(too_many(&format!("{MAX_FILES} files that may be documents")));
                }
                if let Some(why) = source::too_large(&full.join(&name)) {
                    skipped.push(LeftOut { file: directory.join(&name).display().to_string(), why });
                    continue;
                }
                let top = directory.components().next().map(|top| PathBuf::from(top.as_os_str())).unwrap_or_default();
                let file = SourceFile { bytes: source::read_small(&full.join(&name))?, executable: false };
                if file.text().is_none() {
                    let why = source::NOT_UTF8.to_owned();
                    skipped.push(LeftOut { file: directory.join(&name).display().to_string(), why });
                }
                found.extend(Format::of_document(&name, &file).map(|format| (top, format)));
            }
        }
    }
    // Documents beside directories with documents: all of them are one source.
    let whole: Vec<Format> =
        found.iter().filter(|(at, _)| at.as_os_str().is_empty()).map(|(_, format)| *format).collect();
    let apart = |(at, format): &(PathBuf, Format)| at.as_os_str().is_empty() || !whole.contains(format);
    skipped.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(Found { sources: found.into_iter().filter(apart).collect(), skipped })
}
