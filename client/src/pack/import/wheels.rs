//! Wheels that a person has built: a directory of them, and the choice of those that a pack needs.
//!
//! ```text
//!  directory ── Wheels::open ──▶ file names by distribution
//!  needs ─────── pins::choose ─▶ a version and hashes for each need, and for what these wheels need
//!                     │
//!                     └─ metadata ── zip: the bytes of a wheel, strictly and within limits
//! ```
//!
//! A wheel is a file that others may have made: it is read into memory, never unpacked to a disk, never run. Its digest is
//! that of the bytes that were read.

mod dependency;
#[cfg(feature = "fuzzing")]
pub(super) mod fuzz;
mod metadata;
mod pins;
#[cfg(test)]
pub(super) mod tests;
mod version;
mod zip;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

pub(super) use self::dependency::{Dependency, is_name, normalized};
use self::metadata::{FileName, Metadata};
pub(super) use self::pins::{Chosen, Need, Pin, choose};
use super::ImportError;
use crate::confined_dir::ConfinedDir;
use crate::pack::PackError;

/// Maximum size of a wheel, in bytes.
const MAX_WHEEL: u64 = 256 << 20;
/// Maximum number of files in the directory.
const MAX_FILES: usize = 20_000;

/// Directory of wheels.
#[derive(Debug)]
pub struct Wheels {
    path: PathBuf,
    directory: ConfinedDir,
    /// Files by the normalised name of their distribution.
    by_name: BTreeMap<String, Vec<(String, FileName)>>,
    /// Files whose names end in `.whl`, and that are no wheels by their names.
    misnamed: Vec<String>,
}

/// Wheel that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wheel {
    metadata: Metadata,
    sha256: String,
}

impl Wheels {
    /// Lists the wheels in a directory.
    pub fn open(path: &Path) -> Result<Wheels, ImportError> {
        let root = path.canonicalize().map_err(PackError::file("read", path))?;
        let directory = ConfinedDir::open(&root).map_err(PackError::file("read", path))?;
        let entries = directory.entries_by_name(Path::new("")).map_err(PackError::file("read", path))?;
        if entries.len() > MAX_FILES {
            return Err(wheel_error(path, format!("it has more than {MAX_FILES} files")));
        }
        let mut wheels = Wheels { path: path.to_owned(), directory, by_name: BTreeMap::new(), misnamed: Vec::new() };
        for (name, meta) in entries {
            let name = name.to_string_lossy().into_owned();
            match FileName::parse(&name) {
                _ if !name.ends_with(".whl") => {}
                Ok(parsed) if meta.is_file() => {
                    wheels.by_name.entry(parsed.name.clone()).or_default().push((name, parsed));
                }
                _ => wheels.misnamed.push(name),
            }
        }
        Ok(wheels)
    }

    /// Returns the files of a distribution.
    fn files(&self, normalized: &str) -> &[(String, FileName)] {
        self.by_name.get(normalized).map_or(&[], Vec::as_slice)
    }

    fn read(&self, file: &str) -> Result<Wheel, ImportError> {
        let path = self.path.join(file);
        let bytes = self.directory.read(Path::new(file), MAX_WHEEL).map_err(|e| wheel_error(&path, e.to_string()))?;
        let metadata = metadata::read(file, &bytes).map_err(|e| wheel_error(&path, e.to_string()))?;
        let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Wheel { metadata, sha256 })
    }
}

fn wheel_error(path: &Path, problem: String) -> ImportError {
    ImportError::Wheel { path: path.to_owned(), problem }
}
