//! JSON Schemas (draft 2020-12) of pack and action files, for editors.
//!
//! The files are in `packs-schema/schemas/`; a test compares them with the schemas generated here. The parser accepts
//! unknown keys so that a check can report them; the schemas refuse them so that an editor does.

use serde_json::{Map, Value, json};

use crate::pack::PackFile;
use crate::pack::action::ActionFile;
use crate::pack::param::ANNOTATIONS;

/// Returns the schema of `pack.yaml`.
pub fn pack_file() -> schemars::Schema {
    let mut schema = optional_may_be_null(schemars::schema_for!(PackFile));
    close(&mut schema);
    schema.insert("title".to_owned(), json!("pack.yaml of a Bolt pack"));
    schema
}

/// Returns the schema of `actions/<name>.yaml`.
pub fn action_file() -> schemars::Schema {
    let mut schema = optional_may_be_null(schemars::schema_for!(ActionFile));
    close(&mut schema);
    schema.insert("title".to_owned(), json!("an action of a Bolt pack"));
    if let Some(parameter) = schema.pointer_mut("/$defs/Schema").and_then(Value::as_object_mut) {
        if let Some(keywords) = parameter.get_mut("properties").and_then(Value::as_object_mut) {
            keywords.extend(ANNOTATIONS.iter().map(|name| ((*name).to_owned(), Value::Bool(true))));
        }
        parameter.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    schema
}

/// Flags of a parameter that must not be `null`.
const NEVER_NULL: [&str; 2] = ["secret", "immutable"];

/// Allows `null` for optional keys, which means that they are absent.
fn optional_may_be_null(schema: schemars::Schema) -> schemars::Schema {
    let mut value = schema.to_value();
    allow_null(&mut value);
    schemars::Schema::try_from(value).expect("a schema with more types is a schema")
}

fn allow_null(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(allow_null),
        Value::Object(schema) => {
            let required: Vec<Value> = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
            if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
                let says = |name: &str| required.contains(&json!(name)) || NEVER_NULL.contains(&name);
                let optional = properties.iter_mut().filter(|(name, _)| !says(name));
                optional.filter_map(|(_, property)| property.as_object_mut()).for_each(add_null_type);
            }
            // Values of a map of schemas, such as parameters.
            let values = schema.get_mut("additionalProperties").and_then(Value::as_object_mut);
            if let Some(values) = values.filter(|values| values.contains_key("$ref")) {
                add_null_type(values);
            }
            schema.values_mut().for_each(allow_null);
        }
        _ => {}
    }
}

fn add_null_type(schema: &mut Map<String, Value>) {
    match schema.get_mut("type") {
        Some(Value::Array(types)) if !types.contains(&json!("null")) => types.push(json!("null")),
        Some(Value::String(one)) if one != "null" => {
            let one = one.clone();
            schema.insert("type".to_owned(), json!([one, "null"]));
        }
        _ => {}
    }
    if let Some(target) = schema.remove("$ref") {
        schema.insert("anyOf".to_owned(), json!([{"$ref": target}, {"type": "null"}]));
    }
}

fn close(schema: &mut schemars::Schema) {
    schema.insert("additionalProperties".to_owned(), Value::Bool(false));
}

/// Returns names and content of all files in `packs-schema/schemas/`.
pub fn files() -> [(&'static str, String); 2] {
    let text = |schema: schemars::Schema| {
        let mut text = serde_json::to_string_pretty(&schema).expect("a JSON value serialises");
        text.push('\n');
        text
    };
    [("pack.schema.json", text(pack_file())), ("action.schema.json", text(action_file()))]
}
