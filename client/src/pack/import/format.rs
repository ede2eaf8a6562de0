//! Formats that can be imported, and how a directory is recognised. A new importer is a line here and a module.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::plan::Plan;
use super::report::LeftOut;
use super::source::{self, SourceFile, SourceTree};
use super::wheels::Wheels;
use super::{ImportError, puppet, python_facts, rundeck, ssm, stackstorm};

/// Format of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A StackStorm pack.
    StackStorm,
    /// A Puppet module with tasks.
    Puppet,
    /// Documents of AWS Systems Manager.
    Ssm,
    /// Jobs of Rundeck.
    Rundeck,
}

/// Formats whose sources are documents, anywhere below a directory.
const OF_DOCUMENTS: [Format; 2] = [Format::Ssm, Format::Rundeck];

impl Format {
    /// Recognises a source: a document by its text, a directory by the names in it, or by the documents below it.
    pub(super) fn detect(path: &Path) -> Result<Option<Format>, ImportError> {
        if !path.is_dir() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let file = SourceFile { bytes: source::read_small(path)?, executable: false };
            return match Format::of_document(&name, &file) {
                None => refuse_encoding(&name, &file).map(|()| None),
                found => Ok(found),
            };
        }
        if let Some(format) = Format::of_directory(path)? {
            return Ok(Some(format));
        }
        let mut refused = Ok(());
        for format in OF_DOCUMENTS {
            let tree = source::read(path, format)?;
            if tree.files.iter().any(|(name, file)| Format::of_document(name, file) == Some(format)) {
                return Ok(Some(format));
            }
            refused = refused.and_then(|()| tree.files.iter().try_for_each(|(name, file)| refuse_encoding(name, file)));
        }
        refused.map(|()| None)
    }

    /// Lists documents of other formats in a directory that is imported as one of this format.
    pub(super) fn documents_of_others(self, directory: &Path) -> Vec<LeftOut> {
        let others = OF_DOCUMENTS.into_iter().filter(|other| OF_DOCUMENTS.contains(&self) && *other != self);
        let of = |other: Format| {
            let files = if directory.is_dir() {
                source::read(directory, other).map(|tree| tree.files)
            } else {
                Ok(BTreeMap::new())
            };
            let documents = files
                .unwrap_or_default()
                .into_iter()
                .filter(move |(path, file)| Format::of_document(path, file) == Some(other));
            let why = "it is of another system than the documents that are imported; import its directory with only that system's files";
            documents.map(|(file, _)| LeftOut { file, why: why.to_owned() })
        };
        others.flat_map(of).collect()
    }

    /// Recognises a document.
    pub(super) fn of_document(name: &str, file: &SourceFile) -> Option<Format> {
        OF_DOCUMENTS.into_iter().find(|format| match format {
            Format::Ssm => ssm::may_be_document(name) && ssm::looks_like_document(file),
            Format::Rundeck => rundeck::may_be_document(name) && rundeck::looks_like_document(file),
            Format::StackStorm | Format::Puppet => false,
        })
    }

    /// True for a name that a document of some format may have.
    pub(super) fn may_be_document(name: &str) -> bool {
        ssm::may_be_document(name) || rundeck::may_be_document(name)
    }

    /// Says what a source of this format lacks that has no action.
    pub(super) fn why_empty(self) -> &'static str {
        match self {
            Format::StackStorm => "no file in actions/ describes an action (*.yaml)",
            Format::Puppet => "no file in tasks/ is a task",
            Format::Ssm => "no document is a Command document of schema version 1.2, 2.0 or 2.2",
            Format::Rundeck => "no job has steps (sequence)",
        }
    }

    /// Recognises the pack or module in `directory` by the names in it.
    pub(super) fn of_directory(directory: &Path) -> Result<Option<Format>, ImportError> {
        let names = source::names(directory)?;
        let has = |name: &str, is_directory: bool| names.get(name) == Some(&is_directory);
        if has("pack.yaml", false) && has("actions", true) {
            return Ok(Some(Format::StackStorm));
        }
        let is_module = puppet::is_module(&names, || source::names(&directory.join("tasks")))?;
        Ok(is_module.then_some(Format::Puppet))
    }

    /// Returns why the file or directory at `path` is not part of a source; `None` if it is.
    pub(super) fn leaves_out(self, path: &str) -> Option<&'static str> {
        match self {
            Format::StackStorm => stackstorm::leaves_out(path),
            Format::Puppet => puppet::leaves_out(path),
            Format::Ssm | Format::Rundeck => leaves_out_of_documents(path),
        }
    }

    /// True for a file that has nothing to do with sources of the format.
    pub(super) fn ignores(self, path: &str) -> bool {
        match self {
            Format::StackStorm | Format::Puppet => false,
            Format::Ssm => !ssm::may_be_document(path) && !source::is_licence(path),
            Format::Rundeck => {
                !rundeck::may_be_document(path) && !rundeck::may_be_script(path) && !source::is_licence(path)
            }
        }
    }

    /// Adds what the source in `directory` needs of others beside it.
    pub(super) fn add_neighbours(self, tree: &mut SourceTree, directory: &Path) -> Result<(), ImportError> {
        match self {
            Format::StackStorm | Format::Ssm | Format::Rundeck => Ok(()),
            Format::Puppet => puppet::read_neighbours(tree, directory),
        }
    }

    /// Converts a source; wheels are for its Python requirements.
    pub(super) fn convert(self, tree: &SourceTree, wheels: Option<&Wheels>) -> Result<Plan, ImportError> {
        match self {
            Format::StackStorm => stackstorm::convert(tree, &python_facts::facts(tree), wheels),
            Format::Puppet => puppet::convert(tree, &python_facts::facts(tree)),
            Format::Ssm => ssm::convert(tree),
            Format::Rundeck => rundeck::convert(tree),
        }
    }
}

/// Refuses a file whose name is that of a document, and whose encoding keeps it from being read as one.
fn refuse_encoding(name: &str, file: &SourceFile) -> Result<(), ImportError> {
    match Format::may_be_document(name) && file.text().is_none() {
        true => Err(ImportError::refused(name, source::NOT_UTF8)),
        false => Ok(()),
    }
}

/// Returns why a path is not searched for documents.
fn leaves_out_of_documents(path: &str) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let hidden = name.starts_with('.') || name == "node_modules";
    hidden.then_some("hidden files and installed modules are not searched for documents")
}
