//! The `[[inventory]]` tables of `client.toml`.
//!
//! Every table has `kind`, and may have `name` (for messages) and `cache` (a duration); its other keys belong to the kind.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use packs_schema::base::document::from_value;
use packs_schema::base::quantity::{format_duration, parse_duration};
use serde_json::{Map, Value};

use super::source::Source;
#[cfg(feature = "s3")]
use super::source::ec2::{Ec2Settings, Ec2Source};
use super::source::exec::{ExecSettings, ExecSource};
use super::source::file::{FileSettings, FileSource};
#[cfg(feature = "s3")]
use super::source::spinnaker::{SpinnakerSettings, SpinnakerSource};

/// Time for which answers are used again by default.
const DEFAULT_CACHE: Duration = Duration::from_secs(20);
/// Maximum of `cache`.
const MAX_CACHE: Duration = Duration::from_secs(600);
/// Maximum number of tables.
const MAX_TABLES: usize = 100;
/// Known kinds.
const KINDS: &str = "file, exec, ec2 or spinnaker";

/// Error in an `[[inventory]]` table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("[[inventory]] number {number}{kind}: {problem}", kind = of_kind(kind))]
pub struct SettingsError {
    /// Position of the table, from 1.
    pub number: usize,
    kind: String,
    problem: String,
}

fn of_kind(kind: &str) -> String {
    if kind.is_empty() { String::new() } else { format!(" ({kind})") }
}

/// An `[[inventory]]` table, and the sources that it stands for.
#[derive(Debug, Clone)]
pub struct ConfiguredSource {
    /// Name for messages: `name`, else the kind, with its position if there are several of the kind.
    pub name: String,
    /// `file`, `exec`, `ec2` or `spinnaker`.
    pub kind: &'static str,
    /// The parts that are fetched by themselves.
    pub sources: Vec<Arc<dyn Source>>,
    /// Time for which answers are used again.
    pub max_age: Duration,
}

impl ConfiguredSource {
    /// Reads the tables; relative paths are relative to `base`.
    pub fn read_all(tables: &[Value], base: &Path) -> Result<Vec<ConfiguredSource>, SettingsError> {
        if tables.len() > MAX_TABLES {
            let problem = format!("more than {MAX_TABLES} tables");
            return Err(SettingsError { number: tables.len(), kind: String::new(), problem });
        }
        let mut configured: Vec<ConfiguredSource> = Vec::with_capacity(tables.len());
        for (number, table) in (1..).zip(tables) {
            let kind = table.get("kind").and_then(Value::as_str).unwrap_or_default();
            let several = tables.iter().filter(|other| other.get("kind") == table.get("kind")).count() > 1;
            let default_name = if several { format!("{kind} {number}") } else { kind.to_owned() };
            let kind: String = kind.chars().take(40).collect();
            let wrong = |problem: String| SettingsError { number, kind: kind.clone(), problem };
            let one = read(table, &default_name, base).map_err(wrong)?;
            if configured.iter().any(|other| other.name == one.name) {
                return Err(wrong(format!("name: another table is called {:?} as well", one.name)));
            }
            configured.push(one);
        }
        Ok(configured)
    }

    /// Describes the source in one line, for `bolt config show`.
    pub fn describe(&self) -> String {
        let names: Vec<&str> = self.sources.iter().map(|source| source.name()).collect();
        let listed = crate::show::listed(&names, 5);
        let listed = if listed == self.name { self.kind.to_owned() } else { format!("{}: {listed}", self.kind) };
        match self.max_age {
            Duration::ZERO => listed,
            age => format!("{listed}; cached for {}", format_duration(age)),
        }
    }
}

fn read(table: &Value, default_name: &str, base: &Path) -> Result<ConfiguredSource, String> {
    let Value::Object(mut rest) = table.clone() else { return Err("write it as a table".to_owned()) };
    let kind = take_text(&mut rest, "kind")?.ok_or_else(|| format!("the key \"kind\" is missing: give {KINDS}"))?;
    let name = take_text(&mut rest, "name")?.unwrap_or_else(|| default_name.to_owned());
    if name.is_empty() || name.len() > 64 || name.chars().any(char::is_control) {
        return Err("name: use 1 to 64 printable characters".to_owned());
    }
    let max_age = match take_text(&mut rest, "cache")? {
        None => DEFAULT_CACHE,
        Some(text) => parse_duration(&text).map_err(|e| format!("cache: {e}"))?,
    };
    if max_age > MAX_CACHE {
        return Err("cache: give at most 10m; 0s turns it off".to_owned());
    }
    let rest = Value::Object(rest);
    let (kind, max_age, sources): (&'static str, Duration, Vec<Arc<dyn Source>>) = match kind.as_str() {
        "file" => {
            let settings: FileSettings = settings(&rest)?;
            ("file", Duration::ZERO, vec![Arc::new(FileSource::new(&name, &settings, base))])
        }
        "exec" => {
            let settings: ExecSettings = settings(&rest)?;
            ("exec", max_age, vec![Arc::new(ExecSource::new(&name, settings, base, max_age)?)])
        }
        #[cfg(feature = "s3")]
        "ec2" => {
            let settings: Ec2Settings = settings(&rest)?;
            ("ec2", max_age, shared(Ec2Source::all(&name, settings, max_age)?))
        }
        #[cfg(feature = "s3")]
        "spinnaker" => {
            let settings: SpinnakerSettings = settings(&rest)?;
            ("spinnaker", max_age, shared(SpinnakerSource::all(&name, settings, base, max_age)?))
        }
        #[cfg(not(feature = "s3"))]
        "ec2" | "spinnaker" => return Err(format!("kind: this bolt was built without {kind:?} (feature s3)")),
        other => return Err(format!("kind: {other:?} is not a kind of inventory: give {KINDS}")),
    };
    Ok(ConfiguredSource { name, kind, sources, max_age })
}

#[cfg(feature = "s3")]
fn shared<T: Source + 'static>(sources: Vec<T>) -> Vec<Arc<dyn Source>> {
    sources.into_iter().map(|source| Arc::new(source) as Arc<dyn Source>).collect()
}

fn settings<T: serde::de::DeserializeOwned>(rest: &Value) -> Result<T, String> {
    from_value(rest).map_err(|e| e.to_string())
}

fn take_text(table: &mut Map<String, Value>, key: &str) -> Result<Option<String>, String> {
    match table.remove(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{key}: write a text in quotes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn errors_name_the_table_and_the_key() {
        for (table, said) in [
            (json!({}), "number 1: the key \"kind\" is missing"),
            (json!({"kind": 1}), "number 1: kind: write a text"),
            (json!({"kind": "dns"}), "number 1 (dns): kind: \"dns\" is not a kind"),
            (json!({"kind": "file"}), "number 1 (file): the key \"path\" is missing"),
            (json!({"kind": "file", "path": "a", "paths": 1}), "unknown key \"paths\""),
            (json!({"kind": "exec", "command": "a b"}), "command"),
            (json!({"kind": "exec", "command": []}), "command: give the program"),
            (json!({"kind": "exec", "command": ["a"], "cache": "1h"}), "cache: give at most"),
            (json!({"kind": "exec", "command": ["a"], "cache": "x"}), "cache"),
            (json!({"kind": "exec", "command": ["a"], "name": "\u{1b}"}), "name: use"),
        ] {
            let error = ConfiguredSource::read_all(std::slice::from_ref(&table), Path::new("")).unwrap_err();
            assert!(error.to_string().contains(said), "{table}: {error}");
        }
    }

    #[test]
    fn tables_without_a_name_get_different_ones() {
        let names = |tables: &[Value]| -> Vec<String> {
            let read = ConfiguredSource::read_all(tables, Path::new("/base")).unwrap();
            read.into_iter().map(|source| source.name).collect()
        };
        let file = json!({"kind": "file", "path": "a"});
        let exec = json!({"kind": "exec", "command": ["a"]});
        assert_eq!(names(&[file.clone(), exec.clone()]), ["file", "exec"]);
        assert_eq!(names(&[file.clone(), exec, file]), ["file 1", "exec", "file 3"]);
        let named = json!({"kind": "file", "path": "a", "name": "x"});
        let error = ConfiguredSource::read_all(&[named.clone(), named], Path::new("")).unwrap_err();
        assert!(error.to_string().contains("number 2 (file): name: another table"), "{error}");
    }
}
