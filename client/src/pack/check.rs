//! On an instance: compares the store of activated packs with what was activated, file by file.
//!
//! ```text
//!  store ─▶ pack ─▶ `current`, records     owner and mode of everything; links: `current` and nothing else
//!             └───▶ version ─▶ manifest ─▶ each file's bytes, size and mode; nothing extra, nothing missing
//!                      ├─────▶ environment ─▶ the same, of the virtual environment that it runs in
//!                      ├─────▶ definitions ─▶ what the files themselves say
//!                      └─────▶ digest ─▶ what the repository signed, where this account may read that
//! ```
//!
//! Reads, and changes nothing. It finds what happened to files; who may write the store can write its manifests as well, so
//! that of such a one it finds only carelessness.

mod venv;
mod version;

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use packs_schema::agent::store::{self, CURRENT, PushOverlay, version_of};
use packs_schema::base::name::{Digest, PackName};
use serde::Serialize;
use serde_json::Value;

use super::PackError;
use crate::confined_dir::ConfinedDir;

/// The largest record that is read, in bytes.
const MAX_RECORD: u64 = 16 << 20;

/// Record of the sync: the targets that it verified last, in the store.
pub const SIGNED: &str = ".tuf/targets.json";

/// Result of a check.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CheckReport {
    /// Versions that were checked.
    pub versions: Vec<CheckedVersion>,
    /// Everything that is not as it should be.
    pub problems: Vec<StoreProblem>,
    /// True if the digests were compared with the signed ones, which only root and the sync's account can read.
    pub held_against_signed: bool,
}

/// Version of a pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckedVersion {
    /// The pack.
    pub pack: PackName,
    /// The version's directory.
    pub directory: String,
    /// `current` points to it.
    pub active: bool,
    /// True if it was pushed and is not signed.
    pub dev: bool,
    /// Files that were compared.
    pub files: usize,
}

/// Deviation from the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoreProblem {
    /// The file.
    pub file: PathBuf,
    /// The problem.
    pub problem: String,
}

/// Checks the store in `packs`, or one pack of it.
pub fn check(packs: &Path, only: Option<&PackName>) -> Result<CheckReport, PackError> {
    let store = ConfinedDir::open(packs).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => PackError::NoStore(packs.to_owned()),
        io::ErrorKind::NotADirectory => PackError::NotADirectory(packs.to_owned()),
        _ => PackError::file("read", packs)(error),
    })?;
    let meta = store.metadata(packs).map_err(PackError::file("read", packs))?;
    let mut look = Look {
        store,
        owner: meta.uid(),
        report: CheckReport::default(),
        signed: None,
        verified: None,
        venvs: BTreeMap::new(),
    };
    look.directory(packs, &meta);
    look.signed = read_json(&look.store, &packs.join(SIGNED)).ok().flatten();
    let seen = read_json::<Value>(&look.store, &packs.join(".tuf/seen.json"));
    look.verified = seen.ok().flatten().map(|v| v["active"].clone());
    look.report.held_against_signed = look.signed.is_some();
    let mut names = Vec::new();
    for name in look.store.entries(packs).map_err(PackError::file("read", packs))?.into_keys() {
        match PackName::new(name.as_str()) {
            Ok(pack) => names.push(pack),
            // Names with a leading dot belong to the sync.
            Err(_) if name.starts_with('.') => {}
            Err(_) => look.problem(&packs.join(&name), "is not a pack, and not of the sync's"),
        }
    }
    names.sort();
    if let Some(only) = only.filter(|only| !names.contains(only)) {
        let there = io::Error::new(io::ErrorKind::NotFound, "there is no such pack");
        return Err(PackError::File { what: "read", path: packs.join(only.as_str()), source: there });
    }
    for pack in names.iter().filter(|pack| only.is_none_or(|only| only == *pack)) {
        look.pack(packs, pack).map_err(PackError::file("read", packs.join(pack.as_str())))?;
    }
    for (venv, versions) in std::mem::take(&mut look.venvs) {
        look.venv(packs, &venv, &versions).map_err(PackError::file("read", packs.join(store::VENVS)))?;
    }
    Ok(look.report)
}

/// A check under way.
struct Look {
    /// The store. Whoever owns it may change it under us: nothing in it is opened by its path alone.
    store: ConfinedDir,
    /// Owner of the store; root may own anything in it as well.
    owner: u32,
    report: CheckReport,
    /// The targets that the sync verified last, as they were signed.
    signed: Option<Value>,
    /// Digests that the sync's last complete verification left active.
    verified: Option<Value>,
    /// The virtual environments that were come upon, and the versions that run in them.
    venvs: BTreeMap<Digest, Vec<PathBuf>>,
}

impl Look {
    fn problem(&mut self, file: &Path, problem: impl Into<String>) {
        self.report.problems.push(StoreProblem { file: file.to_owned(), problem: problem.into() });
    }

    /// Checks owner and mode of a file: no other account may write it. Returns true if both are right.
    fn owner(&mut self, path: &Path, meta: &Metadata) -> bool {
        if meta.uid() != 0 && meta.uid() != self.owner {
            self.problem(
                path,
                format!("belongs to user {}, neither root nor the store's owner {}", meta.uid(), self.owner),
            );
            return false;
        }
        true
    }

    fn mode(&mut self, path: &Path, meta: &Metadata, wanted: u32) {
        let mode = meta.mode() & 0o7777;
        if mode != wanted {
            self.problem(path, format!("has mode {mode:04o}, and should have {wanted:04o}"));
        }
    }

    /// True if it is a directory as all of them should be.
    fn directory(&mut self, path: &Path, meta: &Metadata) -> bool {
        if !meta.is_dir() {
            self.problem(path, format!("is {}, and should be a directory", kind(meta)));
            return false;
        }
        self.mode(path, meta, 0o755);
        self.owner(path, meta)
    }

    /// True if it is a plain file, with this mode and no other name.
    fn file(&mut self, path: &Path, meta: &Metadata, mode: u32) -> bool {
        if !meta.is_file() {
            self.problem(path, format!("is {}, and should be a file", kind(meta)));
            return false;
        }
        if meta.nlink() != 1 {
            self.problem(path, "has another name elsewhere (a hard link)");
        }
        self.mode(path, meta, mode);
        self.owner(path, meta)
    }

    fn pack(&mut self, packs: &Path, pack: &PackName) -> io::Result<()> {
        let home = packs.join(pack.as_str());
        if !self.directory(&home, &self.store.metadata(&home)?) {
            return Ok(());
        }
        let shadow: PushOverlay = match read_json(&self.store, &home.join(store::PUSH_OVERLAY)) {
            Ok(shadow) => shadow.unwrap_or_default(),
            Err(error) => {
                self.problem(&home.join(store::PUSH_OVERLAY), format!("cannot be read: {error}"));
                PushOverlay::default()
            }
        };
        let current = self.current(&home, pack, &shadow)?;
        for (name, entry) in self.store.entries(&home)? {
            let path = home.join(&name);
            if version_of(&name).is_some() {
                let active = current.as_ref() == Some(&name);
                let withdrawn = !active && path.join(store::WITHDRAWN).is_dir() && !path.join(store::META).exists();
                if withdrawn || shadow.ended.iter().any(|ended| ended.directory == name) {
                    self.ended(&path);
                } else if self.directory(&path, &entry) {
                    let checked = self.version(pack, &name, &path, active)?;
                    self.report.versions.push(checked);
                }
                continue;
            }
            match name.as_str() {
                CURRENT => {}
                store::CONFIG => drop(self.file(&path, &entry, 0o644)),
                store::CONFIG_SECRETS => drop(self.file(&path, &entry, 0o600)),
                dot if dot.starts_with('.') && entry.is_file() => drop(self.owner(&path, &entry)),
                _ => self.problem(&path, format!("is {} that does not belong there", kind(&entry))),
            }
        }
        Ok(())
    }

    /// Checks the version that `current` names against every record of the active one.
    fn current(&mut self, home: &Path, pack: &PackName, shadow: &PushOverlay) -> io::Result<Option<String>> {
        let path = home.join(CURRENT);
        let meta = match self.store.metadata(&path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if !meta.is_symlink() {
            self.problem(&path, format!("is {}, and should be a link", kind(&meta)));
            return Ok(None);
        }
        self.owner(&path, &meta);
        let target = self.store.read_link(&path)?.to_string_lossy().into_owned();
        if version_of(&target).is_none() || !self.store.metadata(&home.join(&target)).is_ok_and(|meta| meta.is_dir()) {
            self.problem(&path, format!("points to {target:?}, which is no version beside it"));
            return Ok(None);
        }
        let pushed = shadow.active.as_ref().filter(|active| active.directory == target);
        let signed = if pushed.is_some() { shadow.signed.clone() } else { Some(target.clone()) };
        let verified = self.verified.as_ref().and_then(|active| active[pack.as_str()].as_str());
        let verified = verified.and_then(|path| Some(Path::new(path).file_name()?.to_string_lossy().into_owned()));
        if let (Some(verified), Some(signed)) = (verified, signed)
            && verified != signed
        {
            self.problem(
                &path,
                format!("leads to {signed} as the signed version, and the sync left {verified} active"),
            );
        }
        Ok(Some(target))
    }

    /// A pushed version whose time is over: its files may be in use, and nothing may be started in it.
    fn ended(&mut self, path: &Path) {
        if self.store.metadata(&path.join(store::META)).is_ok() {
            self.problem(&path.join(store::META), "is there, although the time of this pushed version is over");
        }
    }
}

fn kind(meta: &Metadata) -> &'static str {
    match meta.file_type() {
        kind if kind.is_symlink() => "a link",
        kind if kind.is_dir() => "a directory",
        kind if kind.is_file() => "a file",
        _ => "a device, socket or pipe",
    }
}

fn read_json<T: serde::de::DeserializeOwned>(store: &ConfinedDir, path: &Path) -> io::Result<Option<T>> {
    let mut bytes = Vec::new();
    match store.file(path) {
        Ok(file) => file.take(MAX_RECORD).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(Some(serde_json::from_slice(&bytes)?))
}

#[cfg(test)]
mod tests;
