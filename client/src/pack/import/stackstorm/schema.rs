//! Schemas of parameters and configuration as published packs contain them, made ones that Bolt accepts. Every
//! difference is a finding; nothing is loosened silently.

use serde_json::{Map, Value};

use crate::pack::import::report::Effect;
use crate::pack::import::schema::{Sink, fit_default, keep_if_readable, truth};

/// Keywords of Bolt's parameter language that are copied.
const KEYWORDS: [&str; 24] = [
    "type",
    "description",
    "default",
    "required",
    "enum",
    "secret",
    "immutable",
    "position",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "items",
    "additionalItems",
    "minItems",
    "maxItems",
    "uniqueItems",
    "properties",
    "patternProperties",
    "additionalProperties",
];
/// Deepest nesting of schemas.
const MAX_DEPTH: usize = 16;

/// Returns the schema that is written for `given`, at the keys `place` of the file. A default that is a Jinja template is
/// returned apart.
pub(super) fn clean(given: &Value, place: &[&str], sink: &mut Sink<'_>) -> (Map<String, Value>, Option<String>) {
    let name = place.last().copied().unwrap_or_default();
    let given = match given {
        Value::Object(map) => map.clone(),
        Value::Null => Map::new(),
        other => {
            sink.add("no_schema", Effect::Note, place, format!("{name} is not a schema; its value {other} is ignored"));
            Map::new()
        }
    };
    if !given.contains_key("type") {
        sink.add("no_type", Effect::Note, place, format!("{name} has no type; any value is accepted"));
    }
    let mut schema = one(&given, place, sink, 0);
    let template = match schema.get("default") {
        Some(Value::String(text)) if is_template(text) => Some(text.clone()),
        _ => None,
    };
    if template.is_some() {
        schema.remove("default");
    } else if schema.get("default").is_some_and(holds_template) {
        let message =
            format!("the default of {name} holds a template in a list or map, which is not evaluated; it is dropped");
        sink.add("template_default", Effect::Note, place, message);
        schema.remove("default");
    }
    fit_default(&mut schema, place, sink);
    (schema, template)
}

/// True for the schema of a secret, or of a value that holds one.
pub(super) fn holds_secret(schema: &Value) -> bool {
    schema.to_string().contains("\"secret\":true")
}

/// True for text with Jinja in it.
pub(super) fn is_template(text: &str) -> bool {
    text.contains("{{") || text.contains("{%")
}

fn holds_template(value: &Value) -> bool {
    match value {
        Value::String(text) => is_template(text),
        Value::Array(items) => items.iter().any(holds_template),
        Value::Object(map) => map.values().any(holds_template),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn one(given: &Map<String, Value>, place: &[&str], sink: &mut Sink<'_>, depth: usize) -> Map<String, Value> {
    let name = place.last().copied().unwrap_or_default();
    let mut schema = Map::new();
    for (keyword, value) in given {
        let value = match keyword.as_str() {
            _ if value.is_null() && keyword != "type" => {
                // Of these nothing is expected.
                if !["default", "description"].contains(&keyword.as_str()) {
                    let message = format!("the key {keyword} of {name} is empty; it has no effect");
                    sink.add("empty_key", Effect::Note, place, message);
                }
                continue;
            }
            "type" => match types(value) {
                Some(types) => types,
                None => {
                    let message = format!("{name} has no type of JSON Schema ({value}); any value is accepted");
                    sink.add("unknown_type", Effect::Note, place, message);
                    continue;
                }
            },
            "description" => Value::String(text(value)),
            "secret" | "immutable" | "uniqueItems" | "exclusiveMinimum" | "exclusiveMaximum" => match truth(value) {
                Some(flag) => Value::Bool(flag),
                None if ["secret", "immutable"].contains(&keyword.as_str()) => {
                    sink.add(
                        "unclear",
                        Effect::Note,
                        place,
                        format!("{keyword} of {name} is {value}; it is true in Bolt"),
                    );
                    Value::Bool(true)
                }
                None => continue,
            },
            "required" if depth == 0 || !value.is_array() => match truth(value) {
                Some(flag) => Value::Bool(flag),
                None => continue,
            },
            "position" => match value.as_u64().or_else(|| value.as_str().and_then(|text| text.trim().parse().ok())) {
                Some(position) => Value::from(position),
                None => continue,
            },
            "properties" | "patternProperties" => children(value, place, sink, depth),
            "items" if value.is_array() => {
                let items = value.as_array().into_iter().flatten().map(|item| child(item, place, sink, depth));
                Value::Array(items.collect())
            }
            "items" => child(value, place, sink, depth),
            "additionalItems" | "additionalProperties" if value.is_object() => child(value, place, sink, depth),
            known
                if KEYWORDS.contains(&known)
                    || ["minProperties", "maxProperties", "title", "format"].contains(&known) =>
            {
                value.clone()
            }
            other => {
                let restricts = ["oneOf", "anyOf", "allOf", "not", "$ref", "dependencies", "const"].contains(&other);
                let said = if restricts { "so values are checked less" } else { "it has no effect" };
                let message = format!("{name} has the keyword {other:?}, which Bolt does not know; {said}");
                sink.add("unknown_keyword", Effect::Note, place, message);
                continue;
            }
        };
        keep_if_readable(&mut schema, keyword, value, place, sink);
    }
    schema
}

fn children(value: &Value, place: &[&str], sink: &mut Sink<'_>, depth: usize) -> Value {
    let entries = value.as_object().into_iter().flatten();
    Value::Object(entries.map(|(name, schema)| (name.clone(), child(schema, place, sink, depth))).collect())
}

fn child(value: &Value, place: &[&str], sink: &mut Sink<'_>, depth: usize) -> Value {
    match value {
        Value::Object(map) if depth < MAX_DEPTH => {
            let mut schema = one(map, place, sink, depth + 1);
            schema.remove("position");
            if schema.get("default").is_some_and(holds_template) {
                schema.remove("default");
            }
            fit_default(&mut schema, place, sink);
            Value::Object(schema)
        }
        _ => Value::Object(Map::new()),
    }
}

/// Returns the value of `type`, with common words of other languages read as JSON Schema's.
fn types(value: &Value) -> Option<Value> {
    match value {
        Value::String(word) => one_type(word).map(|word| Value::String(word.to_owned())),
        Value::Null => Some(Value::String("null".to_owned())).filter(|_| false),
        Value::Array(words) => {
            let words = words.iter().map(|word| match word {
                Value::Null => Some("null"),
                word => one_type(word.as_str()?),
            });
            let words = words.collect::<Option<Vec<_>>>().filter(|words| !words.is_empty())?;
            Some(words.into_iter().map(Value::from).collect())
        }
        _ => None,
    }
}

fn one_type(word: &str) -> Option<&'static str> {
    Some(match word.trim().to_ascii_lowercase().as_str() {
        "string" | "str" | "text" => "string",
        "integer" | "int" => "integer",
        "number" | "float" => "number",
        "boolean" | "bool" => "boolean",
        "array" | "list" => "array",
        "object" | "dict" | "hash" => "object",
        "null" | "none" => "null",
        _ => return None,
    })
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
