//! JSON for programs that a terminal may see all the same: every character that acts is escaped.

use serde::Serialize;
use serde_json::Value;

use super::is_active;

/// `value` as JSON on several lines.
pub fn json(value: &impl Serialize) -> String {
    escape(serde_json::to_string_pretty(value).expect("what we print has string keys"))
}

/// `value` as JSON on one line.
pub fn json_line(value: &impl Serialize) -> String {
    escape(serde_json::to_string(value).expect("what we print has string keys"))
}

/// `value` as JSON, in which what fits on a line of `width` characters stands on one.
pub fn json_fitted(value: &Value, width: usize) -> String {
    let mut text = String::new();
    fit(value, 0, 0, width, &mut text);
    text
}

/// Appends `value`, which begins after `indent` spaces and shares its line with `taken` more characters.
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

/// Outside strings JSON has no such characters but line breaks, and inside them `serde_json` escapes those.
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
        fn it_reads_back_and_nothing_acts(text in any::<String>()) {
            let line = json_line(&text);
            prop_assert!(!line.chars().any(is_active), "{line:?}");
            prop_assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        }
    }

    #[test]
    fn what_fits_stands_on_one_line() {
        let value = serde_json::json!({"a": [{"b": 1, "c": "x"}, {"b": 2, "c": "y"}], "d": {}, "e": "\u{1b}"});
        assert_eq!(json_fitted(&value, 200), json_line(&value));
        let narrow = "{\n  \"a\": [\n    {\"b\":1,\"c\":\"x\"},\n    {\"b\":2,\"c\":\"y\"}\n  ],\n  \"d\": {},\n  \"e\": \"\\u001b\"\n}";
        assert_eq!(json_fitted(&value, 24), narrow);
        assert_eq!(serde_json::from_str::<Value>(&json_fitted(&value, 1)).unwrap(), value);
    }

    #[test]
    fn what_hides_is_escaped() {
        assert_eq!(json_line(&"\u{202e}\u{9b}\u{7f}\u{e0001}"), r#""\u202e\u009b\u007f\udb40\udc01""#);
    }
}
