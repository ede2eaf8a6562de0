//! Configuration of a pack: `config.schema.yaml`, or a schema made of the older `config.yaml`.

use std::collections::BTreeMap;

use packs_schema::base::name::ParamName;
use packs_schema::pack::contents::CONFIG_SCHEMA_FILE;
use serde_json::{Map, Value, json};

use super::jinja::names::{ConfigValue, Kind};
use super::schema::{clean, holds_secret};
use crate::pack::import::documents::read_yaml;
use crate::pack::import::plan::PlannedFile;
use crate::pack::import::report::{Effect, ImportFinding};
use crate::pack::import::schema::{Sink, truth};
use crate::pack::import::scripted::is_secret;
use crate::pack::import::source::SourceTree;
use crate::pack::import::{ImportError, emit};

/// The older file, with values.
const OLD_FILE: &str = "config.yaml";

/// Configuration schema of the pack.
#[derive(Debug, Default)]
pub(super) struct Config {
    properties: Map<String, Value>,
    /// Names that are different in Bolt, with the name in the source.
    pub(super) renamed: BTreeMap<String, String>,
}

/// Reads the configuration files.
pub(super) fn read(tree: &SourceTree, findings: &mut Vec<ImportFinding>) -> Result<Config, ImportError> {
    let old = !tree.files.contains_key(CONFIG_SCHEMA_FILE);
    let file = if old { OLD_FILE } else { CONFIG_SCHEMA_FILE };
    let mut sink = Sink { file, text: tree.text(file).unwrap_or_default(), findings: Vec::new() };
    let mut config = Config::default();
    match read_yaml(tree, file)? {
        Ok(Value::Object(entries)) => {
            for (name, value) in &entries {
                let schema = if old { of_value(name, value) } else { value.clone() };
                note_undeclared(&[name.as_str()], &schema, &mut sink);
                config.add(name, &schema, &mut sink);
            }
            if old && !entries.is_empty() {
                let message =
                    "its values are defaults of config.schema.yaml now; secrets were dropped, a site sets them";
                sink.add("old_config", Effect::Note, &[], message);
            }
        }
        Ok(_) => {}
        Err(error) => {
            let finding = ImportFinding::new("unreadable", Effect::Note, file, format!("not read: {error}"));
            sink.findings.push(finding.at(error.line()));
        }
    }
    findings.append(&mut sink.findings);
    Ok(config)
}

impl Config {
    fn add(&mut self, name: &str, schema: &Value, sink: &mut Sink<'_>) {
        let (mut schema, template) = clean(schema, &[name], sink);
        schema.remove("position");
        schema.remove("immutable");
        if let Some(default) = nested_default(&schema) {
            schema.insert("default".to_owned(), default);
        }
        if let Some(template) = template {
            let message =
                format!("the default of {name} is {template}, which StackStorm's server renders; a site sets it");
            sink.add("template_default", Effect::Note, &[name], message);
        }
        let mut bolt: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        if !bolt.starts_with(|c: char| c.is_ascii_alphabetic()) {
            bolt.insert_str(0, "c_");
        }
        bolt.truncate(64);
        let clash = self.properties.keys().any(|known| known.eq_ignore_ascii_case(&bolt));
        if clash || ParamName::new(bolt.as_str()).is_err() {
            return sink.add(
                "config_name",
                Effect::Note,
                &[name],
                format!("{name} cannot be a name of Bolt; it is dropped"),
            );
        }
        if bolt != name {
            sink.add("renamed", Effect::Note, &[name], format!("{name} is called {bolt} in /etc/bolt/packs"));
            self.renamed.insert(bolt.clone(), name.to_owned());
        }
        self.properties.insert(bolt, Value::Object(schema));
    }

    /// Returns the values that templates may name, by the name in the source.
    pub(super) fn values(&self) -> BTreeMap<String, ConfigValue> {
        let of = |(bolt, schema): (&String, &Value)| {
            let source = self.renamed.get(bolt).unwrap_or(bolt).clone();
            let kind = schema.as_object().map_or(Kind::Other, Kind::of);
            (source, ConfigValue { bolt: bolt.clone(), kind, secret: holds_secret(schema) })
        };
        self.properties.iter().map(of).collect()
    }

    /// Returns the file to write, if there is any configuration.
    pub(super) fn file(&self) -> Option<(String, PlannedFile)> {
        if self.properties.is_empty() {
            return None;
        }
        let entries: Vec<(&str, Value)> =
            self.properties.iter().map(|(name, schema)| (name.as_str(), schema.clone())).collect();
        Some((CONFIG_SCHEMA_FILE.to_owned(), PlannedFile::text(emit::document(&entries, 1))))
    }
}

/// Returns the object of the defaults inside of an object that has none of its own, as StackStorm fills it in.
fn nested_default(schema: &Map<String, Value>) -> Option<Value> {
    if schema.get("type").is_none_or(|kind| kind != "object") || schema.contains_key("default") {
        return None;
    }
    let mut found = Map::new();
    for (name, inner) in schema.get("properties")?.as_object()? {
        let inner = inner.as_object()?;
        match inner.get("default").cloned().or_else(|| nested_default(inner)) {
            Some(default) => drop(found.insert(name.clone(), default)),
            // An object without it would be refused.
            None if inner.get("required").is_some_and(|required| required == true) => return None,
            None => {}
        }
    }
    (!found.is_empty()).then_some(Value::Object(found))
}

/// Returns a schema for a value of the older file, which is its default unless it may be a secret.
fn of_value(name: &str, value: &Value) -> Value {
    let kind = match value {
        Value::Null if is_secret(name) => return json!({"secret": true}),
        Value::Null => return json!({}),
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    match names_secret(name, value) {
        true => json!({"type": kind, "secret": true}),
        false if value.as_str().is_some_and(str::is_empty) => json!({"type": kind}),
        false => json!({"type": kind, "default": value}),
    }
}

/// True if a value may be a secret or hold one: by its name or a name inside, as a private key, or as credentials of an
/// address.
fn names_secret(name: &str, value: &Value) -> bool {
    is_secret(name)
        || match value {
            Value::Object(entries) => entries.iter().any(|(name, value)| names_secret(name, value)),
            Value::Array(items) => items.iter().any(|item| names_secret("", item)),
            Value::String(text) => text.contains("PRIVATE KEY-----") || has_credentials(text),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
}

/// True for text with an address such as `https://name:password@host`.
fn has_credentials(text: &str) -> bool {
    text.split("://").skip(1).any(|rest| {
        let authority = rest.split(|c: char| c == '/' || c.is_whitespace()).next().unwrap_or_default();
        authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
    })
}

/// Notes what is a secret by its name, also inside of an object, and is not declared as one.
fn note_undeclared(place: &[&str], schema: &Value, sink: &mut Sink<'_>) {
    let name = place.last().copied().unwrap_or_default();
    // A declaration that is unclear counts as one.
    if schema.get("secret").is_some_and(|secret| truth(secret) != Some(false)) {
        return;
    }
    let is_text = schema.get("type").is_none_or(|kind| kind.to_string().contains("\"string\""));
    if is_text && is_secret(name) && schema.get("enum").is_none() {
        let message = format!(
            "{name} is not declared a secret, though it is one by its name: its value is in the environment of every \
             action; add secret: true if it is one"
        );
        sink.add("undeclared_secret", Effect::Note, place, message);
    }
    for (name, schema) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        note_undeclared(&[place, &["properties", name.as_str()][..]].concat(), schema, sink);
    }
}
