//! Errors and warnings about a pack's directory.

use std::io::Read;
use std::path::Path;

use packs_schema::base::finding::{Finding, is_runnable};
use packs_schema::pack::contents::{self, CheckedPack, EntryKind, FileReader, MAX_YAML};

use super::PackError;
use super::listing::{self, Listing};
use crate::confined_dir::ConfinedDir;

/// Result of [`lint`].
#[derive(Debug)]
pub struct LintReport {
    /// The pack, when nothing is wrong with it.
    pub checked: Option<CheckedPack>,
    /// Everything found, errors first.
    pub findings: Vec<Finding>,
}

impl LintReport {
    /// True if nothing stops the pack from being built.
    pub fn builds(&self) -> bool {
        self.checked.is_some() && is_runnable(&self.findings)
    }
}

/// Checks the pack in `directory`.
pub fn lint(directory: &Path) -> Result<LintReport, PackError> {
    let listing = listing::list(directory)?;
    Ok(report(&listing))
}

pub(super) fn report(listing: &Listing) -> LintReport {
    let mut reader = Files { tree: &listing.tree, root: Path::new("") };
    let (contents, (checked, found)) = contents::read(&listing.files, &mut reader);
    let mut findings = listing.findings.clone();
    findings.extend(found);
    if let (Some(contents), Some(checked)) = (&contents, &checked) {
        let mut script = |path: &str| {
            let file = listing.files.iter().find(|f| f.path == path)?;
            (file.kind == EntryKind::File && file.size <= MAX_YAML).then(|| reader.text(path).ok()).flatten()
        };
        findings.extend(contents::lint(contents, checked, &mut script));
    }
    findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
    let checked = checked.filter(|_| is_runnable(&findings));
    LintReport { checked, findings }
}

/// Reads the files below a directory.
pub(super) struct Files<'a> {
    pub(super) tree: &'a ConfinedDir,
    pub(super) root: &'a Path,
}

impl FileReader for Files<'_> {
    fn text(&mut self, path: &str) -> Result<String, String> {
        let mut text = String::new();
        let file = self.tree.file(&self.root.join(path)).map_err(|e| e.to_string())?;
        file.take(MAX_YAML + 1).read_to_string(&mut text).map_err(|e| e.to_string())?;
        Ok(text)
    }
}
