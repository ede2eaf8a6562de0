//! Differences of actions in words, found by comparing their checked definitions key by key.

use std::collections::BTreeSet;

use packs_schema::base::name::ActionName;
use packs_schema::pack::action::Action;
use packs_schema::pack::param::Parameters;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{ActionChange, Change};

/// Maximum length of a value in a line, in characters.
const MAX_VALUE: usize = 120;

/// Compares the actions of two versions.
pub(super) fn actions(old: &[Action], new: &[Action]) -> Vec<ActionChange> {
    let names: BTreeSet<_> = old.iter().chain(new).map(|action| &action.name).collect();
    let change = |name: &ActionName| {
        let find = |actions: &[Action]| actions.iter().find(|action| action.name == *name).map(value);
        let (change, changes) = match (find(old), find(new)) {
            (None, Some(new)) => (Change::Added, summary(&new)),
            (Some(_), None) => (Change::Removed, Vec::new()),
            (Some(old), Some(new)) => {
                let changes = definition(&old, &new);
                if changes.is_empty() {
                    return None;
                }
                (Change::Changed, changes)
            }
            (None, None) => return None,
        };
        Some(ActionChange { action: name.to_string(), change, changes })
    };
    names.into_iter().filter_map(change).collect()
}

/// Compares the schemas of the site configuration.
pub(super) fn config(old: &Parameters, new: &Parameters) -> Vec<String> {
    named("configuration key", &value(old), &value(new))
}

fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or_default()
}

/// Describes an action that is new.
fn summary(new: &Value) -> Vec<String> {
    let mut lines = vec![format!("class: {}", show(&new["class"]))];
    lines.extend(new.get("run_as").map(|account| format!("run_as: {}", show(account))));
    lines.extend(named("parameter", &Value::Null, &new["parameters"]));
    lines
}

/// Describes the differences between two definitions of an action.
fn definition(old: &Value, new: &Value) -> Vec<String> {
    let without = |value: &Value| {
        let mut rest = value.as_object().cloned().unwrap_or_default();
        rest.remove("parameters");
        Value::Object(rest)
    };
    let mut lines = Vec::new();
    compare("", &without(old), &without(new), &mut lines);
    lines.extend(named("parameter", &old["parameters"], &new["parameters"]));
    lines
}

/// Describes the differences between two maps of schemas, by name.
fn named(what: &str, old: &Value, new: &Value) -> Vec<String> {
    let empty = Map::new();
    let (old, new) = (old.as_object().unwrap_or(&empty), new.as_object().unwrap_or(&empty));
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let mut lines = Vec::new();
    for name in names {
        match (old.get(name), new.get(name)) {
            (None, Some(new)) => lines.push(format!("{what} {name} added{}", schema(new))),
            (Some(_), None) => lines.push(format!("{what} {name} removed")),
            (Some(old), Some(new)) => {
                let mut changes = Vec::new();
                compare("", old, new, &mut changes);
                lines.extend(changes.into_iter().map(|change| format!("{what} {name}: {change}")));
            }
            (None, None) => {}
        }
    }
    lines
}

/// Describes a schema: ` (integer, required, default 7)`.
fn schema(schema: &Value) -> String {
    let mut parts = Vec::new();
    parts.extend(schema.get("type").map(show));
    parts.extend((schema["required"] == true).then(|| "required".to_owned()));
    parts.extend((schema["secret"] == true).then(|| "secret".to_owned()));
    parts.extend(schema.get("default").map(|default| format!("default {}", show(default))));
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

/// Adds a line for every key of two values that differs; keys inside objects are joined with dots.
fn compare(key: &str, old: &Value, new: &Value, lines: &mut Vec<String>) {
    if old == new {
        return;
    }
    if let (Value::Object(old), Value::Object(new)) = (old, new) {
        let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for name in keys {
            let inner = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            match (old.get(name), new.get(name)) {
                (Some(old), Some(new)) => compare(&inner, old, new, lines),
                (None, Some(new)) => lines.push(format!("{inner} set to {}", show(new))),
                (Some(old), None) => lines.push(format!("{inner} no longer set (was {})", show(old))),
                (None, None) => {}
            }
        }
        return;
    }
    lines.push(format!("{key}: {} -> {}", show(old), show(new)));
}

/// Shows a value in one line.
fn show(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.chars().count() <= MAX_VALUE {
        return text;
    }
    text.chars().take(MAX_VALUE).chain("…".chars()).collect()
}
