//! Files of the repository from which seeds are made.

use std::fs;
use std::path::{Path, PathBuf};

/// Returns the root of the repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns the content of a file.
pub(crate) fn read(path: &str) -> Vec<u8> {
    let path = root().join(path);
    fs::read(&path).unwrap_or_else(|error| panic!("cannot read the seed {}: {error}", path.display()))
}

/// Returns the contents of all files below a directory whose name ends in one of `endings`, sorted by path.
pub(crate) fn below(directory: &str, endings: &[&str]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut places = vec![root().join(directory)];
    while let Some(place) = places.pop() {
        for entry in fs::read_dir(&place).unwrap_or_else(|error| panic!("{}: {error}", place.display())).flatten() {
            let path = entry.path();
            if path.is_dir() {
                places.push(path);
            } else if endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found.iter().filter_map(|path| fs::read(path).ok()).collect()
}
