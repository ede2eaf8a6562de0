//! Documents that people write: YAML (packs, site configuration) and TOML (`agent.toml`, `grants.toml`, `client.toml`).
//!
//! ```text
//!  text ─[yaml], [toml]─▶ Node, with line and column of every key and value ─[de]─▶ checked type
//! ```
//!
//! There is one reader for each format and one deserializer for both, so that an error always names line, column and key, and
//! says what that key takes in words of the format, never in those of Rust or serde. Nothing here does I/O.
//!
//! YAML that different readers take for different values is refused, with the advice to quote it: see [`yaml`].

mod de;
mod scalar;
pub mod toml;
#[cfg(feature = "yaml")]
pub mod yaml;

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Number, Value};

use crate::base::strict::shorten;

/// Line and column in the text, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    line: usize,
    column: usize,
}

/// One value of a document, and where it begins. A value that came without a text has no place.
#[derive(Debug, Clone)]
struct Node {
    content: Content,
    place: Option<Place>,
}

#[derive(Debug, Clone)]
enum Content {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    /// A YAML scalar without quotes. Where text is wanted it is the text as written; elsewhere [`scalar::resolve`] decides.
    #[cfg_attr(not(feature = "yaml"), expect(dead_code, reason = "only YAML has unquoted scalars"))]
    Plain(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Debug, Clone)]
struct Key {
    text: String,
    place: Option<Place>,
}

/// What is wrong with a document: where, under which key, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentError {
    place: Option<Place>,
    path: String,
    said: String,
    /// What to say instead of `said`, when that quotes the document.
    discreet: Option<&'static str>,
}

impl DocumentError {
    /// An error whose text holds nothing of the document.
    fn new(place: Option<Place>, said: impl Into<String>) -> DocumentError {
        DocumentError { place, path: String::new(), said: said.into(), discreet: None }
    }

    /// An error whose text quotes the document.
    fn quoting(place: Option<Place>, said: impl Into<String>, discreet: &'static str) -> DocumentError {
        DocumentError { discreet: Some(discreet), ..DocumentError::new(place, said) }
    }

    /// The error without any word of the document but the names of keys: for documents that hold secrets.
    pub fn without_values(&self) -> String {
        self.show(self.discreet.unwrap_or(&self.said))
    }

    /// The line, from 1, when the error has one.
    pub fn line(&self) -> Option<usize> {
        self.place.map(|place| place.line)
    }

    fn show(&self, said: &str) -> String {
        let place = self.place.map(|at| format!("line {}, column {}: ", at.line, at.column)).unwrap_or_default();
        let path = if self.path.is_empty() { String::new() } else { format!("{}: ", self.path) };
        format!("{place}{path}{said}")
    }

    /// The error, which began inside `part` (`key` or `[index]`) of a value.
    fn within(mut self, part: &str, place: Option<Place>) -> DocumentError {
        self.place = self.place.or(place);
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{}{dot}{}", shorten(part, 80), self.path);
        self
    }

    fn at(mut self, place: Option<Place>) -> DocumentError {
        self.place = self.place.or(place);
        self
    }
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show(&self.said))
    }
}

impl std::error::Error for DocumentError {}

/// Reads a value that has been parsed already; an error names the key, and has no line.
pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, DocumentError> {
    T::deserialize(&Node::from(value))
}

impl From<&Value> for Node {
    fn from(value: &Value) -> Node {
        let content = match value {
            Value::Null => Content::Null,
            Value::Bool(flag) => Content::Bool(*flag),
            Value::Number(number) => Content::Number(number.clone()),
            Value::String(text) => Content::Text(text.clone()),
            Value::Array(items) => Content::List(items.iter().map(Node::from).collect()),
            Value::Object(map) => {
                let key = |name: &String| Key { text: name.clone(), place: None };
                Content::Map(map.iter().map(|(name, value)| (key(name), Node::from(value))).collect())
            }
        };
        Node { content, place: None }
    }
}

#[cfg(test)]
mod tests;
