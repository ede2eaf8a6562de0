//! Keywords that take one of two shapes, read so that an error says which of them is wrong and how.

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::strict::{kind, shorten};

use super::{Additional, Items, Required, Type, Types};

fn part<T: DeserializeOwned, E: Error>(value: Value) -> Result<T, E> {
    serde_json::from_value(value).map_err(|e| E::custom(shorten(&e.to_string(), 300)))
}

fn one_type<E: Error>(value: &Value) -> Result<Type, E> {
    Type::deserialize(value).map_err(|_| {
        let given = shorten(&value.to_string(), 80);
        E::custom(format_args!(
            "{given} is not a type: use string, integer, number, boolean, array, object or null, or leave type out"
        ))
    })
}

impl<'de> Deserialize<'de> for Types {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Types, D::Error> {
        match Value::deserialize(from)? {
            Value::Array(types) if types.is_empty() => Err(D::Error::custom("type must name at least one type")),
            Value::Array(types) => types.iter().map(one_type).collect::<Result<_, _>>().map(Types::Many),
            one => one_type(&one).map(Types::One),
        }
    }
}

impl<'de> Deserialize<'de> for Required {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Required, D::Error> {
        match Value::deserialize(from)? {
            Value::Bool(this) => Ok(Required::This(this)),
            names @ Value::Array(_) => part(names).map(Required::Properties),
            other => Err(wrong("required", "true, false or a list of property names", &other)),
        }
    }
}

impl<'de> Deserialize<'de> for Additional {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Additional, D::Error> {
        match Value::deserialize(from)? {
            Value::Bool(allowed) => Ok(Additional::Allowed(allowed)),
            schema @ Value::Object(_) => part(schema).map(Additional::Schema),
            other => Err(wrong("additionalProperties and additionalItems", "true, false or a schema", &other)),
        }
    }
}

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Items, D::Error> {
        match Value::deserialize(from)? {
            schema @ Value::Object(_) => part(schema).map(Items::All),
            schemas @ Value::Array(_) => part(schemas).map(Items::Each),
            other => Err(wrong("items", "a schema or a list of schemas", &other)),
        }
    }
}

fn wrong<E: Error>(keyword: &str, must: &str, given: &Value) -> E {
    E::custom(format_args!("{keyword} must be {must}, not {}", kind(given)))
}

#[cfg(test)]
mod tests {
    use crate::param::Schema;

    #[test]
    fn an_error_says_what_would_be_right() {
        for (text, says) in [
            (r#"{"type":"any"}"#, "\"any\" is not a type"),
            (r#"{"type":["string","text"]}"#, "\"text\" is not a type"),
            (r#"{"type":[]}"#, "at least one"),
            (r#"{"type":7}"#, "7 is not a type"),
            (r#"{"required":"yes"}"#, "required must be true, false or a list of property names, not a string"),
            (r#"{"items":{"type":"any"}}"#, "\"any\" is not a type"),
            (r#"{"items":[{"items":3}]}"#, "items must be a schema"),
            (r#"{"additionalProperties":{"pattern":"("}}"#, "pattern"),
            (r#"{"properties":{"a":{"additionalItems":0}}}"#, "additionalItems must be true, false or a schema"),
        ] {
            let said = serde_json::from_str::<Schema>(text).unwrap_err().to_string();
            assert!(said.contains(says), "{text}: {said}");
        }
    }
}
