//! Lists the files of a pack's directory that belong to the pack. Files that may not be in a pack are findings; files that
//! editors and version control leave behind are skipped.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use packs_schema::base::finding::Finding;
use packs_schema::pack::contents::{EntryKind, HEAD_BYTES, MAX_FILES, PackEntry, check_path};

use super::PackError;
use crate::confined_dir::ConfinedDir;

/// Files and directories of a pack, sorted by path.
pub(super) struct Listing {
    /// The path as it was given, for messages.
    pub(super) root: PathBuf,
    /// The directory, opened once: what is listed is what is read, whoever else may write there.
    pub(super) tree: ConfinedDir,
    pub(super) files: Vec<PackEntry>,
    pub(super) findings: Vec<Finding>,
}

/// Lists `root`. Links are never followed.
pub(super) fn list(root: &Path) -> Result<Listing, PackError> {
    // The directory itself may be named through a link.
    let real = root.canonicalize().map_err(PackError::file("read", root))?;
    if !real.is_dir() {
        return Err(PackError::NotADirectory(root.to_owned()));
    }
    let tree = ConfinedDir::open(&real).map_err(PackError::file("read", root))?;
    let mut listing = Listing { root: root.to_owned(), tree, files: Vec::new(), findings: Vec::new() };
    walk("", &mut listing)?;
    listing.files.sort_by(|a, b| a.path.cmp(&b.path));
    twins(&mut listing);
    Ok(listing)
}

fn walk(prefix: &str, listing: &mut Listing) -> Result<(), PackError> {
    let directory = Path::new(prefix);
    let entries = listing.tree.entries(directory).map_err(PackError::file("read", listing.root.join(prefix)))?;
    for (name, meta) in entries {
        if is_left_behind(&name) {
            continue;
        }
        if listing.files.len() >= MAX_FILES {
            return Err(PackError::TooLarge(format!("it has more than {MAX_FILES} files")));
        }
        let path = format!("{prefix}{name}");
        if let Err(error) = check_path(&path) {
            listing.findings.push(Finding::error("bad_path", path, error.to_string()));
            continue;
        }
        if meta.is_dir() {
            let kind = EntryKind::Directory;
            listing.files.push(PackEntry { path: path.clone(), kind, size: 0, executable: false, head: Vec::new() });
            walk(&format!("{path}/"), listing)?;
        } else if meta.is_file() {
            let executable = meta.mode() & 0o100 != 0;
            if meta.mode() & 0o6000 != 0 {
                let message =
                    "set-user-id and set-group-id bits do not survive in a pack; name an account in bolt.run_as";
                listing.findings.push(Finding::error("set_id", path.clone(), message));
            }
            let head = head(listing, Path::new(&path))?;
            listing.files.push(PackEntry { path, kind: EntryKind::File, size: meta.len(), executable, head });
        } else {
            let what = if meta.is_symlink() { "a link" } else { "a device, socket or pipe" };
            let message = format!("it is {what}; a pack holds regular files and directories only");
            listing.findings.push(Finding::error("special_file", path, message));
        }
    }
    Ok(())
}

/// True for files that tools leave behind and that are not meant to be published.
fn is_left_behind(name: &str) -> bool {
    const NAMES: [&str; 9] = [
        ".git",
        ".gitignore",
        ".gitattributes",
        ".gitkeep",
        ".github",
        ".editorconfig",
        ".DS_Store",
        "__pycache__",
        ".pytest_cache",
    ];
    NAMES.contains(&name)
        || name.ends_with('~')
        || name.ends_with(".pyc")
        || name.ends_with(".swp")
        || name.starts_with(".#")
        || (name.starts_with('#') && name.ends_with('#'))
}

fn head(listing: &Listing, path: &Path) -> Result<Vec<u8>, PackError> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    let file = listing.tree.file(path);
    let read = file.and_then(|file| file.take(HEAD_BYTES as u64).read_to_end(&mut head));
    read.map_err(PackError::file("read", listing.root.join(path)))?;
    Ok(head)
}

/// Paths that would be one on a file system without case.
fn twins(listing: &mut Listing) {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for file in &listing.files {
        if let Some(other) = seen.insert(file.path.to_ascii_lowercase(), &file.path) {
            let message = format!("differs from {other} in case only; rename one");
            listing.findings.push(Finding::error("case_twin", file.path.clone(), message));
        }
    }
}
