//! Documents written by people: YAML (packs, site configuration) and TOML (`agent.toml`, `grants.toml`, `client.toml`).
//!
//! ```text
//!  text ─[yaml], [toml]─▶ Node, with line and column of every key and value ─[de]─▶ checked type
//! ```
//!
//! Each format has one reader, and both share one deserializer, so that every error names line, column and key and
//! describes valid values in words of the format, not of Rust or serde. Nothing here does I/O.
//!
//! YAML that different parsers read as different values is an error that advises to quote it: see [`yaml`].

mod de;
mod scalar;
pub mod toml;
#[cfg(feature = "yaml")]
pub mod yaml;

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::{Number, Value};

use crate::base::strict::shorten;

/// Line and column in the text, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    line: usize,
    column: usize,
}

/// Value of a document and its place. A value that was not read from text has no place.
#[derive(Debug, Clone)]
struct Node {
    content: Content,
    place: Option<Position>,
}

#[derive(Debug, Clone)]
enum Content {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    /// Unquoted YAML scalar. If text is expected, it is the text as written; otherwise [`scalar::resolve`] decides.
    #[cfg_attr(not(feature = "yaml"), expect(dead_code, reason = "only YAML has unquoted scalars"))]
    Plain(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Debug, Clone)]
struct Key {
    text: String,
    place: Option<Position>,
}

/// Error in a document: its place, its key and a remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentError {
    place: Option<Position>,
    path: String,
    message: String,
    /// Message to use instead of `message` if that one quotes the document.
    redacted: Option<&'static str>,
}

/// Beginnings of the messages about limits of a document.
const LIMITS: [&str; 2] = ["the document is too large", "nests more than"];

impl DocumentError {
    /// Creates an error whose message does not quote the document.
    fn new(place: Option<Position>, message: impl Into<String>) -> DocumentError {
        DocumentError { place, path: String::new(), message: message.into(), redacted: None }
    }

    /// Creates an error whose message quotes the document.
    fn quoting(place: Option<Position>, message: impl Into<String>, redacted: &'static str) -> DocumentError {
        DocumentError { redacted: Some(redacted), ..DocumentError::new(place, message) }
    }

    /// Formats the error without quoting the document, except for names of keys; for documents that hold secrets.
    pub fn without_values(&self) -> String {
        self.format(self.redacted.unwrap_or(&self.message))
    }

    /// True if the document is too large or nests too deep, rather than wrong.
    pub fn exceeds_a_limit(&self) -> bool {
        LIMITS.iter().any(|limit| self.message.starts_with(limit))
    }

    /// Returns the line, counted from 1, if known.
    pub fn line(&self) -> Option<usize> {
        self.place.map(|place| place.line)
    }

    fn format(&self, message: &str) -> String {
        let place = self.place.map(|at| format!("line {}, column {}: ", at.line, at.column)).unwrap_or_default();
        let path = if self.path.is_empty() { String::new() } else { format!("{}: ", self.path) };
        format!("{place}{path}{message}")
    }

    /// Adds the outer key (`key` or `[index]`) to the error's path.
    fn within(mut self, part: &str, place: Option<Position>) -> DocumentError {
        self.place = self.place.or(place);
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{}{dot}{}", shorten(part, 80), self.path);
        self
    }

    fn at(mut self, place: Option<Position>) -> DocumentError {
        self.place = self.place.or(place);
        self
    }
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format(&self.message))
    }
}

impl std::error::Error for DocumentError {}

/// Converts a parsed value; errors name the key and have no line.
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
