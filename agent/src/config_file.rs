//! `agent.toml` as api, sync and `check-config` read it: owner and mode are checked before the text is.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use packs_schema::agent::config::{Config, ConfigError};
use packs_schema::base::trust::{Purpose, TrustError};

use crate::{site_file, trust};

/// Maximum size of the file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Error returned when `agent.toml` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    /// Other users may change the file, or a directory above it.
    #[error("the configuration cannot be used")]
    Trust(#[source] TrustError<io::Error>),
    /// The file cannot be read.
    #[error("cannot read the configuration {0:?}")]
    Read(PathBuf, #[source] io::Error),
    /// The file has an error.
    #[error("the configuration {0:?} is wrong")]
    Parse(PathBuf, #[source] Box<ConfigError>),
}

/// Reads and checks the file; a relative path is below the working directory.
pub(crate) fn read(path: &Path) -> Result<(PathBuf, Config), ConfigFileError> {
    let path = absolute(path)?;
    check_owner_and_mode(&path)?;
    let text = read_text(&path)?;
    match Config::parse(&text) {
        Ok(config) => Ok((path, config)),
        Err(error) => Err(ConfigFileError::Parse(path, Box::new(error))),
    }
}

/// Checks that no other user may change the file, by owners and modes of the file and of the directories above it.
pub(crate) fn check_owner_and_mode(path: &Path) -> Result<(), ConfigFileError> {
    trust::check(path, Purpose::Anchor).map_err(ConfigFileError::Trust)
}

/// Makes the path absolute, as all checks of owners and modes need it.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, ConfigFileError> {
    std::path::absolute(path).map_err(|e| ConfigFileError::Read(path.to_owned(), e))
}

/// Reads the text of the file.
pub(crate) fn read_text(path: &Path) -> Result<String, ConfigFileError> {
    let failed = |e| ConfigFileError::Read(path.to_owned(), e);
    let mut text = String::new();
    site_file::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_string(&mut text)).map_err(failed)?;
    if text.len() as u64 > MAX_FILE {
        return Err(failed(io::Error::other(format!("it is larger than {MAX_FILE} bytes"))));
    }
    Ok(text)
}
