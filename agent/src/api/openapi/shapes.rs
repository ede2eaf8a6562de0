//! Patterns of identifiers and types of parameters in `openapi.json`.
//!
//! Identifiers are checked in code; here are the same rules as patterns (ECMA 262), so that a client generator, a form or a
//! fuzzer produces none that would be refused. A test compares the two.

use serde_json::{Map, Value, json};

use crate::api::routes::Operation;

/// Patterns of identifiers, by the name of their type.
pub(super) const NAMES: &[(&str, &str)] = &[
    ("AccessTarget", "^[a-z0-9][a-z0-9_-]{0,63}\\.([A-Za-z0-9][A-Za-z0-9_-]{0,63}|\\*)$"),
    ("ActionName", "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"),
    ("ActionRef", "^[a-z0-9][a-z0-9_-]{0,63}\\.[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"),
    ("ChannelName", "^[a-z0-9][a-z0-9_-]{0,63}$"),
    ("Digest", "^[0-9a-f]{64}$"),
    ("ExecutionId", "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"),
    ("GroupName", "^[a-z0-9][a-z0-9_-]{0,63}$"),
    ("IdempotencyKey", "^[!-~]{1,128}$"),
    ("InstanceId", "^[A-Za-z0-9_:@+][A-Za-z0-9_.:@+-]{0,127}$"),
    ("PackName", "^[a-z0-9][a-z0-9_-]{0,63}$"),
    ("PackVersion", "^(0|[1-9][0-9]{0,8})\\.(0|[1-9][0-9]{0,8})\\.(0|[1-9][0-9]{0,8})(-[a-z][0-9a-z]{0,15})?$"),
    ("Principal", "^[a-z][a-z0-9+.-]{0,15}://[!#-)+-;=?-\\[\\]-_a-~]{1,200}$"),
    ("RunId", "^[A-Za-z0-9_:@+][A-Za-z0-9_.:@+-]{0,63}$"),
];

/// Returns the pattern of an identifier.
pub(super) fn pattern(of: &str) -> &'static str {
    NAMES.iter().find(|(name, _)| *name == of).map_or("", |(_, pattern)| pattern)
}

fn name(of: &str) -> Value {
    json!({"type": "string", "pattern": pattern(of)})
}

fn number() -> Value {
    json!({"type": "integer", "format": "int64", "minimum": 0})
}

/// Returns the schema of a path parameter.
pub(super) fn in_path(parameter: &str) -> Value {
    match parameter {
        "id" => name("ExecutionId"),
        "action" => name("ActionRef"),
        "pack" => name("PackName"),
        other => unreachable!("the path parameter {other} has a type"),
    }
}

/// Returns the schema of a query parameter, and whether it is required; `None` for a parameter without a schema.
pub(super) fn in_query(operation: Operation, parameter: &str) -> Option<(Value, bool)> {
    let optional = |schema| Some((schema, false));
    match parameter {
        "verb" => Some((json!({"$ref": "#/components/schemas/Verb"}), true)),
        "action" if operation == Operation::Access => optional(name("AccessTarget")),
        "wait" => optional(json!({"type": "string", "pattern": "^([1-5]?[0-9]|60)s$"})),
        "output" => {
            optional(json!({"type": "integer", "minimum": 1, "maximum": packs_schema::agent::rest::MAX_OUTPUT}))
        }
        "class" => optional(json!({"$ref": "#/components/schemas/Class"})),
        "ttl" => optional(json!({"type": "string", "pattern": "^[1-9][0-9]{0,4}[smh]$"})),
        "follow" | "ended" => optional(json!({"type": "boolean", "default": false})),
        "limit" => optional(json!({"type": "integer", "minimum": 1, "maximum": packs_schema::agent::rest::MAX_PAGE,
            "default": packs_schema::agent::rest::DEFAULT_PAGE})),
        "since_ms" | "until_ms" | "stdout_from" | "stderr_from" | "offset" => optional(number()),
        "action" => optional(name("ActionRef")),
        "principal" => optional(name("Principal")),
        "run" => optional(name("RunId")),
        "state" => optional(json!({"$ref": "#/components/schemas/State"})),
        "digest" => optional(name("Digest")),
        "after" => optional(json!({"type": "string", "pattern": "^([0-9A-Za-z]{1,32}\\.)?[0-9]{1,18}$"})),
        "cursor" => {
            optional(json!({"type": "string", "pattern": "^([0-9A-Za-z]{1,32}\\.)?[0-9]{1,15}\\.[0-9]{1,15}$"}))
        }
        "pack" => Some((name("PackName"), true)),
        "version" => Some((name("PackVersion"), true)),
        _ => None,
    }
}

/// Adds the rules of identifiers and bounds to the schemas, where their types have them in code only.
pub(super) fn constrain(schemas: &mut Map<String, Value>) {
    for (name, pattern) in NAMES {
        if let Some(Value::Object(schema)) = schemas.get_mut(*name) {
            schema.insert("pattern".to_owned(), json!(pattern));
        }
    }
    for (of, property, key, value) in [
        ("CreateExecution", "note", "maxLength", json!(packs_schema::agent::rest::MAX_NOTE)),
        ("KillRequest", "note", "maxLength", json!(packs_schema::agent::rest::MAX_NOTE)),
        ("CreateExecution", "timeout_ms", "minimum", json!(1)),
        ("CreateExecution", "timeout_ms", "maximum", json!(u64::MAX)),
    ] {
        if let Some(Value::Object(schema)) =
            schemas.get_mut(of).and_then(|schema| schema["properties"].get_mut(property))
        {
            schema.insert(key.to_owned(), value);
        }
    }
}

/// Turns schemas that are `true` or `false` into objects: JSON Schema allows them anywhere, and client generators do not.
pub(super) fn without_booleans(value: &mut Value) {
    let plain = |schema: &mut Value| {
        if *schema == Value::Bool(true) {
            *schema = json!({});
        }
    };
    match value {
        Value::Object(map) => {
            if map.get("items") == Some(&Value::Bool(false)) {
                // Beside `prefixItems`; `maxItems` says the same.
                map.remove("items");
            }
            if let Some(items) = map.get_mut("items") {
                plain(items);
            }
            if let Some(Value::Object(properties)) = map.get_mut("properties") {
                properties.values_mut().for_each(plain);
            }
            for key in ["anyOf", "allOf", "oneOf", "prefixItems"] {
                if let Some(Value::Array(schemas)) = map.get_mut(key) {
                    schemas.iter_mut().for_each(plain);
                }
            }
            map.values_mut().for_each(without_booleans);
        }
        Value::Array(list) => list.iter_mut().for_each(without_booleans),
        _ => {}
    }
}
