//! Parts of schemas of parameters, as the parameter language takes them, and findings about the file that they are in.

use packs_schema::base::document::from_value;
use packs_schema::base::strict::shorten;
use packs_schema::pack::param::Schema;
use serde_json::{Map, Number, Value};

use super::lines::line_of;
use super::report::{Effect, ImportFinding};

/// Collects findings about one file.
pub(super) struct Sink<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
    pub(super) findings: Vec<ImportFinding>,
}

impl Sink<'_> {
    pub(super) fn add(&mut self, code: &'static str, effect: Effect, place: &[&str], message: impl Into<String>) {
        let line = line_of(self.text, place);
        self.findings.push(ImportFinding::new(code, effect, self.file, message).at(line));
    }
}

/// Adds a keyword unless the parameter language refuses its value, such as a pattern with look-around.
pub(super) fn keep_if_readable(
    schema: &mut Map<String, Value>,
    keyword: &str,
    value: Value,
    place: &[&str],
    sink: &mut Sink<'_>,
) {
    let alone = Map::from_iter([(keyword.to_owned(), value)]);
    match from_value::<Schema>(&Value::Object(alone.clone())) {
        Ok(_) => schema.extend(alone),
        Err(error) => {
            let name = place.last().copied().unwrap_or_default();
            sink.add("keyword_dropped", Effect::Note, place, format!("{name}: {error}; the keyword is dropped"));
        }
    }
}

/// Reads a boolean, also where it is text.
pub(super) fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" => Some(true),
            "false" | "no" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// True for null, `false`, and an empty text, list or object.
pub(super) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.trim().is_empty() || text.trim() == "false",
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// Returns the keys of an object that are not among `known` and have a value, at most eight.
pub(super) fn unknown_keys(object: &Value, known: &[&str]) -> Vec<String> {
    let keys = object.as_object().into_iter().flatten();
    let unknown = keys.filter(|(key, value)| !known.contains(&key.as_str()) && !is_nothing(value));
    unknown.take(8).map(|(key, _)| shorten(key, 40)).collect()
}

/// Notes a default that a shell would expand where it is text of a script, as it was in the source.
pub(super) fn note_expansion(name: &str, default: &str, place: &[&str], sink: &mut Sink<'_>) {
    if default.starts_with('~') || default.contains(['*', '?', '$', '`']) {
        let message = format!(
            "the default of {name} has characters that the source's shell may have expanded (~ * ? $ `); here they are text"
        );
        sink.add("default_expands", Effect::Note, place, message);
    }
}

/// Converts a default that does not have its type, or drops it.
pub(super) fn fit_default(schema: &mut Map<String, Value>, place: &[&str], sink: &mut Sink<'_>) {
    let name = place.last().copied().unwrap_or_default();
    let Some(default) = schema.get("default").cloned() else { return };
    if fits(schema) {
        return;
    }
    let wanted = schema.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Some(value) = convert(&default, &wanted) {
        schema.insert("default".to_owned(), value.clone());
        if fits(schema) {
            let message = format!("the default of {name} was {default}, not {wanted}; it is {value} in Bolt");
            return sink.add("default_converted", Effect::Note, place, message);
        }
    }
    schema.remove("default");
    let message = format!("the default of {name} does not fit its own schema; it is dropped");
    sink.add("default_dropped", Effect::Note, place, message);
}

fn fits(schema: &Map<String, Value>) -> bool {
    let read = from_value::<Schema>(&Value::Object(schema.clone()));
    read.is_ok_and(|schema| schema.findings("").iter().all(|finding| finding.code != "default_does_not_fit"))
}

fn convert(default: &Value, wanted: &str) -> Option<Value> {
    match (wanted, default) {
        ("string", Value::Number(_) | Value::Bool(_)) => Some(Value::String(default.to_string())),
        ("integer", Value::String(text)) => text.trim().parse::<i64>().ok().map(Value::from),
        ("integer", Value::Number(number)) => {
            let float = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9.0e15)?;
            #[expect(clippy::cast_possible_truncation, reason = "a whole number below 2^53")]
            let whole = float as i64;
            Some(Value::from(whole))
        }
        ("number", Value::String(text)) => text.trim().parse().ok().and_then(Number::from_f64).map(Value::Number),
        ("boolean", value) => truth(value).map(Value::Bool),
        ("array", Value::String(text)) if text.trim().is_empty() => Some(Value::Array(Vec::new())),
        ("array", Value::String(text)) if !text.contains(['[', '{']) => {
            Some(text.split(',').map(|item| Value::from(item.trim())).collect())
        }
        ("object", Value::String(text)) if text.trim().is_empty() => Some(Value::Object(Map::new())),
        _ => None,
    }
}
