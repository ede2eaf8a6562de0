//! JSON Schemas (draft 2020-12) of the files that people write, for their editors.
//!
//! They lie in `packs-schema/schemas/`, and a test holds them equal to what is made here. The parser
//! reads unknown keys, so that a check can name them; the schemas refuse them, so that an editor does.

use serde_json::{Value, json};

use crate::action::ActionFile;
use crate::pack::PackFile;
use crate::param::ANNOTATIONS;

/// The schema of `pack.yaml`.
pub fn pack_file() -> schemars::Schema {
    let mut schema = schemars::schema_for!(PackFile);
    close(&mut schema);
    schema.insert("title".to_owned(), json!("pack.yaml of a Bolt pack"));
    schema
}

/// The schema of `actions/<name>.yaml`.
pub fn action_file() -> schemars::Schema {
    let mut schema = schemars::schema_for!(ActionFile);
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

fn close(schema: &mut schemars::Schema) {
    schema.insert("additionalProperties".to_owned(), Value::Bool(false));
}

/// Every file in `packs-schema/schemas/`: its name and what stands in it.
pub fn files() -> [(&'static str, String); 2] {
    let text = |schema: schemars::Schema| {
        let mut text = serde_json::to_string_pretty(&schema).expect("a JSON value serialises");
        text.push('\n');
        text
    };
    [("pack.schema.json", text(pack_file())), ("action.schema.json", text(action_file()))]
}
