//! Writes YAML that every reader of YAML reads alike: block style down to a depth, flow style below it, text in quotes.

use packs_schema::base::name::{PackName, PackVersion};
use serde_json::{Map, Value};

/// Returns the document with these top-level keys, in this order. Objects are written in block style down to `depth`.
pub(super) fn document(entries: &[(&str, Value)], depth: usize) -> String {
    let mut text = String::new();
    for (key, value) in entries {
        entry(&mut text, 0, key, value, depth);
    }
    text
}

/// Returns `pack.yaml` of a pack that its source does not describe.
pub(super) fn pack_head(pack: &PackName, version: &PackVersion, description: &str) -> String {
    let version = version.to_string();
    let texts = [
        ("name", pack.as_str()),
        ("ref", pack.as_str()),
        ("version", &version),
        ("description", description),
        ("author", ""),
        ("email", ""),
    ];
    document(&texts.map(|(key, text)| (key, Value::from(text))), 0)
}

fn entry(text: &mut String, indent: usize, name: &str, value: &Value, depth: usize) {
    text.push_str(&" ".repeat(indent));
    text.push_str(&key(name));
    text.push(':');
    match value {
        Value::Object(map) if !map.is_empty() && depth > 0 => {
            text.push('\n');
            for (name, value) in map {
                entry(text, indent + 2, name, value, depth - 1);
            }
        }
        value => {
            text.push(' ');
            text.push_str(&flow(value));
            text.push('\n');
        }
    }
}

/// Returns the value in flow style, on one line.
fn flow(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => float(&number.to_string()),
        Value::String(text) if is_plain(text) => text.clone(),
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => format!("{{{}}}", pairs(map).join(", ")),
    }
}

fn pairs(map: &Map<String, Value>) -> Vec<String> {
    map.iter().map(|(name, value)| format!("{}: {}", key(name), flow(value))).collect()
}

/// `1e300` has no decimal point, without which readers of YAML 1.1 take it for text.
fn float(text: &str) -> String {
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let mantissa = if mantissa.contains('.') { mantissa.to_owned() } else { format!("{mantissa}.0") };
            let exponent = if exponent.starts_with(['-', '+']) { exponent.to_owned() } else { format!("+{exponent}") };
            format!("{mantissa}e{exponent}")
        }
        None => text.to_owned(),
    }
}

fn key(name: &str) -> String {
    if is_plain(name) { name.to_owned() } else { quoted(name) }
}

/// True for a word that no reader of YAML takes for anything but text.
fn is_plain(text: &str) -> bool {
    const WORDS: [&str; 9] = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./".contains(&b))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use packs_schema::base::document::yaml;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_readable_and_reads_back() {
        let value = json!({"default": "no", "type": "string", "enum": ["1", "a b", "0644", 1e300, -2.5e-9]});
        let text = document(&[("name", json!("disk")), ("parameters", json!({"on": value, "x": {}}))], 1);
        let wanted = "name: disk\nparameters:\n  \"on\": {default: \"no\", enum: [\"1\", \"a b\", \"0644\", 1.0e+300, -2.5e-9], \
                      type: string}\n  x: {}\n";
        assert_eq!(text, wanted);
        let back: Value = yaml::parse(&text).unwrap();
        assert_eq!(back, json!({"name": "disk", "parameters": {"on": value, "x": {}}}));
    }

    proptest! {
        #[test]
        fn any_text_reads_back(text in "\\PC*|(?s).{0,40}", key in "(?s).{1,20}") {
            let written = document(&[("a", json!({key.clone(): text.clone()}))], 2);
            let back: Value = yaml::parse(&written).unwrap();
            prop_assert_eq!(back, json!({"a": {key: text}}));
        }
    }
}
