//! Replaces secrets in values for history, logs and listings.

use serde_json::{Map, Value};

use crate::base::name::ParamName;

use super::{Parameters, Schema};

/// Replaces secrets in output for people.
pub const SECRET_SHOWN: &str = "[secret]";

/// Returns `values` with each secret, at any depth, replaced by [`SECRET_SHOWN`].
pub(super) fn redact_parameters(parameters: &Parameters, values: &Map<String, Value>) -> Map<String, Value> {
    let mut shown = Map::new();
    for (name, value) in values {
        let schema = ParamName::new(name.as_str()).ok().and_then(|n| parameters.get(&n));
        shown.insert(name.clone(), schema.map_or_else(|| value.clone(), |schema| redact(schema, value)));
    }
    shown
}

fn redact(schema: &Schema, value: &Value) -> Value {
    if schema.secret {
        return Value::String(SECRET_SHOWN.to_owned());
    }
    if !schema.holds_secret() {
        return value.clone();
    }
    match value {
        Value::Array(items) => {
            let shown = |(index, item)| schema.for_item(index).map_or_else(|| Value::clone(item), |s| redact(s, item));
            Value::Array(items.iter().enumerate().map(shown).collect())
        }
        Value::Object(map) => {
            // Each schema of a property redacts the secrets that it declares.
            let shown = |name: &str, v: &Value| schema.for_property(name).iter().fold(v.clone(), |v, s| redact(s, &v));
            Value::Object(map.iter().map(|(name, v)| (name.clone(), shown(name, v))).collect())
        }
        other => other.clone(),
    }
}
