//! Parts of a record are parsed here, whatever store they come from: their format is checked first, and errors name the part.

use packs_schema::base::name::RunId;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::StoreError;
use super::record::FORMAT;
use crate::show;

/// Maximum length of an error of the parser, in characters: it may quote the part.
const MAX_PROBLEM: usize = 300;

/// Parses a part that holds its format.
pub(super) fn versioned<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, StoreError> {
    let value: Value = parse(what, bytes)?;
    match value["format"].as_u64() {
        Some(1..=FORMAT) => serde_json::from_value(value).map_err(|error| damaged(what, &error.to_string())),
        Some(format) => Err(StoreError::Later { what: what.to_owned(), format }),
        None => Err(damaged(what, "it has no format")),
    }
}

/// Parses JSON.
pub(super) fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| damaged(what, &error.to_string()))
}

/// Checks that a part is of this run: it may have been copied from another.
pub(super) fn check_run(what: &str, wanted: &RunId, found: &RunId) -> Result<(), StoreError> {
    if wanted == found { Ok(()) } else { Err(damaged(what, &format!("it is of run {found}, not of {wanted}"))) }
}

/// Returns the error for a part that is damaged. The problem may quote the part.
pub(super) fn damaged(what: &str, problem: &str) -> StoreError {
    let problem: String = problem.chars().take(MAX_PROBLEM).collect();
    StoreError::Damaged { what: what.to_owned(), problem: show::visible(&problem) }
}
