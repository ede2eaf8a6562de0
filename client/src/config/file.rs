//! Reads `client.toml`: every setting with its line.

use std::path::{Path, PathBuf};

use packs_schema::base::document;
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::setting::{Origin, Setting, Sourced, is_address};
use crate::files;

/// Maximum size of the file, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// The keys of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    ca: Option<PathBuf>,
    inventory: Option<PathBuf>,
    #[serde(default)]
    repository: RepositoryTable,
}

/// The keys of its `[repository]` table.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RepositoryTable {
    url: Option<PathBuf>,
    keys: Option<PathBuf>,
    state: Option<PathBuf>,
    root: Option<PathBuf>,
    passphrase_file: Option<PathBuf>,
}

impl Content {
    fn take(&mut self, setting: Setting) -> Option<PathBuf> {
        match setting {
            Setting::Certificate => self.certificate.take(),
            Setting::Key => self.key.take(),
            Setting::Ca => self.ca.take(),
            Setting::Inventory => self.inventory.take(),
            Setting::Repository => self.repository.url.take(),
            Setting::RepositoryKeys => self.repository.keys.take(),
            Setting::RepositoryState => self.repository.state.take(),
            Setting::RepositoryRoot => self.repository.root.take(),
            Setting::PassphraseFile => self.repository.passphrase_file.take(),
        }
    }
}

/// Reads the settings of the file at `path`. Relative paths in it are relative to its directory.
pub(super) fn read(path: &Path) -> Result<Vec<(Setting, Sourced)>, ConfigError> {
    let text = files::read_text(path, MAX_FILE)?;
    let mut content: Content = document::toml::parse(&text)
        .map_err(|e| ConfigError::Content { path: path.to_owned(), problem: e.to_string() })?;
    let table = DeTable::parse(&text).ok();
    let base = path.parent().unwrap_or(Path::new(""));
    let read = |setting: Setting| {
        let value = content.take(setting)?;
        let value = if is_address(&value) { value } else { base.join(value) };
        let line = table.as_ref().map_or(0, |table| line_of(&text, table.get_ref(), setting.name()));
        Some((setting, Sourced { value, origin: Origin::File { path: path.to_owned(), line } }))
    };
    Ok(Setting::ALL.into_iter().filter_map(read).collect())
}

/// Returns the line of a key; a dot in `name` separates the table from the key.
fn line_of(text: &str, table: &DeTable<'_>, name: &str) -> usize {
    let (first, rest) = name.split_once('.').map_or((name, None), |(first, rest)| (first, Some(rest)));
    let found = table.iter().find(|(key, _)| key.get_ref() == first);
    let Some((key, value)) = found else { return 0 };
    match (rest, value.get_ref()) {
        (Some(rest), DeValue::Table(inner)) => line_of(text, inner, rest),
        _ => line_at(text, key),
    }
}

fn line_at<T>(text: &str, key: &Spanned<T>) -> usize {
    let before = text.as_bytes().iter().take(key.span().start);
    1 + before.filter(|byte| **byte == b'\n').count()
}
