//! Tests of the readers: accepted documents, refused documents, and messages.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::*;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Class {
    Diagnostic,
    Remediation,
    Maintenance,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    name: String,
    #[serde(default)]
    count: Option<u16>,
    #[serde(default)]
    on: bool,
    #[serde(default)]
    class: Option<Class>,
    #[serde(default)]
    timeout: Option<crate::base::quantity::Span>,
    #[serde(default)]
    limits: BTreeMap<String, crate::base::quantity::Bytes>,
    #[serde(default)]
    hosts: Vec<String>,
}

/// Words of serde and Rust that no user should meet.
fn is_plain(said: &str) {
    for word in [
        "expected",
        "invalid type",
        "invalid value",
        "struct",
        "enum",
        "u16",
        "u32",
        "string",
        "variant",
        "field",
        "sequence",
    ] {
        assert!(!said.contains(word), "{word:?} in {said}");
    }
}

#[test]
fn toml_errors_name_line_and_key_in_plain_words() {
    for (text, says) in [
        ("name = \"a\"\ncount = \"x\"\n", "line 2, column 9: count: must be a whole number from 0 to 65535, not text"),
        ("name = \"a\"\ncount = 70000\n", "line 2, column 9: count: must be a whole number from 0 to 65535"),
        (
            "name = \"a\"\nlimits = {memory = true}\n",
            "line 2, column 20: limits.memory: must be a size such as 256MiB, not true or false",
        ),
        (
            "name = \"a\"\nclass = \"cure\"\n",
            "line 2, column 9: class: must be one of diagnostic, remediation, maintenance, not \"cure\"",
        ),
        ("name = \"a\"\ntimeout = \"soon\"\n", "line 2, column 11: timeout: \"soon\" is not a duration"),
        ("name = \"a\"\nhosts = \"x\"\n", "line 2, column 9: hosts: must be a list, not text"),
        ("name = \"a\"\nhosts = [\"x\", 3]\n", "line 2, column 15: hosts[1]: must be text, not a whole number"),
        ("count = 1\n", "the key \"name\" is missing"),
        ("name = \"a\"\nnmae = 1\n", "line 2, column 1: unknown key \"nmae\"; known keys: name, count"),
        ("name = \"a\"\nname = \"b\"\n", "line 2, column 1: the key \"name\" is here already; remove one of the two"),
        ("name = a\n", "line 1, column 8: not TOML: "),
        ("name = 2026-11-28\n", "line 1, column 8: name: is a date or time; write text in quotes"),
    ] {
        let said = toml::parse::<Settings>(text).unwrap_err().to_string();
        assert!(said.contains(says), "{text:?}: {said}");
        assert!(!said.contains('\n') && said.matches("line ").count() <= 1, "{text:?}: {said}");
        if !said.contains("not TOML") {
            is_plain(&said);
        }
    }
    let read: Settings = toml::parse("name = 'a'\ncount = 0x10\non = true\n[limits]\nmemory = '1KiB'\n").unwrap();
    assert_eq!((read.count, read.on, read.limits["memory"].0), (Some(16), true, 1024));
}

#[cfg(feature = "yaml")]
mod yaml_reader {
    use super::*;

    fn read(text: &str) -> Result<Value, String> {
        yaml::parse::<Value>(text).map_err(|e| e.to_string())
    }

    #[test]
    fn a_value_on_which_yaml_parsers_differ_is_refused() {
        for (text, says) in [
            ("0644", "begins with 0"),
            ("-007", "begins with 0"),
            ("00", "begins with 0"),
            ("08", "begins with 0"),
            ("012345678901", "begins with 0"),
            ("01.5", "begins with 0"),
            ("0o644", "0o and 0b"),
            ("0b101", "0o and 0b"),
            ("1_000", "underscores"),
            ("0xFF_FF", "underscores"),
            ("1:30", "base 60"),
            ("22:40:00", "base 60"),
            ("1e3", "exponent"),
            ("1234e56", "exponent"),
            ("99999999999999999999", "too large"),
            ("-9223372036854775809", "too large"),
            ("1.0e+999", "too large"),
            ("1.00000000000000000001", "more digits"),
            (".inf", "infinity"),
            ("-.INF", "infinity"),
            (".nan", "infinity"),
        ] {
            let said = read(&format!("a:\n  b: [1, {text}]\n")).unwrap_err();
            assert!(said.starts_with("line 2, column 10: a.b[1]: ") && said.contains(says), "{text}: {said}");
            assert!(!said.contains(text), "the value may be a secret: {said}");
            // Quoted it is text; where text is wanted it is the text as written.
            assert_eq!(read(&format!("'{text}'")), Ok(json!(text)));
            assert_eq!(read(&format!("!!str {text}")), Ok(json!(text)));
            assert_eq!(yaml::parse::<String>(text).unwrap(), text);
        }
    }

    #[test]
    fn a_value_on_which_all_parsers_agree_is_accepted() {
        for (text, value) in [
            ("", Value::Null),
            ("~", Value::Null),
            ("null", Value::Null),
            ("0", json!(0)),
            ("-12", json!(-12)),
            ("+5", json!(5)),
            ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
            ("0x1F", json!(31)),
            ("1.5", json!(1.5)),
            (".5", json!(0.5)),
            ("0.1", json!(0.1)),
            ("-0.5", json!(-0.5)),
            ("1.0e+3", json!(1000.0)),
            // As StackStorm reads them.
            ("yes", json!(true)),
            ("On", json!(true)),
            ("no", json!(false)),
            ("OFF", json!(false)),
            ("TRUE", json!(true)),
            ("y", json!("y")),
            ("n", json!("n")),
            ("2026-11-28", json!("2026-11-28")),
            ("2026-11-28T10:00:00Z", json!("2026-11-28T10:00:00Z")),
            ("1.2.3", json!("1.2.3")),
            ("0x", json!("0x")),
            ("09:30", json!("09:30")),
            ("8080:80", json!("8080:80")),
            ("10m", json!("10m")),
            ("inf", json!("inf")),
            ("-", json!([null])),
            ("1_a", json!("1_a")),
            ("e3", json!("e3")),
            (".", json!(".")),
            ("|\n  a\n  b\n", json!("a\nb\n")),
            ("\"a\\u0041\"", json!("aA")),
        ] {
            // In base 60 by the letter of YAML 1.1; no reader takes a first part with a zero for a number.
            if text == "09:30" {
                assert!(read(text).is_err());
                continue;
            }
            assert_eq!(read(text), Ok(value), "{text:?}");
        }
        let read: Settings = yaml::parse("name: 1.10\nhosts: [no, 0644, 3]\ncount:\n").unwrap();
        assert_eq!((read.name.as_str(), read.hosts.join(" ").as_str(), read.count), ("1.10", "no 0644 3", None));
    }

    #[test]
    fn a_tag_is_never_dropped() {
        for (text, tag, line) in [
            ("password: !vault |\n  $ANSIBLE_VAULT;1.1\n", "!vault", 1),
            ("a: 1\nhost: !env DB_HOST\n", "!env", 2),
            ("a: !!binary aGk=\n", "!!binary", 1),
            ("a: !!set {x: null}\n", "!!set", 1),
            ("a: !mine [1]\n", "!mine", 1),
            ("a: !!timestamp 2026-11-28\n", "!!timestamp", 1),
            ("!k a: 1\n", "!k", 1),
            ("a: !<tag:example.com,2000:x> 1\n", "!<tag:example.com,2000:x>", 1),
        ] {
            let error = yaml::parse::<Value>(text).unwrap_err();
            let said = error.to_string();
            assert!(said.contains(&format!("the tag {tag} is not supported")) && error.line() == Some(line), "{said}");
            // A password may begin with '!'.
            assert!(!error.without_values().contains(tag), "{}", error.without_values());
        }
        assert_eq!(
            read("a: !!int 3\nb: !!str 3\nc: ! 3\nd: !!map {}\ne: !!seq []\nf: !!bool yes\ng: !!float 1\nh: !!null ~"),
            Ok(json!({"a": 3, "b": "3", "c": "3", "d": {}, "e": [], "f": true, "g": 1, "h": null}))
        );
        for wrong in ["!!int x", "!!bool 3", "!!null x", "!!int 1.5", "!!map x", "!!seq {}"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn keys_are_text_and_unique() {
        assert_eq!(read("on: 1\n0644: 2\n~: 3\n"), Ok(json!({"on": 1, "0644": 2, "~": 3})));
        let said = read("a: 1\nb:\n  c: 2\n  d: 3\n  c: 4\n").unwrap_err();
        assert_eq!(said, "line 5, column 3: b: duplicate key \"c\", first in line 3; remove one of the two");
        for (wrong, says) in
            [("[a]: 1\n", "a key must be text"), (": 1\n", "no key before the colon"), ("{a: 1}: 2\n", "must be text")]
        {
            let said = read(wrong).unwrap_err();
            assert!(said.contains(says), "{wrong}: {said}");
        }
    }

    #[test]
    fn aliases_and_merge_keys_are_written_out_within_bounds() {
        let text = "base: &base {x: 1, y: 2}\nmore: &more {y: 3, z: 4}\na: {<<: *base, x: 5}\nb: {<<: [*base, *more]}\nc: *base\n'<<': 1\n";
        let read_ = read(text).unwrap();
        assert_eq!(read_["a"], json!({"x": 5, "y": 2}));
        assert_eq!(read_["b"], json!({"x": 1, "y": 2, "z": 4}));
        assert_eq!((&read_["c"], &read_["<<"]), (&json!({"x": 1, "y": 2}), &json!(1)));
        for (wrong, says) in [
            ("a: *none\n", "not YAML"),
            ("a: &a [*a]\n", "a value that contains it"),
            ("a: {<<: 3}\n", "<< takes a map"),
        ] {
            let said = read(wrong).unwrap_err();
            assert!(said.contains(says), "{wrong}: {said}");
        }
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        let mut tower = "a0: &a0 x\n".to_owned();
        for n in 1..100 {
            bomb += &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", "));
            tower += &format!("a{n}: &a{n} [*a{}]\n", n - 1);
        }
        assert!(read(&bomb).unwrap_err().contains("too large"));
        assert!(read(&tower).unwrap_err().contains("deep"));
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), vec!["*a"; 1000].join(", "));
        assert!(read(&long).unwrap_err().contains("too large"));
        assert!(read(&format!("{}{}", "[".repeat(100), "]".repeat(100))).is_err());
        assert!(read(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))).is_err());
    }

    #[test]
    fn line_ends_of_any_kind_are_accepted() {
        assert_eq!(read("\u{feff}a: 1\r\nb: |\r\n  x\r\n  y\r\n"), Ok(json!({"a": 1, "b": "x\ny\n"})));
        assert_eq!(read("---\na: 1\n...\n"), Ok(json!({"a": 1})));
        assert_eq!(read("# nothing\n"), Ok(Value::Null));
        let said = read("a: 1\n---\nb: 2\n").unwrap_err();
        assert!(said.starts_with("line 2, column 1: a second document"), "{said}");
        for wrong in [
            "%YAML 1.1\n---\na: 1\n",
            "a:\n\tb: 1\n",
            "a: [1, 2\n",
            "a: \"x\n",
            "a: 1\nb\n",
            "a: b: c\n",
            "a: \u{0}x\n",
        ] {
            let error = yaml::parse::<Value>(wrong).unwrap_err();
            assert!(error.line().is_some() && !error.to_string().contains('\n'), "{wrong:?}: {error}");
            assert!(error.without_values().ends_with("not YAML"), "{error}");
        }
    }

    #[test]
    fn errors_name_keys_and_valid_values() {
        for (text, says) in [
            ("name: a\ncount: many\n", "line 2, column 8: count: must be a whole number from 0 to 65535, not text"),
            ("name: a\ncount: -1\n", "count: must be a whole number from 0 to 65535"),
            ("name: a\non: maybe\n", "line 2, column 5: on: must be true or false, not text"),
            ("name: a\nhosts: {}\n", "hosts: must be a list, not a map of keys"),
            ("name: a\nhosts: [[]]\n", "hosts[0]: must be text, not a list"),
            ("name: a\nlimits: []\n", "limits: must be a map of keys, not a list"),
            ("name: a\nlimits: {memory: }\n", "limits.memory: must be a size such as 256MiB, not empty"),
            ("name: a\nclass: cure\n", "class: must be one of diagnostic, remediation, maintenance, not \"cure\""),
            ("name: a\nclass: [x]\n", "class: must be one of diagnostic, remediation, maintenance"),
            ("name:\n", "name: must be text, not empty"),
            ("{}", "line 1, column 1: the key \"name\" is missing"),
            ("[]", "must be a map of keys, not a list"),
            ("name: a\ntiemout: 3\n", "line 2, column 1: unknown key \"tiemout\"; known keys: name,"),
        ] {
            let said = yaml::parse::<Settings>(text).unwrap_err().to_string();
            assert!(said.contains(says), "{text:?}: {said}");
            is_plain(&said);
        }
    }
}
