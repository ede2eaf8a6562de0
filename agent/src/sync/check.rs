//! Checks the pack's actions, and writes their definitions beside its files for api and launcher.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use packs_schema::agent::store::{self, Manifest, StoredPack};
use packs_schema::base::finding::{Severity, is_runnable};
use packs_schema::base::name::ParamName;
use packs_schema::pack::action::Action;
use packs_schema::pack::contents::{
    self, CheckedPack, EntryKind, FileReader, HEAD_BYTES, MAX_YAML, PackEntry, Requirement,
};

use super::choose::Chosen;
use super::disk;
use super::error::{PackFailure, Step};
use super::unpack::Staged;

/// Staged pack whose content was checked.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) chosen: Chosen,
    pub(super) directory: PathBuf,
    /// Python requirements.
    pub(super) requirements: Vec<Requirement>,
}

/// Checks the pack and writes its records.
pub(super) fn check(staged: Staged) -> Result<Checked, PackFailure> {
    let listing = list(&staged).map_err(PackFailure::file(Step::Check, "read", &staged.directory))?;
    let (_, (checked, findings)) = contents::read(&listing, &mut Files { root: &staged.directory });
    let Some(checked) = checked.filter(|_| is_runnable(&findings)) else {
        let first = findings.iter().find(|f| f.severity == Severity::Error);
        let errors = findings.iter().filter(|f| f.severity == Severity::Error).count();
        let message = match first {
            Some(first) if errors > 1 => format!("{first} (and {} more)", errors - 1),
            Some(first) => first.to_string(),
            None => "the check of the pack failed".to_owned(),
        };
        return Err(PackFailure::with_findings(Step::Check, &message, findings));
    };
    let Staged { chosen, directory, files, .. } = staged;
    if checked.pack.name != chosen.pack || checked.pack.version != chosen.version {
        let message = format!(
            "the archive is {} {}, not the {} {} that the channel names",
            checked.pack.name, checked.pack.version, chosen.pack, chosen.version
        );
        return Err(PackFailure::new(Step::Check, message));
    }
    let manifest = Manifest { format: store::FORMAT, files };
    write(&directory, &checked, &chosen, &manifest).map_err(PackFailure::file(Step::Check, "write", &directory))?;
    Ok(Checked { chosen, directory, requirements: checked.requirements })
}

/// Writes the definitions for api and launcher.
pub(super) fn definitions(checked: &Checked) -> Result<Vec<Action>, PackFailure> {
    let directory = checked.directory.join(store::META).join(store::ACTIONS);
    let read = || -> io::Result<Vec<Action>> {
        let mut actions = Vec::new();
        for entry in std::fs::read_dir(&directory)? {
            actions.push(serde_json::from_slice(&std::fs::read(entry?.path())?)?);
        }
        Ok(actions)
    };
    read().map_err(PackFailure::file(Step::Check, "read", &directory))
}

fn write(directory: &Path, checked: &CheckedPack, chosen: &Chosen, manifest: &Manifest) -> io::Result<()> {
    let meta = directory.join(store::META);
    let actions = meta.join(store::ACTIONS);
    disk::make_directory(&meta, 0o755)?;
    disk::make_directory(&actions, 0o755)?;
    let stored = StoredPack {
        format: store::FORMAT,
        digest: chosen.digest.clone(),
        pack: checked.pack.clone(),
        dev: chosen.dev.clone(),
    };
    disk::write_new(&meta.join(store::PACK), &serde_json::to_vec(&stored)?, 0o644)?;
    disk::write_new(&meta.join(store::MANIFEST), &serde_json::to_vec(manifest)?, 0o644)?;
    for action in &checked.actions {
        let path = actions.join(format!("{}.json", action.name));
        disk::write_new(&path, &serde_json::to_vec(action)?, 0o644)?;
    }
    Ok(())
}

/// Reads the types of a version's site configuration from the pack's `config.schema.yaml`.
pub(super) fn config_schema(directory: &Path) -> Result<packs_schema::pack::param::Parameters, String> {
    let path = directory.join(contents::CONFIG_SCHEMA_FILE);
    let Some(bytes) = disk::read_if_there(&path, MAX_YAML).map_err(|e| e.to_string())? else {
        return Ok(BTreeMap::new());
    };
    let text = String::from_utf8(bytes).map_err(|e| e.to_string())?;
    let schema = contents::config_schema(&text).map_err(|e| e.to_string())?;
    let entry = |(name, schema)| ParamName::new(name).map(|name| (name, schema)).map_err(|e| e.to_string());
    schema.into_iter().map(entry).collect()
}

/// Lists the staged files for the check.
fn list(staged: &Staged) -> io::Result<Vec<PackEntry>> {
    let directory = |path: &String| PackEntry {
        path: path.clone(),
        kind: EntryKind::Directory,
        size: 0,
        executable: false,
        head: Vec::new(),
    };
    let mut listing: Vec<PackEntry> = staged.directories.iter().map(directory).collect();
    for file in &staged.files {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        File::open(staged.directory.join(&file.path))?.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
        let (path, size, executable) = (file.path.clone(), file.size_bytes, file.executable);
        listing.push(PackEntry { path, kind: EntryKind::File, size, executable, head });
    }
    Ok(listing)
}

/// Reads the files below a directory.
struct Files<'a> {
    root: &'a Path,
}

impl FileReader for Files<'_> {
    fn text(&mut self, path: &str) -> Result<String, String> {
        disk::read_text(&self.root.join(path), MAX_YAML).map_err(|e| e.to_string())
    }
}
