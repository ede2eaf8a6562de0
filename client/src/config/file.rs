//! Reads `client.toml`: every setting with its line, and the `[[inventory]]` tables.

use std::fmt;
use std::path::{Path, PathBuf};

use packs_schema::base::document;
use serde::Deserialize;
use serde::de::{self, Deserializer};
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::setting::{Origin, Setting, Sourced, is_address};
use crate::files;
use crate::inventory::ConfiguredSource;

/// Maximum size of the file, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// The keys of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    ca: Option<PathBuf>,
    inventory: Option<InventoryKey>,
    #[serde(default)]
    repository: RepositoryTable,
    #[serde(default)]
    runs: RunsTable,
}

/// `inventory = "file"`, or `[[inventory]]` tables.
#[derive(Debug)]
enum InventoryKey {
    File(PathBuf),
    Tables(Vec<Value>),
}

impl<'de> Deserialize<'de> for InventoryKey {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<InventoryKey, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = InventoryKey;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the path of a file, or [[inventory]] tables")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<InventoryKey, E> {
                Ok(InventoryKey::File(PathBuf::from(text)))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<InventoryKey, A::Error> {
                let mut tables = Vec::new();
                while let Some(table) = list.next_element()? {
                    tables.push(table);
                }
                Ok(InventoryKey::Tables(tables))
            }
        }
        from.deserialize_any(Visitor)
    }
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

/// The keys of its `[runs]` table.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunsTable {
    store: Option<PathBuf>,
}

impl Content {
    fn take(&mut self, setting: Setting) -> Option<PathBuf> {
        match setting {
            Setting::Certificate => self.certificate.take(),
            Setting::Key => self.key.take(),
            Setting::Ca => self.ca.take(),
            Setting::Inventory => match self.inventory.take() {
                Some(InventoryKey::File(path)) => Some(path),
                tables => {
                    self.inventory = tables;
                    None
                }
            },
            Setting::Repository => self.repository.url.take(),
            Setting::RepositoryKeys => self.repository.keys.take(),
            Setting::RepositoryState => self.repository.state.take(),
            Setting::RepositoryRoot => self.repository.root.take(),
            Setting::PassphraseFile => self.repository.passphrase_file.take(),
            Setting::RunStore => self.runs.store.take(),
        }
    }
}

/// Content of the file.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// The settings, each with its line.
    pub(super) values: Vec<(Setting, Sourced)>,
    /// The `[[inventory]]` tables, each with its line.
    pub(super) sources: Vec<(ConfiguredSource, Origin)>,
}

/// Reads the file at `path`. Relative paths in it are relative to its directory.
pub(super) fn read(path: &Path) -> Result<Read, ConfigError> {
    let text = files::read_text(path, MAX_FILE)?;
    let wrong = |problem: String| ConfigError::Content { path: path.to_owned(), problem };
    let mut content: Content = document::toml::parse(&text).map_err(|e| wrong(e.to_string()))?;
    let table = DeTable::parse(&text).ok();
    let base = path.parent().unwrap_or(Path::new(""));
    let at = |line: usize| Origin::File { path: path.to_owned(), line };
    let read = |setting: Setting| {
        let value = content.take(setting)?;
        let value = if is_address(&value) { value } else { base.join(value) };
        let line = table.as_ref().map_or(0, |table| line_of(&text, table.get_ref(), setting.name()));
        Some((setting, Sourced { value, origin: at(line) }))
    };
    let values = Setting::ALL.into_iter().filter_map(read).collect();
    let Some(InventoryKey::Tables(tables)) = content.inventory else {
        return Ok(Read { values, sources: Vec::new() });
    };
    let lines = document::toml::lines_of_list(&text, "inventory");
    let line = |number: usize| lines.get(number - 1).copied().unwrap_or(0);
    let sources = ConfiguredSource::read_all(&tables, base)
        .map_err(|error| wrong(format!("line {}: {error}", line(error.number))))?;
    Ok(Read { values, sources: sources.into_iter().zip(1..).map(|(one, number)| (one, at(line(number)))).collect() })
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
