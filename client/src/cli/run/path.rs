//! Paths into a structured result: `.disks[0].used_percent`.
//!
//! | part | selects |
//! |---|---|
//! | `.` alone | the whole result |
//! | `.name` | a field; letters, digits, `_` and `-` |
//! | `["any name"]` | a field, as a JSON string |
//! | `[0]`, `[-1]` | an item, counted from the start or the end |
//!
//! There are no wildcards and no filters: `--json` and jq do that.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

/// Maximum number of parts of a path.
const MAX_PARTS: usize = 64;

/// Path to one value of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResultPath {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Field(String),
    Item(i64),
}

impl ResultPath {
    /// Returns the value at this path, if `result` has it.
    pub(super) fn find<'a>(&self, result: &'a Value) -> Option<&'a Value> {
        self.parts.iter().try_fold(result, |value, part| match (part, value) {
            (Part::Field(name), Value::Object(map)) => map.get(name),
            (Part::Item(at), Value::Array(items)) => {
                let at = if *at < 0 { i64::try_from(items.len()).ok()? + at } else { *at };
                items.get(usize::try_from(at).ok()?)
            }
            _ => None,
        })
    }
}

impl fmt::Display for ResultPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for ResultPath {
    type Err = String;

    fn from_str(text: &str) -> Result<ResultPath, String> {
        const SYNTAX: &str = "write a path such as .name, .disks[0].used, [\"a name\"][-1], or . for the whole result; \
                              for wildcards and filters use --json with jq";
        let wrong = || SYNTAX.to_owned();
        let mut parts = Vec::new();
        let mut rest = text;
        if text == "." {
            rest = "";
        } else if text.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() && parts.len() <= MAX_PARTS {
            let (part, after) = field(rest).or_else(|| bracket(rest)).ok_or_else(wrong)?;
            parts.push(part);
            rest = after;
        }
        if parts.len() > MAX_PARTS {
            return Err(format!("a path has at most {MAX_PARTS} parts"));
        }
        Ok(ResultPath { text: text.to_owned(), parts })
    }
}

/// Reads `.name`; also before a bracket: `.["name"]`, as jq writes it.
fn field(text: &str) -> Option<(Part, &str)> {
    let rest = text.strip_prefix('.')?;
    if rest.starts_with('[') {
        return bracket(rest);
    }
    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')).unwrap_or(rest.len());
    (end > 0).then(|| (Part::Field(rest[..end].to_owned()), &rest[end..]))
}

/// Reads `[number]` or `["name"]`.
fn bracket(text: &str) -> Option<(Part, &str)> {
    let rest = text.strip_prefix('[')?;
    if rest.starts_with('"') {
        let mut names = serde_json::Deserializer::from_str(rest).into_iter::<String>();
        let name = names.next()?.ok()?;
        let after = rest[names.byte_offset()..].strip_prefix(']')?;
        return Some((Part::Field(name), after));
    }
    let (number, after) = rest.split_once(']')?;
    let digits = number.strip_prefix('-').unwrap_or(number);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| number.parse().ok().map(|at| (Part::Item(at), after))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_select_fields_and_items() {
        let result = json!({"a": {"b-c_1": [10, {"x y": "z"}, [7]]}, "": 1, "é": 2});
        for (path, wanted) in [
            (".", Some(&result)),
            (".a.b-c_1[0]", Some(&json!(10))),
            (".a[\"b-c_1\"][1][\"x y\"]", Some(&json!("z"))),
            (".a.[\"b-c_1\"][-1][0]", Some(&json!(7))),
            ("[\"\"]", Some(&json!(1))),
            (".é", Some(&json!(2))),
            (".a.b-c_1[3]", None),
            (".a.b-c_1[-4]", None),
            (".a[0]", None),
            (".nothing.at.all", None),
        ] {
            assert_eq!(path.parse::<ResultPath>().unwrap().find(&result), wanted, "{path}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in [
            "",
            "a",
            "..",
            ".a.",
            ".a[",
            ".a[]",
            ".a[x]",
            ".a[+1]",
            ".a[\"x]",
            ".a b",
            ".[*]",
            ".a[1",
            "[99999999999999999999]",
        ] {
            assert!(text.parse::<ResultPath>().unwrap_err().contains(".disks[0]"), "{text}");
        }
        assert!(".a".repeat(65).parse::<ResultPath>().unwrap_err().contains("at most 64"));
    }
}
