//! JSON for programs that a terminal may see all the same: every character that acts is escaped.

use serde::Serialize;

use super::is_active;

/// `value` as JSON on several lines.
pub fn json(value: &impl Serialize) -> String {
    escape(serde_json::to_string_pretty(value).expect("what we print has string keys"))
}

/// `value` as JSON on one line.
pub fn json_line(value: &impl Serialize) -> String {
    escape(serde_json::to_string(value).expect("what we print has string keys"))
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
    fn what_hides_is_escaped() {
        assert_eq!(json_line(&"\u{202e}\u{9b}\u{7f}\u{e0001}"), r#""\u202e\u009b\u007f\udb40\udc01""#);
    }
}
