//! Formats that can be imported, and how a directory is recognised. A new importer is a line here and a module.

use std::path::Path;

use serde::Serialize;

use super::plan::Plan;
use super::source::{self, SourceTree};
use super::{ImportError, puppet, python_facts, stackstorm};

/// Format of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A StackStorm pack.
    StackStorm,
    /// A Puppet module with tasks.
    Puppet,
}

impl Format {
    /// Recognises the source in `directory` by the names in it.
    pub(super) fn detect(directory: &Path) -> Result<Option<Format>, ImportError> {
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
        }
    }

    /// Adds what the source in `directory` needs of others beside it.
    pub(super) fn add_neighbours(self, tree: &mut SourceTree, directory: &Path) -> Result<(), ImportError> {
        match self {
            Format::StackStorm => Ok(()),
            Format::Puppet => puppet::read_neighbours(tree, directory),
        }
    }

    /// Converts a source.
    pub(super) fn convert(self, tree: &SourceTree) -> Result<Plan, ImportError> {
        let facts = python_facts::facts(tree);
        match self {
            Format::StackStorm => stackstorm::convert(tree, &facts),
            Format::Puppet => puppet::convert(tree, &facts),
        }
    }
}
