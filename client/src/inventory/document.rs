//! Documents of instances: a TOML or JSON file, or what a program prints.

use std::path::{Path, PathBuf};

use packs_schema::base::document::{from_value, toml as toml_text};
use packs_schema::base::strict;
use serde_json::Value;

use super::entry::{self, Document, EntryError, Found};
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
    let values: Vec<Value> = if path.extension().is_some_and(|e| e == "json") {
        json_entries(text.as_bytes()).map_err(document)?
    } else {
        toml_text::parse::<Document<_>>(text).map_err(|e| document(e.to_string()))?.instances
    };
    entry::entries(&values).map_err(|EntryError { number, id, problem }| InventoryError::Entry {
        path: path.to_owned(),
        number,
        id,
        problem,
    })
}

/// Parses a JSON document.
pub(super) fn parse_json(bytes: &[u8]) -> Result<Vec<Found>, String> {
    entry::entries(&json_entries(bytes)?)
        .map_err(|EntryError { number, id, problem }| format!("instance {number} ({id}): {problem}"))
}

fn json_entries(bytes: &[u8]) -> Result<Vec<Value>, String> {
    let value = strict::parse(bytes).map_err(|e| e.to_string())?;
    Ok(from_value::<Document<_>>(&value).map_err(|e| e.to_string())?.instances)
}
