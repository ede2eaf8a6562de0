//! Documents of instances: a TOML or JSON file, or what a program prints.

use std::path::{Path, PathBuf};

use packs_schema::base::document::toml as toml_text;
use serde_json::Value;

use super::entry::{Collector, Document, EntryError, Found};
use super::stream::{self, JsonError};
use crate::files::{self, FileError};

/// Maximum size of a document in bytes: enough for 100,000 instances.
pub(super) const MAX_DOCUMENT: u64 = 64 << 20;

/// Error returned for a file that is not an inventory.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not TOML or JSON with a list `instances`.
    #[error("{path} is not an inventory: {problem}", path = crate::show::path(path))]
    Document {
        /// Path of the file.
        path: PathBuf,
        /// Description of the problem.
        problem: String,
    },
    /// An entry is not valid.
    #[error("{path}: instance {number} ({id}): {problem}", path = crate::show::path(path))]
    Entry {
        /// Path of the file.
        path: PathBuf,
        /// Position of the entry, from 1.
        number: usize,
        /// Its id, if it has one.
        id: String,
        /// Description of the problem.
        problem: String,
    },
}

/// Reads a file: JSON when its name ends in `.json`, TOML otherwise.
pub(super) fn load(path: &Path) -> Result<Vec<Found>, InventoryError> {
    let text = files::read_text(path, MAX_DOCUMENT)?;
    parse_file(path, &text)
}

/// Parses `text`, the content of `path`.
pub(super) fn parse_file(path: &Path, text: &str) -> Result<Vec<Found>, InventoryError> {
    let document = |problem: String| InventoryError::Document { path: path.to_owned(), problem };
    let of_entry =
        |EntryError { number, id, problem }| InventoryError::Entry { path: path.to_owned(), number, id, problem };
    if path.extension().is_some_and(|e| e == "json") {
        return stream::read(text.as_bytes()).map_err(|error| match error {
            JsonError::Document(problem) => document(problem),
            JsonError::Entry(error) => of_entry(error),
        });
    }
    let values: Vec<Value> = toml_text::parse::<Document<_>>(text).map_err(|e| document(e.to_string()))?.instances;
    let mut collector = Collector::default();
    values.iter().try_for_each(|value| collector.add(value)).map_err(of_entry)?;
    Ok(collector.finish())
}

/// Parses a JSON document.
pub(super) fn parse_json(bytes: &[u8]) -> Result<Vec<Found>, String> {
    stream::read(bytes).map_err(|error| match error {
        JsonError::Document(problem) => problem,
        JsonError::Entry(EntryError { number, id, problem }) => format!("instance {number} ({id}): {problem}"),
    })
}
