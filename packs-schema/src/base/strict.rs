//! JSON without duplicate keys. `serde_json` keeps the last of two; a check that read the first one would have checked
//! another value.

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Maximum depth of nesting. `serde_json` itself stops at 128.
pub const MAX_DEPTH: usize = 32;

/// JSON value without duplicate keys, nested at most [`MAX_DEPTH`] deep.
#[derive(Debug, Clone, PartialEq)]
pub struct StrictValue(pub Value);

impl<'de> Deserialize<'de> for StrictValue {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<StrictValue, D::Error> {
        Strict { depth: MAX_DEPTH }.deserialize(from).map(StrictValue)
    }
}

/// Parses one JSON document; the error has line and column and, for a duplicate, the key.
pub fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice::<StrictValue>(bytes).map(|v| v.0)
}

/// Reads an object; for `#[serde(deserialize_with)]`.
pub fn object<'de, D: Deserializer<'de>>(from: D) -> Result<Map<String, Value>, D::Error> {
    match StrictValue::deserialize(from)?.0 {
        Value::Object(map) => Ok(map),
        other => Err(D::Error::custom(format!("expected an object, not {}", type_name(&other)))),
    }
}

/// Reads a whole number or null; for `#[serde(deserialize_with)]`. JSON Schema, and so `openapi.json`, takes `600.0` for an integer.
pub fn whole_number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let Some(number) = Option::<Number>::deserialize(from)? else { return Ok(None) };
    if let Some(whole) = number.as_u64() {
        return Ok(Some(whole));
    }
    match number.as_f64() {
        // Up to 2^64, which the largest number is below.
        Some(float) if float.fract() == 0.0 && (0.0..18_446_744_073_709_551_616.0).contains(&float) => {
            format!("{:.0}", float.abs()).parse().map(Some).map_err(D::Error::custom)
        }
        _ => Err(D::Error::custom(format_args!("expected a whole number, not {number}"))),
    }
}

/// Returns the JSON type of a value with its article.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(n) if n.is_f64() => "a number",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Shortens untrusted text for a message: at most `longest` characters, with control characters replaced.
pub fn shorten(text: &str, longest: usize) -> String {
    let clean = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let mut shown: String = text.chars().take(longest).map(clean).collect();
    if text.chars().nth(longest).is_some() {
        shown.push('…');
    }
    shown
}

#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: Error>(self) -> Result<Strict, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Strict { depth }),
            None => Err(E::custom(format_args!("nested more than {MAX_DEPTH} deep"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E: Error>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }
    fn visit_i64<E: Error>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }
    fn visit_u64<E: Error>(self, v: u64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }
    fn visit_f64<E: Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }
    fn visit_str<E: Error>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }
    fn visit_string<E: Error>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if object.contains_key(&key) {
                let shown: String = key.chars().take(80).collect();
                return Err(A::Error::custom(format_args!("duplicate key {shown:?}")));
            }
            let value = map.next_value_seed(inner)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicate_keys_are_refused_at_every_depth() {
        assert!(parse(br#"{"a":1,"b":{"a":[1,2.5,null,"x",true]}}"#).is_ok());
        for twice in [r#"{"a":1,"a":2}"#, r#"[{"x":{"a":1,"b":2,"a":1}}]"#, "{\"a\":1,\"\\u0061\":2}"] {
            let said = parse(twice.as_bytes()).unwrap_err().to_string();
            assert!(said.contains("duplicate key \"a\""), "{said}");
        }
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_point_and_no_other_is_taken() {
        let read = |text: &str| whole_number(&mut serde_json::Deserializer::from_str(text)).ok();
        for (text, number) in [
            ("600", 600),
            ("600.0", 600),
            ("6e2", 600),
            ("0", 0),
            ("-0.0", 0),
            ("1e19", 10_000_000_000_000_000_000),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(read(text), Some(Some(number)), "{text}");
        }
        assert_eq!(read("null"), Some(None));
        for wrong in ["600.5", "-1", "-1.0", "1e300", "18446744073709551616", "\"600\"", "true"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = |n| format!("{}1{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(deep(MAX_DEPTH).as_bytes()).is_ok());
        assert!(parse(deep(MAX_DEPTH + 1).as_bytes()).is_err());
        assert!(parse(deep(100_000).as_bytes()).is_err());
    }
}
