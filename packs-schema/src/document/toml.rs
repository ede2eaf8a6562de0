//! TOML, with line and column.

use std::ops::Range;

use serde::de::DeserializeOwned;
use serde_json::Number;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Content, DocumentError, Key, Node, Place};
use crate::strict::shorten;

/// Reads a TOML document.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, DocumentError> {
    let lines = Lines { text };
    let table = DeTable::parse(text).map_err(|e| {
        let place = e.span().map(|span| lines.place(&span));
        // The library's own rendering repeats the line of the document, which may hold anything.
        let said = match e.span().and_then(|span| text.get(span)) {
            Some(key) if e.message() == "duplicate key" => {
                format!("the key {:?} is here already; remove one of the two", shorten(key, 80))
            }
            _ => format!("not TOML: {}", e.message()),
        };
        DocumentError::quoting(place, said, "not TOML")
    })?;
    let root = Node { content: map(table.get_ref(), &lines)?, place: None };
    T::deserialize(&root)
}

struct Lines<'a> {
    text: &'a str,
}

impl Lines<'_> {
    fn place(&self, span: &Range<usize>) -> Place {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        let begin = before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        Place { line, column: String::from_utf8_lossy(&before[begin..]).chars().count() + 1 }
    }
}

fn map(table: &DeTable<'_>, lines: &Lines<'_>) -> Result<Content, DocumentError> {
    let mut entries = Vec::with_capacity(table.len());
    for (key, value) in table.iter() {
        let place = Some(lines.place(&key.span()));
        let key = Key { text: key.get_ref().to_string(), place };
        let value = node(value, lines).map_err(|e| e.within(&key.text, place))?;
        entries.push((key, value));
    }
    Ok(Content::Map(entries))
}

fn node(value: &Spanned<DeValue<'_>>, lines: &Lines<'_>) -> Result<Node, DocumentError> {
    let place = Some(lines.place(&value.span()));
    let wrong = |said: &str| DocumentError::new(place, said);
    let content = match value.get_ref() {
        DeValue::String(text) => Content::Text(text.to_string()),
        DeValue::Integer(digits) => {
            let number = i64::from_str_radix(digits.as_str(), digits.radix());
            Content::Number(number.map_err(|_| wrong("the number is too large"))?.into())
        }
        DeValue::Float(digits) => {
            let number = digits.as_str().parse().ok().and_then(Number::from_f64);
            Content::Number(number.ok_or_else(|| wrong("must be a finite number"))?)
        }
        DeValue::Boolean(flag) => Content::Bool(*flag),
        DeValue::Datetime(_) => return Err(wrong("is a date or time; write text in quotes")),
        DeValue::Array(items) => Content::List(items.iter().map(|item| node(item, lines)).collect::<Result<_, _>>()?),
        DeValue::Table(table) => map(table, lines)?,
    };
    Ok(Node { content, place })
}
