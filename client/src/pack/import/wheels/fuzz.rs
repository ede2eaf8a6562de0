//! A door for the fuzz target to the reader of wheels.

use super::metadata;

/// Reads a wheel; returns its name, its version and how much it requires, or the error that a user reads.
pub fn wheel(file: &str, bytes: &[u8]) -> Result<(String, String, usize), String> {
    let read = metadata::read(file, bytes).map_err(|error| error.to_string())?;
    Ok((read.name, read.version, read.requires.len()))
}
