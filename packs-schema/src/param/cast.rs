//! `name=value` of a command line as the JSON value that its parameter wants.

use serde_json::Value;

use super::{Schema, Type};

/// Reads `text` as the type that `schema` names; what cannot be read stays a string, so that the check
/// then says what would be right.
pub fn from_text(schema: &Schema, text: &str) -> Value {
    let types = schema.types.as_ref().map_or(&[][..], |t| t.as_slice());
    types.iter().find_map(|wanted| as_type(*wanted, schema, text)).unwrap_or_else(|| Value::String(text.to_owned()))
}

fn as_type(wanted: Type, schema: &Schema, text: &str) -> Option<Value> {
    match wanted {
        Type::String => Some(Value::String(text.to_owned())),
        Type::Integer => crate::strict::parse(text.as_bytes()).ok().filter(|v| v.is_i64() || v.is_u64()),
        Type::Number => crate::strict::parse(text.as_bytes()).ok().filter(Value::is_number),
        Type::Boolean => match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" => Some(Value::Bool(true)),
            "false" | "0" | "no" => Some(Value::Bool(false)),
            _ => None,
        },
        Type::Null => (text == "null").then_some(Value::Null),
        Type::Object => crate::strict::parse(text.as_bytes()).ok().filter(Value::is_object),
        Type::Array => crate::strict::parse(text.as_bytes()).ok().filter(Value::is_array).or_else(|| {
            let item = match &schema.items {
                Some(super::Items::All(item)) => (**item).clone(),
                _ => Schema::default(),
            };
            let parts = text.split(',').filter(|part| !part.is_empty());
            Some(Value::Array(parts.map(|part| from_text(&item, part)).collect()))
        }),
    }
}
