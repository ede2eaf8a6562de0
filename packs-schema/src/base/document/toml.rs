//! TOML reader with lines and columns.

use std::ops::Range;

use serde::de::DeserializeOwned;
use serde_json::Number;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Content, DocumentError, Key, Node, Position};
use crate::base::strict::shorten;

/// Parses a TOML document.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, DocumentError> {
    let lines = Lines::of(text);
    let table = DeTable::parse(text).map_err(|e| {
        let place = e.span().map(|span| lines.place(&span));
        // The library's own error quotes the line of the document, which may contain a secret.
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

/// Returns the line numbers, counted from 1, at which the items of the top-level list `key` start; empty if there is no
/// such list.
pub fn lines_of_list(text: &str, key: &str) -> Vec<usize> {
    let lines = Lines::of(text);
    let Ok(table) = DeTable::parse(text) else { return Vec::new() };
    match table.get_ref().get(key).map(Spanned::get_ref) {
        Some(DeValue::Array(items)) => items.iter().map(|item| lines.place(&item.span()).line).collect(),
        _ => Vec::new(),
    }
}

/// Distance between two known places, in bytes.
const STEP: usize = 256;

/// Converts offsets to lines and columns without a scan from the start for each: a document may have many values, and
/// all of them in one line.
struct Lines<'a> {
    text: &'a str,
    /// Position of every [`STEP`]th byte.
    known: Vec<Position>,
}

impl Lines<'_> {
    fn of(text: &str) -> Lines<'_> {
        let mut known = vec![Position { line: 1, column: 1 }];
        for step in text.as_bytes().chunks_exact(STEP) {
            let last = known[known.len() - 1];
            known.push(step.iter().fold(last, after));
        }
        Lines { text, known }
    }

    fn place(&self, span: &Range<usize>) -> Position {
        let offset = span.start.min(self.text.len());
        let known = offset / STEP;
        self.text.as_bytes()[known * STEP..offset].iter().fold(self.known[known], after)
    }
}

/// Returns the place after a byte, given its place. Characters are counted by their first byte.
fn after(at: Position, byte: &u8) -> Position {
    match byte {
        b'\n' => Position { line: at.line + 1, column: 1 },
        0x80..=0xbf => at,
        _ => Position { column: at.column + 1, ..at },
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
