//! Differences between two builds of a pack: files, actions in words, and unified diffs of text files.
//!
//! Both sides are archives: verified ones of a repository, or one that was just built from a directory. They are unpacked into
//! temporary directories by the code that checks archives; nothing in them is run.

mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::path::Path;
use std::time::{Duration, Instant};

use packs_schema::base::name::PackVersion;
use packs_schema::pack::contents::{CheckedPack, EntryKind};
use serde::Serialize;
use similar::TextDiff;

use super::listing::{self, Listing};
use super::{ArchiveFile, PackError, extract, lint};
use crate::hashing::Hashing;

/// Maximum size of a text file of which a unified diff is made, in bytes.
const MAX_TEXT: u64 = 256 << 10;
/// Time that the diff of one file may take; after it the result is coarser.
const DIFF_TIME: Duration = Duration::from_secs(2);
/// Time that the diffs of all files may take.
const DIFFS_TIME: Duration = Duration::from_secs(20);
/// Maximum size of the diffs of all files, in bytes: the diffs of further files are left out.
const MAX_DIFFS: usize = 16 << 20;
/// Lines around a change.
const CONTEXT: usize = 3;

/// Side of a comparison.
#[derive(Debug, Clone)]
pub struct Side {
    /// Its name in the output: `1.0.0 (channel prod)` or a directory.
    pub label: String,
    /// The archive.
    pub archive: ArchiveFile,
}

/// Differences between two builds of a pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackDiff {
    /// Version of the first side; absent when its pack.yaml does not pass today's checks.
    pub from: Option<PackVersion>,
    /// Version of the second side.
    pub to: Option<PackVersion>,
    /// Digest of the first archive.
    pub from_digest: String,
    /// Digest of the second archive.
    pub to_digest: String,
    /// Actions that differ, by name.
    pub actions: Vec<ActionChange>,
    /// Differences of the site configuration's schema.
    pub config: Vec<String>,
    /// Files that differ, by path.
    pub files: Vec<FileChange>,
    /// Number of text files whose diff was left out, because those of the files before were large or took long.
    #[serde(skip_serializing_if = "is_zero")]
    pub omitted_diffs: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Kind of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Only the second side has it.
    Added,
    /// Only the first side has it.
    Removed,
    /// Both have it, and it differs.
    Changed,
}

/// An action that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ActionChange {
    /// Its name.
    pub action: String,
    /// Added, removed or changed.
    pub change: Change,
    /// The differences in words: `timeout: 1m -> 5m`.
    pub changes: Vec<String>,
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Its path in the pack.
    pub path: String,
    /// Added, removed or changed.
    pub change: Change,
    /// Size on the first side, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_bytes: Option<u64>,
    /// Size on the second side, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_bytes: Option<u64>,
    /// The new executable bit, when it changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executable: Option<bool>,
    /// Unified diff, for text files of at most 256 KiB; see [`PackDiff::omitted_diffs`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
}

/// An archive unpacked into a temporary directory.
struct Unpacked {
    directory: tempfile::TempDir,
    listing: Listing,
    checked: Option<CheckedPack>,
}

impl Unpacked {
    fn of(side: &Side) -> Result<Unpacked, PackError> {
        let directory = tempfile::tempdir().map_err(PackError::file("create", std::env::temp_dir()))?;
        extract::extract(&side.archive, directory.path())
            .map_err(|problem| PackError::Archive { path: side.label.clone().into(), problem: problem.to_string() })?;
        let listing = listing::list(directory.path())?;
        let checked = lint::report(&listing).checked;
        Ok(Unpacked { directory, listing, checked })
    }

    fn version(&self) -> Option<PackVersion> {
        self.checked.as_ref().map(|checked| checked.pack.version.clone())
    }

    /// Returns size and executable bit of every file, by path.
    fn files(&self) -> BTreeMap<&str, (u64, bool)> {
        let files = self.listing.files.iter().filter(|file| file.kind == EntryKind::File);
        files.map(|file| (file.path.as_str(), (file.size, file.executable))).collect()
    }

    fn digest(&self, path: &str) -> Result<String, PackError> {
        let mut hashing = Hashing::new(io::sink());
        let read = self.listing.tree.file(Path::new(path)).and_then(|mut file| io::copy(&mut file, &mut hashing));
        read.map_err(PackError::file("read", self.directory.path().join(path)))?;
        Ok(hashing.finish().1.sha256)
    }

    /// Returns the content of a small text file; `None` for other files.
    fn text(&self, path: &str) -> Option<String> {
        let mut bytes = Vec::new();
        self.listing.tree.file(Path::new(path)).ok()?.take(MAX_TEXT + 1).read_to_end(&mut bytes).ok()?;
        let is_small = bytes.len() as u64 <= MAX_TEXT;
        String::from_utf8(bytes).ok().filter(|text| is_small && !text.contains('\0'))
    }
}

/// Compares two sides.
pub fn diff(from: &Side, to: &Side) -> Result<PackDiff, PackError> {
    let (old, new) = (Unpacked::of(from)?, Unpacked::of(to)?);
    let mut files = Vec::new();
    let mut budget = Budget { ends: Instant::now() + DIFFS_TIME, left: MAX_DIFFS, omitted: 0 };
    let (old_files, new_files) = (old.files(), new.files());
    let paths: BTreeSet<&str> = old_files.keys().chain(new_files.keys()).copied().collect();
    for path in paths {
        let (before, after) = (old_files.get(path).copied(), new_files.get(path).copied());
        let change = match (before, after) {
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
            (Some(before), Some(after)) if before == after && old.digest(path)? == new.digest(path)? => continue,
            _ => Change::Changed,
        };
        let executable = match (before, after) {
            (Some((_, before)), Some((_, after))) => (before != after).then_some(after),
            (None, Some((_, after))) => after.then_some(true),
            _ => None,
        };
        let text = |side: &Unpacked, is_there: bool| if is_there { side.text(path) } else { Some(String::new()) };
        let texts = text(&old, before.is_some()).zip(text(&new, after.is_some()));
        let unified = texts.and_then(|texts| budget.unified(&texts, (&from.label, &to.label), path));
        files.push(FileChange {
            path: path.to_owned(),
            change,
            from_bytes: before.map(|(bytes, _)| bytes),
            to_bytes: after.map(|(bytes, _)| bytes),
            executable,
            diff: unified.filter(|unified| !unified.is_empty()),
        });
    }
    let (actions, config) = match (&old.checked, &new.checked) {
        (Some(old), Some(new)) => (words::actions(&old.actions, &new.actions), words::config(&old.config, &new.config)),
        _ => (Vec::new(), Vec::new()),
    };
    let digest = |side: &Side| side.archive.digest().to_string();
    Ok(PackDiff {
        from: old.version(),
        to: new.version(),
        from_digest: digest(from),
        to_digest: digest(to),
        actions,
        config,
        files,
        omitted_diffs: budget.omitted,
    })
}

impl PackDiff {
    /// True if nothing differs.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// Time and bytes that are left for diffs of text files.
struct Budget {
    ends: Instant,
    left: usize,
    /// Number of diffs that were left out.
    omitted: usize,
}

impl Budget {
    /// Returns a unified diff, or `None` if the budget does not suffice for it.
    fn unified(&mut self, (old, new): &(String, String), labels: (&str, &str), path: &str) -> Option<String> {
        let time = self.ends.saturating_duration_since(Instant::now()).min(DIFF_TIME);
        if time.is_zero() || self.left == 0 {
            self.omitted += 1;
            return None;
        }
        let diff = TextDiff::configure().timeout(time).diff_lines(old.as_str(), new.as_str());
        let header = (format!("{path}  {}", labels.0), format!("{path}  {}", labels.1));
        let text = diff.unified_diff().context_radius(CONTEXT).header(&header.0, &header.1).to_string();
        self.left = self.left.saturating_sub(text.len());
        Some(text)
    }
}

#[cfg(test)]
mod tests;
