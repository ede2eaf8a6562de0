//! JSON for programs. It may reach a terminal, so every character that acts there is escaped.

use serde::Serialize;
use serde_json::Value;

use super::is_active;

/// Returns `value` as JSON on several lines.
pub fn json(value: &impl Serialize) -> String {
    escape(serde_json::to_string_pretty(value).expect("what we print has string keys"))
}

/// Returns `value` as JSON on one line.
pub fn json_line(value: &impl Serialize) -> String {
    escape(serde_json::to_string(value).expect("what we print has string keys"))
}

/// Returns `value` as JSON in lines of at most `width` characters where possible: a value that fits on one line is not broken.
pub fn json_fitted(value: &Value, width: usize) -> String {
    let mut text = String::new();
    fit(value, 0, 0, width, &mut text);
    text
}

/// Appends `value`, which begins after `indent` spaces and shares its line with `taken` other characters.
fn fit(value: &Value, indent: usize, taken: usize, width: usize, text: &mut String) {
    let line = json_line(value);
    let parts: Vec<(String, &Value)> = match value {
        Value::Array(items) => items.iter().map(|item| (String::new(), item)).collect(),
        Value::Object(entries) => entries.iter().map(|(key, item)| (json_line(key) + ": ", item)).collect(),
        _ => Vec::new(),
    };
    if parts.is_empty() || indent + taken + line.chars().count() <= width {
        text.push_str(&line);
        return;
    }
    let (open, close) = if value.is_array() { ('[', ']') } else { ('{', '}') };
    text.push(open);
    let last = parts.len() - 1;
    for (at, (key, item)) in parts.into_iter().enumerate() {
        text.push('\n');
        text.extend(std::iter::repeat_n(' ', indent + 2));
        text.push_str(&key);
        let taken = key.chars().count() + usize::from(at != last);
        fit(item, indent + 2, taken, width, text);
        if at != last {
            text.push(',');
        }
    }
    text.push('\n');
    text.extend(std::iter::repeat_n(' ', indent));
    text.push(close);
}

/// Escapes characters that act on a terminal. Line breaks are left: `serde_json` escapes those inside strings.
fn escape(text: String) -> String {
    if !text.chars().any(|c| c != '\n' && is_active(c)) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if c == '\n' || !is_active(c) {
            escaped.push(c);
            continue;
        }
        let mut units = [0; 2];
        for unit in c.encode_utf16(&mut units) {
            escaped.push_str(&format!("\\u{unit:04x}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_reads_back_and_has_no_active_characters(text in any::<String>()) {
            let line = json_line(&text);
            prop_assert!(!line.chars().any(is_active), "{line:?}");
            prop_assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        }
    }

    #[test]
    fn a_value_that_fits_is_on_one_line() {
        let value = serde_json::json!({"a": [{"b": 1, "c": "x"}, {"b": 2, "c": "y"}], "d": {}, "e": "\u{1b}"});
        assert_eq!(json_fitted(&value, 200), json_line(&value));
        let narrow = "{\n  \"a\": [\n    {\"b\":1,\"c\":\"x\"},\n    {\"b\":2,\"c\":\"y\"}\n  ],\n  \"d\": {},\n  \"e\": \"\\u001b\"\n}";
        assert_eq!(json_fitted(&value, 24), narrow);
        assert_eq!(serde_json::from_str::<Value>(&json_fitted(&value, 1)).unwrap(), value);
    }

    #[test]
    fn hidden_characters_are_escaped() {
        assert_eq!(json_line(&"\u{202e}\u{9b}\u{7f}\u{e0001}"), r#""\u202e\u009b\u007f\udb40\udc01""#);
    }
}
