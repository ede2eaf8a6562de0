//! Deserializes a type from a [`Node`]. Errors name key and place, and describe valid values: [`expected_words`]
//! translates serde's words.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, Expected, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Number;

use super::scalar::{self, Resolved};
use super::{Content, DocumentError, Key, Node};
use crate::base::strict::shorten;

type Outcome<T> = Result<T, DocumentError>;

impl<'de> Deserializer<'de> for &Node {
    type Error = DocumentError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        let visited = match &self.content {
            Content::Null => visitor.visit_unit(),
            Content::Bool(flag) => visitor.visit_bool(*flag),
            Content::Number(number) => visit_number(number, visitor),
            Content::Text(text) => visitor.visit_str(text),
            Content::Plain(text) => match scalar::resolve(text) {
                Ok(Resolved::Null) => visitor.visit_unit(),
                Ok(Resolved::Bool(flag)) => visitor.visit_bool(flag),
                Ok(Resolved::Number(number)) => visit_number(&number, visitor),
                Ok(Resolved::Text) => visitor.visit_str(text),
                Err(unclear) => Err(DocumentError::new(self.place, unclear)),
            },
            Content::List(items) => visitor.visit_seq(Items { left: items.iter().enumerate(), at: 0 }),
            Content::Map(entries) => visitor.visit_map(Entries { left: entries.iter(), value: None }),
        };
        visited.map_err(|e| e.at(self.place))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        if self.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        match &self.content {
            // If text is expected, values such as 2024, 1.10 or no are text as written.
            Content::Plain(text) if !self.is_null() => {
                visitor.visit_str(text).map_err(|e: DocumentError| e.at(self.place))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Outcome<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Outcome<V::Value> {
        visitor.visit_unit()
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Outcome<V::Value> {
        let text = match &self.content {
            Content::Text(text) => text,
            Content::Plain(text) if !self.is_null() => text,
            _ => return Err(DocumentError::new(self.place, one_of(variants))),
        };
        let variant = StrDeserializer::<DocumentError>::new(text);
        visitor.visit_enum(variant).map_err(|e| e.at(self.place))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Outcome<V::Value> {
        // serde would accept a list as the fields in order.
        match &self.content {
            Content::List(_) => Err(DocumentError::new(self.place, "must be a map of keys, not a list")),
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 bytes byte_buf unit unit_struct seq tuple tuple_struct map
    }
}

impl Node {
    fn is_null(&self) -> bool {
        match &self.content {
            Content::Null => true,
            Content::Plain(text) => scalar::is_null(text),
            _ => false,
        }
    }
}

fn visit_number<'de, V: Visitor<'de>>(number: &Number, visitor: V) -> Outcome<V::Value> {
    match (number.as_u64(), number.as_i64()) {
        (Some(whole), _) => visitor.visit_u64(whole),
        (_, Some(whole)) => visitor.visit_i64(whole),
        _ => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
    }
}

struct Items<'a> {
    left: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
    at: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = DocumentError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Outcome<Option<T::Value>> {
        let Some((index, item)) = self.left.next() else { return Ok(None) };
        self.at = index;
        seed.deserialize(item).map(Some).map_err(|e| e.within(&format!("[{index}]"), item.place))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.len())
    }
}

struct Entries<'a> {
    left: std::slice::Iter<'a, (Key, Node)>,
    value: Option<(&'a Key, &'a Node)>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = DocumentError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Outcome<Option<K::Value>> {
        let Some((key, value)) = self.left.next() else { return Ok(None) };
        self.value = Some((key, value));
        seed.deserialize(StrDeserializer::<DocumentError>::new(&key.text)).map(Some).map_err(|e| e.at(key.place))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Outcome<T::Value> {
        let (key, value) = self.value.take().expect("serde asks for a key before its value");
        seed.deserialize(value).map_err(|e| e.within(&key.text, value.place.or(key.place)))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.len())
    }
}

impl de::Error for DocumentError {
    fn custom<T: fmt::Display>(said: T) -> DocumentError {
        // Errors of patterns have several lines.
        let said = said.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" ");
        DocumentError::quoting(None, shorten(&said, 500), "has a value that does not fit")
    }

    fn invalid_type(given: Unexpected<'_>, wanted: &dyn Expected) -> DocumentError {
        DocumentError::new(None, format!("must be {}, not {}", expected_words(&wanted.to_string()), given_words(given)))
    }

    fn invalid_value(_: Unexpected<'_>, wanted: &dyn Expected) -> DocumentError {
        DocumentError::new(None, format!("must be {}", expected_words(&wanted.to_string())))
    }

    fn invalid_length(length: usize, wanted: &dyn Expected) -> DocumentError {
        DocumentError::new(None, format!("has {length} entries; it must be {}", expected_words(&wanted.to_string())))
    }

    fn unknown_variant(given: &str, variants: &'static [&'static str]) -> DocumentError {
        let said = format!("must be one of {}, not {:?}", variants.join(", "), shorten(given, 80));
        DocumentError::quoting(None, said, "has a value that is not allowed")
    }

    fn unknown_field(given: &str, known: &'static [&'static str]) -> DocumentError {
        let known = if known.is_empty() { "there are none".to_owned() } else { known.join(", ") };
        DocumentError::new(None, format!("unknown key {:?}; known keys: {known}", shorten(given, 80)))
    }

    fn missing_field(field: &'static str) -> DocumentError {
        DocumentError::new(None, format!("the key {field:?} is missing"))
    }

    fn duplicate_field(field: &'static str) -> DocumentError {
        DocumentError::new(None, format!("the key {field:?} is given twice"))
    }
}

fn one_of(variants: &[&str]) -> String {
    format!("must be one of {}", variants.join(", "))
}

/// Names the type of a value in words of the format. Never the value itself: it may be a secret.
fn given_words(given: Unexpected<'_>) -> &'static str {
    match given {
        Unexpected::Bool(_) => "true or false",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "a whole number",
        Unexpected::Float(_) => "a number with a fraction",
        Unexpected::Char(_) | Unexpected::Str(_) | Unexpected::Bytes(_) => "text",
        Unexpected::Unit | Unexpected::Option => "empty",
        Unexpected::Seq => "a list",
        Unexpected::Map => "a map of keys",
        _ => "this",
    }
}

/// Translates serde's description of an expected type to words of the format. Descriptions of our own types pass
/// unchanged.
fn expected_words(expected: &str) -> String {
    let whole = |least: &str, most: &str| format!("a whole number from {least} to {most}");
    match expected {
        "u8" => whole("0", "255"),
        "u16" => whole("0", "65535"),
        "u32" => whole("0", "4294967295"),
        "u64" | "usize" => "a whole number, 0 or more".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a string" | "a borrowed string" | "string" | "path string" | "a character" => "text".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "a list".to_owned(),
        "any valid JSON value" | "a JSON value" => "a value".to_owned(),
        "unit" => "empty".to_owned(),
        _ if expected == "a map" || expected.starts_with("struct ") => "a map of keys".to_owned(),
        _ if expected.contains("enum ") => "one of the allowed values of this key".to_owned(),
        _ => expected.to_owned(),
    }
}
