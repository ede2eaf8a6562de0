//! `kind = "file"`: a TOML or JSON file of instances.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;

use super::{Fetched, Source, SourceError, chain};
use crate::inventory::document;

/// Keys of an `[[inventory]]` table of this kind.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSettings {
    /// Path of the file; relative to the directory of `client.toml`.
    pub path: PathBuf,
}

/// A file.
#[derive(Debug)]
pub struct FileSource {
    name: String,
    path: PathBuf,
}

impl FileSource {
    /// Creates the source; relative paths are relative to `base`.
    pub fn new(name: &str, settings: &FileSettings, base: &Path) -> FileSource {
        FileSource { name: name.to_owned(), path: base.join(&settings.path) }
    }
}

#[async_trait]
impl Source for FileSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn cache_key(&self) -> String {
        String::new()
    }

    fn max_age(&self) -> Duration {
        Duration::ZERO
    }

    fn is_local(&self) -> bool {
        true
    }

    async fn fetch(&self) -> Result<Fetched, SourceError> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || document::load(&path)).await;
        match read {
            Ok(Ok(found)) => Ok(Fetched { found, left_out: Vec::new() }),
            Ok(Err(error)) => Err(SourceError::new(chain(&error))),
            Err(error) => Err(SourceError::new(error.to_string())),
        }
    }
}
