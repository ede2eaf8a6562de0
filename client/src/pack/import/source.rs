//! Reads a source with bounds: number and sizes of files, no links out of it, no devices.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path};

use packs_schema::base::strict::shorten;
use packs_schema::pack::contents::MAX_YAML;

use super::report::{Effect, ImportFinding, LeftOut};
use super::{Format, ImportError};
use crate::confined_dir::ConfinedDir;
use crate::pack::PackError;

/// Maximum number of files and directories of a source.
const MAX_ENTRIES: usize = 20_000;
/// Maximum size of a file, in bytes.
const MAX_FILE: u64 = 16 << 20;
/// Maximum size of all files, in bytes.
const MAX_TOTAL: u64 = 128 << 20;
/// Maximum depth of directories.
const MAX_DEPTH: usize = 16;

/// Problem of a file that is not read.
pub(super) const NOT_UTF8: &str = "it is not UTF-8; save it as UTF-8";

/// File of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceFile {
    pub(super) bytes: Vec<u8>,
    /// True if its owner may execute it.
    pub(super) executable: bool,
}

impl SourceFile {
    /// Returns the text, if it is UTF-8, without a byte order mark.
    pub(super) fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok().map(|text| text.strip_prefix('\u{feff}').unwrap_or(text))
    }
}

/// Files of a source, by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SourceTree {
    /// Name of the directory.
    pub(super) name: String,
    pub(super) files: BTreeMap<String, SourceFile>,
    /// Files of other sources beside this one that it names, by the name of the source and their path.
    pub(super) neighbours: BTreeMap<String, SourceFile>,
    /// Files and directories that were not read.
    pub(super) left_out: Vec<LeftOut>,
}

impl SourceTree {
    /// Returns the text of the file at `path`.
    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.text()
    }

    /// Returns the file that differs from `path` in case only and takes its place in the pack.
    pub(super) fn twin(&self, path: &str) -> Option<&str> {
        self.files
            .keys()
            .map(String::as_str)
            .take_while(|other| *other < path)
            .find(|other| other.eq_ignore_ascii_case(path))
    }
}

/// Returns the names in a directory, with `true` for directories. Links are neither, nor are files that no source may have.
pub(super) fn names(directory: &Path) -> Result<BTreeMap<String, bool>, ImportError> {
    let entries = open(directory)?.entries_by_name(Path::new("")).map_err(PackError::file("read", directory))?;
    let mut names = BTreeMap::new();
    for (name, meta) in entries.into_iter().filter(|(_, meta)| meta.is_dir() || meta.is_file()) {
        match utf8(&name, "") {
            Ok(name) => drop(names.insert(name.to_owned(), meta.is_dir())),
            Err(_) if meta.is_file() && !Format::may_be_document(&name.to_string_lossy()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(names)
}

/// Returns a name in the directory `prefix` of a source as text.
fn utf8<'a>(name: &'a OsStr, prefix: &str) -> Result<&'a str, ImportError> {
    let refuse = || {
        let shown = crate::show::visible_bytes(name.as_bytes());
        ImportError::refused(format!("{prefix}{shown}"), "its name is not UTF-8; rename it")
    };
    name.to_str().ok_or_else(refuse)
}

/// Reads the source in `directory`, or the document of that name.
pub(super) fn read(directory: &Path, format: Format) -> Result<SourceTree, ImportError> {
    let name = directory.canonicalize().map_err(PackError::file("read", directory))?;
    if !name.is_dir() {
        return read_document(&name);
    }
    let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut reading = Reading {
        root: directory,
        directory: open(directory)?,
        format,
        tree: SourceTree { name, ..SourceTree::default() },
        entries: 0,
        bytes: 0,
    };
    reading.walk("", 0)?;
    Ok(reading.tree)
}

/// Reads a source that is one file.
fn read_document(path: &Path) -> Result<SourceTree, ImportError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let bytes = read_small(path)?;
    let file = SourceFile { bytes, executable: false };
    Ok(SourceTree { name: stem, files: BTreeMap::from([(name, file)]), ..SourceTree::default() })
}

/// Reads a file of at most `MAX_YAML` bytes.
pub(super) fn read_small(path: &Path) -> Result<Vec<u8>, ImportError> {
    let name = utf8(path.file_name().unwrap_or_default(), "")?.to_owned();
    let meta = path.symlink_metadata().map_err(PackError::file("read", path))?;
    if !meta.is_file() {
        return Err(ImportError::refused(name, "it is no regular file"));
    }
    if let Some(problem) = beyond(meta.len()) {
        return Err(ImportError::refused(name, problem));
    }
    read_one(path.parent().unwrap_or(path), &name)
}

/// Says why the file at `path` is too large for a document; `None` if it is not.
pub(super) fn too_large(path: &Path) -> Option<String> {
    path.symlink_metadata().ok().and_then(|meta| beyond(meta.len()))
}

fn beyond(bytes: u64) -> Option<String> {
    (bytes > MAX_YAML).then(|| format!("it has {bytes} bytes, more than the maximum of {MAX_YAML} of a document"))
}

/// Lists the files of a source of documents that are too large for one.
pub(super) fn large_documents(tree: &SourceTree, may_be_document: fn(&str) -> bool) -> Vec<LeftOut> {
    let large = |(path, file): (&String, &SourceFile)| {
        let why = beyond(file.bytes.len() as u64).filter(|_| may_be_document(path))?;
        Some(LeftOut { file: path.clone(), why })
    };
    tree.files.iter().filter_map(large).collect()
}

/// Adds the licence of the nearest directory above, up to `root`, if the source has none of its own.
pub(super) fn add_licence(tree: &mut SourceTree, directory: &Path, root: &Path) -> Result<(), ImportError> {
    let mut above = directory;
    while above != root && !tree.files.keys().any(|path| is_licence(path)) {
        let Some(parent) = above.parent().filter(|parent| parent.starts_with(root)) else { return Ok(()) };
        above = parent;
        let names = names(above)?;
        for (name, _) in names.into_iter().filter(|(name, is_directory)| !is_directory && is_licence(name)) {
            let bytes =
                open(above)?.read(Path::new(&name), MAX_FILE).map_err(PackError::file("read", above.join(&name)))?;
            tree.files.insert(name, SourceFile { bytes, executable: false });
        }
    }
    Ok(())
}

/// Reads one file of a directory, without following a link.
pub(super) fn read_one(directory: &Path, name: &str) -> Result<Vec<u8>, ImportError> {
    Ok(open(directory)?.read(Path::new(name), MAX_FILE).map_err(PackError::file("read", directory.join(name)))?)
}

/// Returns a finding about a source without a licence.
pub(super) fn licence_finding(tree: &SourceTree) -> Option<ImportFinding> {
    let message = "the source has no licence file; find out under which terms you may use it";
    let missing = !tree.files.keys().any(|path| is_licence(path));
    missing.then(|| ImportFinding::new("no_licence", Effect::Note, "LICENSE", message))
}

/// True for a licence or notice in the top directory.
pub(super) fn is_licence(path: &str) -> bool {
    let stem = path.split(['.', '-']).next().unwrap_or_default().to_ascii_uppercase();
    !path.contains('/') && ["LICENSE", "LICENCE", "COPYING", "NOTICE"].contains(&stem.as_str())
}

fn open(directory: &Path) -> Result<ConfinedDir, ImportError> {
    // The directory itself may be named through a link.
    let real = directory.canonicalize().map_err(PackError::file("read", directory))?;
    if !real.is_dir() {
        return Err(PackError::NotADirectory(directory.to_owned()).into());
    }
    Ok(ConfinedDir::open(&real).map_err(PackError::file("read", directory))?)
}

/// A source being read.
struct Reading<'a> {
    root: &'a Path,
    directory: ConfinedDir,
    format: Format,
    tree: SourceTree,
    entries: usize,
    bytes: u64,
}

impl Reading<'_> {
    fn walk(&mut self, prefix: &str, depth: usize) -> Result<(), ImportError> {
        if depth > MAX_DEPTH {
            return Err(ImportError::refused(prefix, format!("directories nest more than {MAX_DEPTH} deep")));
        }
        let at = self.root.join(prefix);
        let entries = self.directory.entries_by_name(Path::new(prefix)).map_err(PackError::file("read", at))?;
        for (name, meta) in entries {
            let name = match utf8(&name, prefix) {
                Ok(name) => name,
                Err(_) if meta.is_file() && self.format.ignores(&name.to_string_lossy()) => continue,
                Err(error) => return Err(error),
            };
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(ImportError::refused(prefix, format!("the source has more than {MAX_ENTRIES} files")));
            }
            let path = format!("{prefix}{name}");
            if let Some(why) = self.format.leaves_out(&path) {
                self.tree.left_out.push(LeftOut { file: shorten(&path, 200), why: why.to_owned() });
            } else if meta.is_dir() {
                self.walk(&format!("{path}/"), depth + 1)?;
            } else if self.format.ignores(&path) {
            } else if meta.is_file() {
                self.file(path, &meta)?;
            } else {
                self.special(path, &meta)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: String, meta: &Metadata) -> Result<(), ImportError> {
        if meta.len() > MAX_FILE {
            let problem = format!("it has {} bytes, more than the {MAX_FILE} that are read", meta.len());
            return Err(ImportError::refused(path, problem));
        }
        let full = self.root.join(&path);
        let bytes = self.directory.read(Path::new(&path), MAX_FILE).map_err(PackError::file("read", full))?;
        self.bytes += bytes.len() as u64;
        if self.bytes > MAX_TOTAL {
            return Err(ImportError::refused(path, format!("the source has more than {MAX_TOTAL} bytes")));
        }
        self.tree.files.insert(path, SourceFile { bytes, executable: meta.mode() & 0o100 != 0 });
        Ok(())
    }

    /// A link inside the source is left out; one that leads out of it refuses the source.
    fn special(&mut self, path: String, meta: &Metadata) -> Result<(), ImportError> {
        if !meta.is_symlink() {
            return Err(ImportError::refused(path, "it is a device, socket or pipe; remove it"));
        }
        let full = self.root.join(&path);
        let target = self.directory.read_link(Path::new(&path)).map_err(PackError::file("read", full))?;
        if leads_out(Path::new(&path), &target) {
            return Err(ImportError::refused(path, format!("it is a link out of the source, to {}", target.display())));
        }
        let why = "a link; copy the file to its place before the import if it is needed".to_owned();
        self.tree.left_out.push(LeftOut { file: shorten(&path, 200), why });
        Ok(())
    }
}

/// True if a link at `path` with this target leaves the tree at any step.
fn leads_out(path: &Path, target: &Path) -> bool {
    let mut depth = path.components().count().saturating_sub(1);
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return true,
        }
    }
    false
}
