//! Parameters of a document: schemas of Bolt, and the environment variables that hold them.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::pack::import::names::parameter_name;
use crate::pack::import::report::Effect;
use crate::pack::import::schema::{Sink, fit_default, keep_if_readable, note_expansion, truth};
use crate::pack::import::scripted::{Parameter, is_secret, is_words, limit_of_text};
use crate::pack::import::shell::{Limit, ScriptValue, is_plain_pattern};

/// Reads the parameters.
pub(super) fn read(document: &Value, sink: &mut Sink<'_>) -> Vec<Parameter> {
    let given = document.get("parameters").and_then(Value::as_object).cloned().unwrap_or_default();
    let mut known: Vec<String> = Vec::new();
    let mut parameters = Vec::new();
    for (name, definition) in &given {
        let Some(bolt) = parameter_name(name, known.iter()) else {
            let message = format!("the parameter {name:?} cannot have a name of Bolt");
            sink.add("parameter_name", Effect::Blocks, &["parameters", name], message);
            continue;
        };
        if bolt != *name {
            sink.add("renamed", Effect::Note, &["parameters", name], format!("{name} is called {bolt} in Bolt"));
        }
        known.push(bolt.clone());
        parameters.push(one(name, bolt, definition, sink));
    }
    parameters
}

fn one(name: &str, bolt: String, definition: &Value, sink: &mut Sink<'_>) -> Parameter {
    let place = ["parameters", name];
    let mut schema = Map::new();
    let kind = definition.get("type").and_then(Value::as_str).unwrap_or("String");
    let kind = schema_type(kind).unwrap_or_else(|| {
        let message = format!("{name} has the type {kind}, which the importer does not know; it is text");
        sink.add("unknown_type", Effect::Note, &place, message);
        "string"
    });
    schema.insert("type".to_owned(), json!(kind));
    if let Some(description) = definition.get("description").and_then(Value::as_str) {
        schema.insert("description".to_owned(), json!(description.trim()));
    }
    restrictions(kind, definition, &place, &mut schema, sink);
    default(kind, definition, &place, &mut schema, sink);
    if kind == "string" && is_secret(name) && !schema.contains_key("enum") {
        schema.insert("secret".to_owned(), json!(true));
        if schema.get("default").and_then(Value::as_str).is_some_and(|text| !text.is_empty()) {
            schema.remove("default");
            schema.insert("required".to_owned(), json!(true));
        }
        let message =
            format!("{name} is a secret by its name: its value is in no log and no record, and has no default");
        sink.add("secret", Effect::Safer, &place, message);
    }
    let listed = schema.contains_key("enum");
    let limit = match kind {
        "string" => limit_of_text(&schema),
        "integer" => Limit::Number,
        "boolean" => Limit::Word,
        _ => Limit::Free,
    };
    let words =
        is_words(name) || schema.get("default").and_then(Value::as_str).is_some_and(|text| text.trim().contains(' '));
    let schema_pattern = schema.get("pattern").and_then(Value::as_str).map(str::to_owned);
    let variable = format!("SSM_{}", name.replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
    Parameter {
        source: name.to_owned(),
        bolt,
        restricted: listed || schema.contains_key("pattern"),
        schema,
        value: ScriptValue {
            name: name.to_owned(),
            variable,
            limit,
            listed,
            plain: kind == "string" && schema_pattern.is_some_and(|pattern| is_plain_pattern(&pattern)),
            words: words && kind == "string",
            omitted: false,
        },
    }
}

fn schema_type(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "String" => "string",
        "StringList" => "array",
        "StringMap" => "object",
        "Boolean" => "boolean",
        "Integer" => "integer",
        "MapList" => "array",
        kind if kind.starts_with("List<") => "array",
        kind if kind.starts_with("AWS::") => "string",
        _ => return None,
    })
}

/// Copies what restricts values. Of lists, it applies to each item.
fn restrictions(kind: &str, definition: &Value, place: &[&str], schema: &mut Map<String, Value>, sink: &mut Sink<'_>) {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let number = |key: &str| {
        let value = definition.get(key)?;
        value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
    };
    let mut of_text = Map::new();
    let allowed = definition.get("allowedValues").and_then(Value::as_array).filter(|values| !values.is_empty());
    if let Some(allowed) = allowed {
        let mut seen = BTreeSet::new();
        let values: Vec<Value> = allowed
            .iter()
            .filter(|value| seen.insert(value.to_string()))
            .map(|value| match (kind, truth(value)) {
                ("string" | "array", _) => json!(text(value)),
                ("boolean", Some(flag)) => json!(flag),
                ("integer", _) => text(value).trim().parse::<i64>().map_or_else(|_| value.clone(), Value::from),
                _ => value.clone(),
            })
            .collect();
        keep_if_readable(&mut of_text, "enum", json!(values), place, sink);
    }
    if let Some(pattern) =
        definition.get("allowedPattern").and_then(Value::as_str).filter(|pattern| !pattern.is_empty())
    {
        keep_if_readable(&mut of_text, "pattern", json!(pattern), place, sink);
    }
    for (key, keyword) in [("minChars", "minLength"), ("maxChars", "maxLength")] {
        if let Some(number) = number(key) {
            keep_if_readable(&mut of_text, keyword, json!(number), place, sink);
        }
    }
    match kind {
        "array" => {
            let maps = definition.get("type").and_then(Value::as_str) == Some("MapList");
            if maps {
                note_maps(&std::mem::take(&mut of_text), place, sink);
            }
            of_text.insert("type".to_owned(), json!(if maps { "object" } else { "string" }));
            schema.insert("items".to_owned(), Value::Object(of_text));
            for (key, keyword) in [("minItems", "minItems"), ("maxItems", "maxItems")] {
                if let Some(number) = number(key) {
                    keep_if_readable(schema, keyword, json!(number), place, sink);
                }
            }
        }
        "object" => note_maps(&of_text, place, sink),
        _ => schema.extend(of_text),
    }
}

/// Notes restrictions of text that a parameter of maps has, for which a schema has none.
fn note_maps(restrictions: &Map<String, Value>, place: &[&str], sink: &mut Sink<'_>) {
    if !restrictions.is_empty() {
        let name = place.last().copied().unwrap_or_default();
        let keywords = restrictions.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let message = format!("{name} holds maps, whose text is not restricted here: {keywords} has no effect");
        sink.add("keyword_dropped", Effect::Note, place, message);
    }
}

fn default(kind: &str, definition: &Value, place: &[&str], schema: &mut Map<String, Value>, sink: &mut Sink<'_>) {
    let name = place.last().copied().unwrap_or_default();
    let mut given = definition.get("default").filter(|value| !value.is_null()).cloned();
    if given.as_ref().is_some_and(|value| is_reference(&value.to_string())) {
        let message =
            format!("the default of {name} is kept in Parameter Store or Secrets Manager; the caller gives the value");
        sink.add("default_reference", Effect::Note, place, message);
        given = None;
    }
    match given {
        Some(value) => {
            if let Some(text) = value.as_str().filter(|_| kind == "string") {
                note_expansion(name, text, place, sink);
            }
            schema.insert("default".to_owned(), value);
            fit_default(schema, place, sink);
        }
        None => {
            schema.insert("required".to_owned(), json!(true));
            // An empty value would leave `rm -rf {{directory}}/*` with the root directory.
            let open = !["pattern", "enum", "minLength"].iter().any(|keyword| schema.contains_key(*keyword));
            if kind == "string" && open {
                schema.insert("minLength".to_owned(), json!(1));
            }
        }
    }
    if !schema.contains_key("default") {
        schema.insert("required".to_owned(), json!(true));
    }
}

/// True for text with a reference that Systems Manager resolves.
pub(super) fn is_reference(text: &str) -> bool {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("{{") {
        let inside = after.trim_start();
        if ["ssm:", "ssm-secure:", "resolve:", "global:"].iter().any(|prefix| inside.starts_with(prefix)) {
            return true;
        }
        rest = after;
    }
    false
}
