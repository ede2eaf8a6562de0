//! Reads YAML and JSON files of a source within the limits of Bolt's own readers.

use std::cell::RefCell;
use std::fmt;

use packs_schema::base::document::{DocumentError, yaml};
use packs_schema::base::strict::shorten;
use packs_schema::pack::contents::MAX_YAML;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::ImportError;
use super::report::{Effect, ImportFinding};
use super::source::{NOT_UTF8, SourceTree};

/// Reads a YAML file. What exceeds the limits of the reader refuses the whole source.
pub(super) fn read_yaml(tree: &SourceTree, path: &str) -> Result<Result<Value, DocumentError>, ImportError> {
    let Some(text) = text(tree, path)? else { return Ok(Ok(Value::Null)) };
    match yaml::parse::<Value>(text) {
        Err(error) if error.exceeds_a_limit() => Err(ImportError::refused(path, error.to_string())),
        read => Ok(read),
    }
}

/// Returns the text of a file of at most `MAX_YAML` bytes.
fn text<'a>(tree: &'a SourceTree, path: &str) -> Result<Option<&'a str>, ImportError> {
    let Some(file) = tree.files.get(path) else { return Ok(None) };
    if file.bytes.len() as u64 > MAX_YAML {
        let problem = format!("it has {} bytes, more than the maximum of {MAX_YAML} of a YAML file", file.bytes.len());
        return Err(ImportError::refused(path, problem));
    }
    file.text().map(Some).ok_or_else(|| ImportError::refused(path, NOT_UTF8))
}

/// JSON of a source.
#[derive(Debug)]
pub(super) struct Json {
    pub(super) value: Value,
    /// Places of keys that are there twice. The last one counts.
    pub(super) duplicates: Vec<Vec<String>>,
}

/// Error of a JSON file.
#[derive(Debug)]
pub(super) struct JsonError {
    pub(super) message: String,
    pub(super) line: Option<usize>,
}

/// Reads a JSON file. What exceeds the limits of the reader refuses the whole source; a key that is there twice does not.
pub(super) fn read_json(tree: &SourceTree, path: &str) -> Result<Result<Json, JsonError>, ImportError> {
    /// Maximum number of duplicate keys that are named.
    const MAX_DUPLICATES: usize = 20;
    let Some(text) = text(tree, path)? else { return Ok(Ok(Json { value: Value::Null, duplicates: Vec::new() })) };
    let (place, found) = (RefCell::default(), RefCell::default());
    let mut reader = serde_json::Deserializer::from_str(text);
    let read =
        Loose { place: &place, found: &found }.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    let mut duplicates = found.into_inner();
    duplicates.truncate(MAX_DUPLICATES);
    match read {
        Ok(value) => Ok(Ok(Json { value, duplicates })),
        Err(error) if error.to_string().starts_with("recursion limit exceeded") => {
            Err(ImportError::refused(path, "it nests more than 127 deep"))
        }
        Err(error) => Ok(Err(JsonError { message: error.to_string(), line: Some(error.line()) })),
    }
}

/// Error of a document in YAML or JSON.
#[derive(Debug)]
pub(super) struct Unreadable {
    pub(super) message: String,
    pub(super) line: Option<usize>,
}

/// Reads a document in JSON or YAML, by the end of its name. What exceeds the limits of the reader refuses the source.
pub(super) fn read(tree: &SourceTree, path: &str) -> Result<Result<Value, Unreadable>, ImportError> {
    if path.ends_with(".json") {
        let read = read_json(tree, path)?.map(|json| json.value);
        return Ok(read.map_err(|error| Unreadable { message: error.message, line: error.line }));
    }
    let read = read_yaml(tree, path)?;
    Ok(read.map_err(|error| Unreadable { line: error.line(), message: error.to_string() }))
}

/// Returns findings about keys that are in a JSON document twice.
pub(super) fn duplicate_keys(tree: &SourceTree, path: &str) -> Vec<ImportFinding> {
    let read = if path.ends_with(".json") { read_json(tree, path) } else { return Vec::new() };
    let Ok(Ok(Json { duplicates, .. })) = read else { return Vec::new() };
    let of = |key: &Vec<String>| {
        let message = format!("{} is there twice; the last one counts", shorten(&key.join("."), 120));
        ImportFinding::new("duplicate_key", Effect::Note, path, message)
    };
    duplicates.iter().map(of).collect()
}

/// Reads a value of JSON, and notes keys that are there twice.
#[derive(Clone, Copy)]
struct Loose<'a> {
    place: &'a RefCell<Vec<String>>,
    found: &'a RefCell<Vec<Vec<String>>>,
}

impl<'de> DeserializeSeed<'de> for Loose<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Loose<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            self.place.borrow_mut().push(key.clone());
            let value = entries.next_value_seed(self)?;
            if map.insert(key, value).is_some() {
                self.found.borrow_mut().push(self.place.borrow().clone());
            }
            self.place.borrow_mut().pop();
        }
        Ok(Value::Object(map))
    }
}
