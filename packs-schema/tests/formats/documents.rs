//! Properties of the readers of YAML and TOML, which read untrusted bytes: packs, pushes, site configuration.
//!
//! Nothing panics; results are bounded, with aliases expanded; accepted values, above all numbers, equal what was
//! written; an error is one short line.

use std::fmt::Write as _;

use packs_schema::base::document::{DocumentError, toml as toml_reader, yaml};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Map, Number, Value, json};

use crate::draw;

/// Maximum number of values in a YAML document.
const MAX_NODES: usize = 100_000;
/// Maximum nesting.
const MAX_DEPTH: usize = 64;

/// Default seed; `BOLT_TEST_SEED` overrides it.
const SEED: u64 = 0x5eed;

fn config(cases: u32) -> ProptestConfig {
    let seed = std::env::var("BOLT_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    ProptestConfig { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(seed), ..ProptestConfig::default() }
}

fn count(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(count).sum::<usize>(),
        _ => 1,
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn is_bounded(value: &Value) -> bool {
    count(value) <= MAX_NODES && depth(value) <= MAX_DEPTH
}

fn is_one_short_line(error: &DocumentError) -> bool {
    [error.to_string(), error.without_values()].iter().all(|said| said.len() < 4000 && !said.contains('\n'))
}

/// Tokens of YAML, so that a random sequence is often nearly a document.
fn tokens(tokens: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(tokens), 0..40).prop_map(|parts| parts.concat())
}

const YAML: [&str; 60] = [
    "a",
    "b: ",
    "- ",
    "? ",
    ": ",
    "\n",
    "\n  ",
    "\n    ",
    "\n\t",
    "{",
    "}",
    "[",
    "]",
    ",",
    "\"",
    "'",
    "#",
    " # x",
    "&a ",
    "*a",
    "&b ",
    "*b",
    "<<: ",
    "!!str ",
    "!!int ",
    "!!map ",
    "!x ",
    "|",
    ">",
    "|-\n",
    ">+2\n",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "~",
    "null",
    "true",
    "no",
    "0",
    "-1",
    "0644",
    "1_000",
    "0x1F",
    "1e3",
    ".5",
    "1.5",
    "18446744073709551615",
    "1:30",
    ".inf",
    "\u{feff}",
    "\u{0}",
    "\u{85}",
    "\u{2028}",
    "\r\n",
    "\\",
    "é",
    "😀",
    "@",
    "`",
    "=",
];

const TOML: [&str; 44] = [
    "a",
    "b",
    "a.b",
    " = ",
    "=",
    "\n",
    "\r\n",
    "[",
    "]",
    "[[",
    "]]",
    "[a]\n",
    "[[a]]\n",
    "[a.b]\n",
    "{",
    "}",
    ",",
    "\"",
    "'",
    "\"\"\"",
    "'''",
    "#",
    "# x\n",
    "1",
    "-1",
    "+0",
    "0x1F",
    "0o7",
    "0b1",
    "1_000",
    "1.5",
    "1e3",
    "inf",
    "nan",
    "true",
    "false",
    "1979-05-27",
    "07:32:00",
    "\\u0041",
    "\\",
    "\u{0}",
    "é",
    "9223372036854775808",
    "\t",
];

/// Numbers and texts that look like numbers.
fn numeral() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "0",
        "00",
        "1",
        "7",
        "9",
        "10",
        "007",
        "9007199254740993",
        "18446744073709551615",
        "9223372036854775808",
        "+",
        "-",
        ".",
        "e",
        "E",
        "_",
        "0x",
        "0o",
        "0b",
        "F",
        ":",
        "60",
        ".5",
        "inf",
        "nan",
        "e+",
        "e-3",
    ]);
    prop_oneof![
        2 => prop::collection::vec(part, 1..5).prop_map(|parts| parts.concat()),
        1 => any::<i64>().prop_map(|n| n.to_string()),
        1 => any::<u64>().prop_map(|n| n.to_string()),
        1 => any::<i128>().prop_map(|n| n.to_string()),
        1 => any::<f64>().prop_map(|n| format!("{n:?}")),
    ]
}

/// Parses a whole number in the notations that all YAML parsers share.
fn whole(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) if text.starts_with('-') => (-1, digits),
        Some(digits) => (1, digits),
        None => (1, text),
    };
    let (digits, radix) = match digits.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (digits, 10),
    };
    let plain = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    plain.then(|| i128::from_str_radix(digits, radix).ok()).flatten().map(|number| sign * number)
}

fn is_whole(number: &Number, wanted: i128) -> bool {
    number.as_i64().map(i128::from).or(number.as_u64().map(i128::from)) == Some(wanted)
}

/// For each anchor: the earlier anchor that it uses, how often, and whether it merges it. Some are wide, some deep.
fn steps() -> impl Strategy<Value = Vec<(usize, usize, bool)>> {
    let wide = (0..20_usize, 0..12_usize, any::<bool>());
    let deep = (0..2_usize, 0..2_usize, any::<bool>());
    let straight = (Just(0_usize), Just(1_usize), Just(false));
    prop_oneof![
        prop::collection::vec(wide, 1..80),
        prop::collection::vec(deep, 40..120),
        prop::collection::vec(straight, 1..80),
    ]
}

/// Writes a value in block style.
fn block(value: &Value, indent: usize, out: &mut String) {
    let pad = " ".repeat(indent);
    match value {
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let _ = write!(out, "\n{pad}-");
                block(item, indent + 2, out);
            }
        }
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let _ = write!(out, "\n{pad}{}:", Value::from(key.as_str()));
                block(value, indent + 2, out);
            }
        }
        _ => {
            let _ = write!(out, " {}", flow(value));
        }
    }
}

/// Writes a value in flow style, with floats that all parsers read as floats.
fn flow(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| format!("{}: {}", Value::from(key.as_str()), flow(value));
            format!("{{{}}}", map.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        Value::Number(number) if number.is_f64() => {
            // Without an exponent, which not all parsers accept in a number.
            let plain = format!("{:.17}", number.as_f64().unwrap());
            plain.trim_end_matches('0').to_owned() + if plain.trim_end_matches('0').ends_with('.') { "0" } else { "" }
        }
        other => other.to_string(),
    }
}

/// Values with floats that are short when written out.
fn document() -> impl Strategy<Value = Value> {
    draw::value().prop_map(|value| tame(&value))
}

fn tame(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(tame).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), tame(value))).collect(),
        Value::Number(number) if number.is_f64() => {
            let float = number.as_f64().unwrap();
            json!((float.clamp(-1e6, 1e6) * 16.0).round() / 16.0)
        }
        other => other.clone(),
    }
}

/// Removes values that TOML does not support: nulls, and integers beyond signed 64 bits.
fn for_toml(value: &Value) -> Value {
    match value {
        Value::Null => json!("null"),
        Value::Array(items) => items.iter().map(for_toml).collect(),
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), for_toml(value))).collect(),
        Value::Number(number) if number.is_u64() && number.as_i64().is_none() => json!(number.to_string()),
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn no_text_is_too_much_for_the_reader_of_yaml(text in prop_oneof![tokens(&YAML), any::<String>()]) {
        match yaml::parse::<Value>(&text) {
            Ok(value) => prop_assert!(is_bounded(&value)),
            Err(error) => prop_assert!(is_one_short_line(&error), "{:?}", error),
        }
    }

    #[test]
    fn no_text_is_too_much_for_the_reader_of_toml(text in prop_oneof![tokens(&TOML), any::<String>()]) {
        match toml_reader::parse::<Value>(&text) {
            Ok(value) => prop_assert!(value.is_object() && depth(&value) < 1000),
            Err(error) => prop_assert!(is_one_short_line(&error), "{:?}", error),
        }
    }

    /// An unquoted number is read as that number, as text with the same spelling, or refused.
    #[test]
    fn a_number_is_never_turned_into_something_else(text in numeral()) {
        for (document, path) in [(format!("{text}\n"), ""), (format!("a: [x, {text}]\n"), "/a/1")] {
            let Ok(value) = yaml::parse::<Value>(&document) else { continue };
            let value = value.pointer(path).unwrap();
            match (value, whole(&text)) {
                (Value::Number(number), Some(wanted)) => {
                    prop_assert!(is_whole(number, wanted), "{} became {}", text, number);
                    let zeros = text.trim_start_matches(['-', '+']);
                    prop_assert!(zeros == "0" || !zeros.starts_with('0') || zeros.starts_with("0x"), "{}", text);
                }
                (Value::Number(number), None) => {
                    prop_assert!(number.is_f64() && number.as_f64() == text.parse().ok(), "{} became {}", text, number);
                }
                (Value::String(read), wanted) => {
                    prop_assert_eq!(read, &text);
                    prop_assert!(wanted.is_none(), "{} became text", text);
                }
                // `1: 60` is a map and `-` a list; `---` and `...` start and end a document.
                (other, _) => {
                    let is_structure = text.contains(':') || matches!(text.as_str(), "-" | "---" | "...");
                    prop_assert!(is_structure, "{} became {}", text, other);
                }
            }
        }
        if let Ok(value) = toml_reader::parse::<Value>(&format!("a = {text}\n")) {
            let read = &value["a"];
            match whole(&text) {
                Some(wanted) => prop_assert!(read.as_number().is_some_and(|n| is_whole(n, wanted)), "{} became {}", text, read),
                None => prop_assert!(read.is_number(), "{} became {}", text, read),
            }
        }
    }

    #[test]
    fn values_written_as_yaml_read_back(value in document(), in_blocks: bool) {
        let mut text = String::new();
        if in_blocks { block(&value, 0, &mut text) } else { text = flow(&value) };
        let read = yaml::parse::<Value>(&text);
        prop_assert_eq!(read.as_ref().ok(), Some(&value), "{:?}: {}", read, text);
    }

    /// YAML of another writer, with other rules for quotes.
    #[test]
    fn yaml_of_another_writer_reads_back_or_is_refused(value in document()) {
        let text = serde_saphyr::to_string(&value).unwrap();
        if let Ok(read) = yaml::parse::<Value>(&text) {
            prop_assert!(alike(&read, &value), "{} became {}: {}", value, read, text);
        }
    }

    #[test]
    fn values_written_as_toml_read_back(map in prop::collection::btree_map(draw::key(), document(), 0..6)) {
        let value = for_toml(&json!(map));
        let text = toml::to_string(&value).unwrap();
        let read = toml_reader::parse::<Value>(&text);
        prop_assert_eq!(read.as_ref().ok(), Some(&value), "{:?}: {}", read, text);
    }
}

proptest! {
    #![proptest_config(config(150))]

    /// Anchors that refer to each other, arbitrarily wide and deep.
    #[test]
    fn aliases_are_written_out_within_bounds(steps in steps()) {
        let mut text = String::new();
        for (n, (of, times, merged)) in steps.iter().enumerate() {
            let name = if n == 0 { None } else { Some(format!("a{}", n - 1 - of % n)) };
            let _ = match name {
                None => writeln!(text, "k0: &a0 {{x: 1, y: [1, 2, 3, 4, 5, 6, 7, 8, 9]}}"),
                Some(name) if *merged => writeln!(text, "k{n}: &a{n} {{<<: *{name}, z{n}: *{name}}}"),
                Some(name) => writeln!(text, "k{n}: &a{n} {{l: [{}]}}", vec![format!("*{name}"); *times].join(", ")),
            };
        }
        match yaml::parse::<Value>(&text) {
            Ok(value) => prop_assert!(is_bounded(&value), "{} values", count(&value)),
            Err(error) => prop_assert!(
                is_one_short_line(&error) && (error.to_string().contains("too large") || error.to_string().contains("deep")),
                "{}", error
            ),
        }
    }
}

/// Equality except for the sign of zero.
fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            let same = |(key, value): (&String, &Value)| b.get(key).is_some_and(|other| alike(value, other));
            a.len() == b.len() && a.iter().all(same)
        }
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == Some(0.0) && b.as_f64() == Some(0.0),
        (a, b) => a == b,
    }
}

/// Documents of the maximum size read anywhere (1 MiB and more), in each shape that could be superlinear. A quadratic
/// cost would take hours here, so no time limit is needed.
#[test]
fn the_cost_of_a_document_is_linear_in_its_length() {
    const N: usize = 60_000;
    let long = |part: &str| part.repeat(N);
    let many = |one: &dyn Fn(usize) -> String| (0..N).map(one).collect::<String>();
    let yaml_documents = [
        long("["),
        long("{a: "),
        long("- "),
        long("? "),
        long("&a "),
        long("!!str "),
        long("*a "),
        long("\""),
        long("a: b: "),
        long("#\n"),
        long("---\n"),
        format!("[{}]", many(&|n| format!("{n}, "))),
        format!("{{{}}}", many(&|n| format!("k{n}: {n}, "))),
        many(&|n| format!("k{n}: &a{n} x\n")),
        format!("a: &a x\nb: [{}]", long("*a, ")),
        format!("a: |\n{}", long("  x\n")),
        format!("a: \"{}\"", long("\\u0041")),
        format!("a: {}", long("x ")),
        format!("a: {}", long("0")),
    ];
    for text in yaml_documents {
        match yaml::parse::<Value>(&text) {
            Ok(value) => assert!(is_bounded(&value), "{:.40}", text),
            Err(error) => assert!(is_one_short_line(&error), "{error}"),
        }
    }
    let toml_documents = [
        format!("a = {}", long("[")),
        format!("a = {}", long("{a = ")),
        long("[a]\n"),
        long("a."),
        format!("a = [{}]", many(&|n| format!("{n}, "))),
        format!("a = {{{}}}", (0..N).map(|n| format!("k{n} = {n}")).collect::<Vec<_>>().join(", ")),
        many(&|n| format!("k{n} = {n}\n")),
        many(&|n| format!("[[instances]]\nid = \"i-{n}\"\n")),
        format!("a = \"{}\"", long("\\u0041")),
        format!("a = \"{}\"\nb = 1 1", long("é")),
        format!("a = {}", long("0")),
    ];
    for text in toml_documents {
        if let Err(error) = toml_reader::parse::<Map<String, Value>>(&text) {
            assert!(is_one_short_line(&error), "{error}");
        }
    }
}

#[test]
fn a_place_in_toml_is_counted_in_lines_and_characters() {
    for before in ["", "x = 1\n", &format!("x = \"{}\" # é\n", "é".repeat(400)), &"y = 1\n".replace('y', "é")] {
        for (line, column) in [("a = \"é\" = 2", 9), ("a = 99999999999999999999", 5)] {
            let before = before.replace("é = 1", "\"é\" = 1");
            let error = toml_reader::parse::<Value>(&format!("{before}{line}\n")).unwrap_err();
            let lines = before.matches('\n').count() + 1;
            assert!(error.to_string().starts_with(&format!("line {lines}, column {column}: ")), "{error}");
        }
    }
}
