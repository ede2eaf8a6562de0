//! Reads a JSON document of instances entry by entry: as one value, it would take ten times the memory of its text.

use std::fmt;

use packs_schema::base::strict::StrictValue;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::entry::{Collector, EntryError, Found};

/// Error in a JSON document.
#[derive(Debug)]
pub(super) enum JsonError {
    /// Anything but `{"instances": […]}`.
    Document(String),
    /// An entry is not valid.
    Entry(EntryError),
}

/// Reads a document.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Found>, JsonError> {
    let mut reading = Reading::default();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let read = Document(&mut reading).deserialize(&mut json).and_then(|()| json.end());
    match (read, reading.wrong) {
        (_, Some(wrong)) => Err(JsonError::Entry(wrong)),
        (Err(error), None) => Err(JsonError::Document(error.to_string())),
        (Ok(()), None) => Ok(reading.collector.finish()),
    }
}

#[derive(Default)]
struct Reading {
    collector: Collector,
    /// First entry that is not valid.
    wrong: Option<EntryError>,
}

struct Document<'a>(&'a mut Reading);

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a list `instances`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut is_read = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "instances" if is_read => return Err(A::Error::custom("the key \"instances\" is given twice")),
                "instances" => map.next_value_seed(List(self.0))?,
                other => {
                    map.next_value::<IgnoredAny>()?;
                    let shown: String = other.chars().take(80).collect();
                    return Err(A::Error::custom(format!("unknown key {shown:?}; known keys: instances")));
                }
            }
            is_read = true;
        }
        if is_read { Ok(()) } else { Err(A::Error::custom("the key \"instances\" is missing")) }
    }
}

struct List<'a>(&'a mut Reading);

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of instances")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Reading { collector, wrong } = self.0;
        while let Some(StrictValue(value)) = list.next_element()? {
            if let Err(error) = collector.add(&value) {
                *wrong = Some(error);
                return Err(A::Error::custom("an instance is not valid"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        match read(text.as_bytes()).unwrap_err() {
            JsonError::Document(problem) => problem,
            JsonError::Entry(EntryError { number, id, problem }) => format!("{number} ({id}): {problem}"),
        }
    }

    #[test]
    fn only_a_whole_document_with_one_list_is_read() {
        let one = r#"{"id": "i-1", "address": "a:1"}"#;
        assert_eq!(read(format!(r#"{{"instances": [{one}]}}"#).as_bytes()).unwrap().len(), 1);
        assert!(read(br#"{"instances": []}"#).unwrap().is_empty());
        for (text, said) in [
            (String::new(), "EOF"),
            ("[]".to_owned(), "an object with a list"),
            ("{}".to_owned(), "\"instances\" is missing"),
            (r#"{"instances": {}}"#.to_owned(), "a list of instances"),
            (r#"{"instances": [], "instances": []}"#.to_owned(), "given twice"),
            (r#"{"instances": [], "more": 1}"#.to_owned(), "unknown key \"more\""),
            (format!(r#"{{"instances": [{one}"#), "EOF"),
            (format!(r#"{{"instances": [{one}]"#), "EOF"),
            (format!(r#"{{"instances": [{one}]}} x"#), "trailing characters"),
            (r#"{"instances": [{"id": "i-1", "id": "i-2"}]}"#.to_owned(), "id"),
            (format!(r#"{{"instances": [{one}, {one}]}}"#), "2 (i-1): another entry has the same id"),
            (format!(r#"{{"instances": [{}]}}"#, "[".repeat(10_000)), "nested more than"),
        ] {
            let error = error(&text);
            assert!(error.contains(said), "{}: {error}", &text[..text.len().min(80)]);
        }
    }
}
