//! Instance as files, programs and services describe it, with the checks of its fields.
//!
//! Every field is untrusted: an id or address must have its form, and texts are bounded and hold no control characters.
//! [`document_schema`] is the JSON Schema of the document, published as `client/inventory.schema.json`.

use std::collections::{BTreeMap, HashSet};

use packs_schema::base::document::from_value;
use packs_schema::base::name::InstanceId;
use packs_schema::delivery::facts::Facts;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::address::Address;

/// Maximum number of instances of an inventory.
pub(super) const MAX_INSTANCES: usize = 200_000;
/// Maximum length of a fact, and of the value of a tag, in characters.
pub(super) const MAX_TEXT: usize = 256;
/// Maximum length of the name of a tag, in characters.
const MAX_TAG_NAME: usize = 128;
/// Maximum number of tags of an instance.
const MAX_TAGS: usize = 100;
/// Maximum length of an untrusted text in a message, in characters.
const MAX_SHOWN: usize = 80;

/// Instance as one source describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Facts; empty where the source does not know them.
    pub facts: Facts,
    /// Address of its agent, unless another source has to give it.
    pub address: Option<Address>,
}

/// Error in an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EntryError {
    /// Position of the entry, from 1.
    pub(super) number: usize,
    /// Its id, if it has one.
    pub(super) id: String,
    /// Description of the problem.
    pub(super) problem: String,
}

/// A list of instances.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Document<T> {
    /// The instances; their ids differ.
    pub(super) instances: Vec<T>,
}

/// An instance.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// Identity, which the certificate of its agent names.
    pub(super) id: InstanceId,
    /// Address of its agent: host:port, such as 10.0.0.7:8443 or [2001:db8::1]:8443. May be absent where another source gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    address: Option<Address>,
    /// Region, such as us-east-1.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = MAX_TEXT))]
    region: String,
    /// Availability zone, such as us-east-1a.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = MAX_TEXT))]
    zone: String,
    /// Application that the instance serves.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = MAX_TEXT))]
    app: String,
    /// Cluster of the application.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = MAX_TEXT))]
    cluster: String,
    /// Scaling group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = MAX_TEXT))]
    group: String,
    /// Other facts by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
}

impl From<Entry> for Found {
    fn from(entry: Entry) -> Found {
        let Entry { id, address, region, zone, app, cluster, group, tags } = entry;
        Found { facts: Facts { id, region, zone, app, cluster, group, tags }, address }
    }
}

impl Entry {
    /// Returns the entry for these facts and this address.
    pub(super) fn of(facts: &Facts, address: Option<&Address>) -> Entry {
        let Facts { id, region, zone, app, cluster, group, tags } = facts.clone();
        Entry { id, address: address.cloned(), region, zone, app, cluster, group, tags }
    }
}

/// Checks the lengths and characters of all facts.
pub(super) fn check(facts: &Facts) -> Result<(), String> {
    let Facts { id: _, region, zone, app, cluster, group, tags } = facts;
    let named = [("region", region), ("zone", zone), ("app", app), ("cluster", cluster), ("group", group)];
    for (name, text) in named {
        check_text(text, MAX_TEXT).map_err(|problem| format!("{name} {problem}"))?;
    }
    if tags.len() > MAX_TAGS {
        return Err(format!("{} tags; an instance has at most {MAX_TAGS}", tags.len()));
    }
    for (name, value) in tags {
        if name.is_empty() {
            return Err("a tag has an empty name".to_owned());
        }
        check_text(name, MAX_TAG_NAME).map_err(|problem| format!("the tag name {:?} {problem}", shorten(name)))?;
        check_text(value, MAX_TEXT).map_err(|problem| format!("the tag {:?} {problem}", shorten(name)))?;
    }
    Ok(())
}

fn check_text(text: &str, max: usize) -> Result<(), String> {
    // The byte length decides for nearly all texts.
    if text.len() > max && text.chars().count() > max {
        return Err(format!("is longer than {max} characters"));
    }
    if text.chars().any(char::is_control) {
        return Err("contains a control character".to_owned());
    }
    Ok(())
}

/// Shortens a text for a message.
pub(super) fn shorten(text: &str) -> String {
    text.chars().take(MAX_SHOWN).collect()
}

/// Converts the entries of a document, one after the other; their ids must differ.
#[derive(Debug, Default)]
pub(super) struct Collector {
    found: Vec<Found>,
    seen: HashSet<InstanceId>,
}

impl Collector {
    /// Adds an entry.
    pub(super) fn add(&mut self, value: &Value) -> Result<(), EntryError> {
        let id = || shorten(value.get("id").and_then(|id| id.as_str()).unwrap_or("without an id"));
        let number = self.found.len() + 1;
        let wrong = |problem: String| EntryError { number, id: id(), problem };
        let entry: Entry = from_value(value).map_err(|e| wrong(e.to_string()))?;
        if self.found.len() >= MAX_INSTANCES {
            return Err(wrong(format!("more than {MAX_INSTANCES} instances")));
        }
        let entry = Found::from(entry);
        check(&entry.facts).map_err(wrong)?;
        if !self.seen.insert(entry.facts.id.clone()) {
            return Err(wrong("another entry has the same id: remove one of the two".to_owned()));
        }
        self.found.push(entry);
        Ok(())
    }

    /// Returns the instances.
    pub(super) fn finish(self) -> Vec<Found> {
        self.found
    }
}

/// Returns the JSON Schema of a document of instances.
pub fn document_schema() -> Value {
    let mut schema = schemars::schema_for!(Document<Entry>);
    schema.insert("title".to_owned(), "Instances for bolt".into());
    schema.to_value()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problem(entry: Value) -> String {
        Collector::default().add(&entry).unwrap_err().problem
    }

    #[test]
    fn hostile_fields_are_refused() {
        let long = "x".repeat(257);
        let many: BTreeMap<String, String> = (0..101).map(|n| (n.to_string(), String::new())).collect();
        for (entry, said) in [
            (json!({"id": "i-1\n", "address": "a:1"}), "instance id"),
            (json!({"id": "../x", "address": "a:1"}), "instance id"),
            (json!({"id": "i-1", "address": "a\u{1b}:1"}), "host:port"),
            (json!({"id": "i-1", "zone": "a\u{1b}[2J"}), "zone contains a control character"),
            (json!({"id": "i-1", "region": "a\u{9b}"}), "region contains a control character"),
            (json!({"id": "i-1", "app": long}), "app is longer than 256"),
            (json!({"id": "i-1", "tags": {"a\n": "b"}}), "control character"),
            (json!({"id": "i-1", "tags": {"a": "b\r"}}), "the tag \"a\" contains a control character"),
            (json!({"id": "i-1", "tags": {"": "b"}}), "empty name"),
            (json!({"id": "i-1", "tags": many}), "101 tags"),
            (json!({"id": "i-1", "tags": {"a": 1}}), "tags"),
            (json!({"id": "i-1", "shell": "x"}), "unknown key \"shell\""),
            (json!({"address": "a:1"}), "\"id\" is missing"),
            (json!(["i-1"]), ""),
        ] {
            let problem = problem(entry.clone());
            assert!(problem.contains(said), "{entry}: {problem}");
            assert!(!problem.contains('\u{1b}'), "{problem:?}");
        }
        // Characters, not bytes, are counted.
        let facts = json!({"id": "i-1", "app": "é".repeat(256), "tags": {"é": "é".repeat(256)}});
        assert_eq!(Collector::default().add(&facts), Ok(()));
    }

    #[test]
    fn the_published_schema_is_the_one_of_the_types() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/inventory.schema.json");
        let made = serde_json::to_string_pretty(&document_schema()).unwrap() + "\n";
        if std::env::var_os("BOLT_BLESS").is_some() {
            std::fs::write(path, &made).unwrap();
        }
        assert_eq!(made, std::fs::read_to_string(path).unwrap(), "run this test with BOLT_BLESS=1");
    }
}
