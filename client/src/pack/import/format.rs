//! Formats that can be imported, and how a directory is recognised. A new importer is a line here and a module.

use std::path::Path;

use serde::Serialize;

use super::plan::Plan;
use super::source::{self, SourceTree};
use super::{ImportError, stackstorm};

/// Format of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A StackStorm pack.
    StackStorm,
}

impl Format {
    /// Recognises the source in `directory` by the names in it.
    pub(super) fn detect(directory: &Path) -> Result<Option<Format>, ImportError> {
        let names = source::names(directory)?;
        let has = |name: &str, is_directory: bool| names.get(name) == Some(&is_directory);
        Ok((has("pack.yaml", false) && has("actions", true)).then_some(Format::StackStorm))
    }

    /// Returns why the file or directory at `path` is not part of a source; `None` if it is.
    pub(super) fn leaves_out(self, path: &str) -> Option<&'static str> {
        match self {
            Format::StackStorm => stackstorm::leaves_out(path),
        }
    }

    /// Converts a source.
    pub(super) fn convert(self, tree: &SourceTree) -> Result<Plan, ImportError> {
        match self {
            Format::StackStorm => stackstorm::convert(tree, &stackstorm::facts(tree)),
        }
    }
}
