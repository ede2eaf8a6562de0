//! Converts the text of `name=value` on a command line to the JSON value of a parameter.

use serde_json::Value;

use super::{Schema, Type};
use crate::base::strict::shorten;

/// Converts `text` to the type in `schema`. Text that does not convert stays a string, so that the check reports the
/// expected type. Where text is allowed beside a boolean, only `true` and `false` are booleans.
pub fn from_text(schema: &Schema, text: &str) -> Value {
    let types = schema.types.as_ref().map_or(&[][..], |t| t.as_slice());
    let is_text = types.contains(&Type::String) && !["true", "false"].contains(&text);
    let wanted = types.iter().filter(|wanted| !(is_text && **wanted == Type::Boolean));
    wanted.copied().find_map(|wanted| as_type(wanted, schema, text)).unwrap_or_else(|| Value::String(text.to_owned()))
}

/// Explains why `text` does not convert to the type in `schema`, and which text would; `None` if it converts. Never
/// quotes a secret.
pub fn problem(schema: &Schema, text: &str) -> Option<String> {
    let [wanted] = schema.types.as_ref()?.as_slice() else { return None };
    if as_type(*wanted, schema, text).is_some() {
        return None;
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_whole = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let (must, why) = match wanted {
        Type::Integer if is_whole && !digits.starts_with('0') => ("an integer of 64 bits", "is too large"),
        Type::Integer if is_whole => ("an integer, such as 10", "starts with 0"),
        Type::Integer => ("an integer, such as 10", "is not one"),
        Type::Number if is_whole && digits.starts_with('0') => ("a number, such as 1.5", "starts with 0"),
        Type::Number => ("a number, such as 1.5", "is not one"),
        Type::Boolean => ("true, yes, on or 1, or false, no, off or 0", "is not one"),
        Type::Object => ("a JSON object, such as {\"a\": 1}", "is not one"),
        Type::Null => ("null", "is not one"),
        Type::String | Type::Array => return None,
    };
    Some(match schema.holds_secret() {
        true => format!("must be {must}"),
        false => format!("must be {must}; {:?} {why}", shorten(text, 80)),
    })
}

fn as_type(wanted: Type, schema: &Schema, text: &str) -> Option<Value> {
    match wanted {
        Type::String => Some(Value::String(text.to_owned())),
        Type::Integer => crate::base::strict::parse(text.as_bytes()).ok().filter(|v| v.is_i64() || v.is_u64()),
        Type::Number => crate::base::strict::parse(text.as_bytes()).ok().filter(Value::is_number),
        Type::Boolean => match text.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Some(Value::Bool(true)),
            "false" | "0" | "no" | "off" => Some(Value::Bool(false)),
            _ => None,
        },
        Type::Null => (text == "null").then_some(Value::Null),
        Type::Object => crate::base::strict::parse(text.as_bytes()).ok().filter(Value::is_object),
        Type::Array => crate::base::strict::parse(text.as_bytes()).ok().filter(Value::is_array).or_else(|| {
            let item = match &schema.items {
                Some(super::Items::All(item)) => (**item).clone(),
                _ => Schema::default(),
            };
            // Blanks around an item are trimmed; write an item with leading or trailing blanks as JSON.
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            Some(Value::Array(parts.map(|part| from_text(&item, part)).collect()))
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_for_booleans_stay_text_where_text_is_allowed() {
        for (types, text, wanted) in [
            (json!(["boolean", "string"]), "yes", json!("yes")),
            (json!(["boolean", "string"]), "1", json!("1")),
            (json!(["boolean", "string"]), "true", json!(true)),
            (json!(["string", "boolean"]), "false", json!("false")),
            (json!(["boolean", "integer"]), "on", json!(true)),
            (json!("boolean"), "yes", json!(true)),
        ] {
            let schema: Schema = serde_json::from_value(json!({"type": types})).unwrap();
            assert_eq!(from_text(&schema, text), wanted, "{types} {text}");
        }
    }
}
