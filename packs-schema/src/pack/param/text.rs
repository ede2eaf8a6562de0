//! Values as text, for arguments and environment variables.

use serde_json::Value;

/// Returns the first item of a list that a script could not recover once the list is joined by commas, and the reason.
///
/// A list of lists or objects is passed as JSON, from which every item can be read.
pub(in crate::pack) fn ambiguous_item(value: &Value) -> Option<(usize, &'static str)> {
    let items = value.as_array().filter(|items| joined_by_commas(items))?;
    items.iter().enumerate().find_map(|(index, item)| {
        let text = plain(item);
        let why = if text.is_empty() {
            "must not be empty: lists are passed to a script joined by commas, so it would be lost"
        } else if text.contains(',') {
            "must not contain a comma: lists are passed to a script joined by commas, so it would become several items"
        } else if text.contains(['\n', '\r']) {
            "must not contain a line break: lists are passed to a script as one line, joined by commas"
        } else {
            return None;
        };
        Some((index, why))
    })
}

/// Returns true if a list is passed as text joined by commas: one of scalars.
pub(in crate::pack) fn joined_by_commas(items: &[Value]) -> bool {
    items.iter().all(|item| !item.is_array() && !item.is_object())
}

/// Formats a value as text: scalars as they are, lists of scalars joined by commas, other values as JSON.
pub(in crate::pack) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) if joined_by_commas(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
