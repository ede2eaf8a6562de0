//! Shared by the rules: the language of a script, values that may be harmful, and Python source without strings and
//! comments.

use serde_json::Value;

use crate::pack::param::check::check;
use crate::pack::param::{Schema, Type};

/// Language of a script by its first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    Shell,
    Python,
    Other,
}

pub(super) fn language(text: &str) -> Language {
    let first = text.lines().next().unwrap_or_default();
    let program = first.rsplit(['/', ' ']).find(|part| !part.starts_with('-') && !part.is_empty()).unwrap_or_default();
    match program {
        "sh" | "bash" | "dash" | "ksh" | "ash" => Language::Shell,
        program if program.starts_with("python") => Language::Python,
        _ => Language::Other,
    }
}

/// Texts that a shell would split, expand or run.
const HARMFUL: [&str; 9] = ["a b", "a*", "*", "a;b", "$(a)", "`a`", "a\tb", "/a b", "/a*"];

/// True if the parameter allows a value that is harmful if not quoted. Numbers, choices and texts with a narrow pattern
/// are harmless.
pub(super) fn may_be_harmful(schema: &Schema) -> bool {
    if schema.enumeration.is_some() {
        return false;
    }
    let types = schema.types.as_ref().map_or(&[Type::String][..], |types| types.as_slice());
    if types.iter().all(|kind| matches!(kind, Type::Integer | Type::Number | Type::Boolean | Type::Null)) {
        return false;
    }
    !types.contains(&Type::String) || HARMFUL.iter().any(|text| check(schema, &Value::from(*text)).is_empty())
}

/// Returns the lines of a Python script, numbered from 1, without comments and triple-quoted strings.
pub(super) fn python_lines(text: &str) -> Vec<(usize, String)> {
    let mut prose = None;
    text.lines().enumerate().map(|(index, line)| (index + 1, code_of(line, &mut prose))).collect()
}

/// Returns the code of one line; `prose` is the end of an open triple-quoted string.
fn code_of(line: &str, prose: &mut Option<&'static str>) -> String {
    let (mut code, mut rest, mut quote) = (String::new(), line, None);
    while let Some(c) = rest.chars().next() {
        if let Some(end) = *prose {
            let Some(at) = rest.find(end) else { return code };
            rest = &rest[at + end.len()..];
            *prose = None;
            continue;
        }
        match (quote, c) {
            (None, '#') => return code,
            (None, '"' | '\'') => {
                *prose = ["\"\"\"", "'''"].into_iter().find(|end| rest.starts_with(end));
                if prose.is_some() {
                    rest = &rest[3..];
                    continue;
                }
                quote = Some(c);
            }
            (Some(_), '\\') => {
                let escaped = rest[1..].chars().next();
                code.push(c);
                code.extend(escaped);
                rest = &rest[1 + escaped.map_or(0, char::len_utf8)..];
                continue;
            }
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
        code.push(c);
        rest = &rest[c.len_utf8()..];
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_decides_the_language() {
        for (line, expected) in [
            ("#!/bin/sh", Language::Shell),
            ("#!/usr/bin/env bash", Language::Shell),
            ("#!/bin/bash -eu", Language::Shell),
            ("#!/usr/bin/env python3", Language::Python),
            ("#!/usr/bin/python3.11 -B", Language::Python),
            ("#!/usr/bin/perl", Language::Other),
            ("", Language::Other),
        ] {
            assert_eq!(language(line), expected, "{line}");
        }
    }

    #[test]
    fn only_unrestricted_parameters_are_harmful() {
        let free = |json: &str| may_be_harmful(&serde_json::from_str(json).unwrap());
        for narrow in [
            "{\"type\":\"integer\"}",
            "{\"type\":\"boolean\"}",
            "{\"type\":\"string\",\"enum\":[\"a\",\"b\"]}",
            "{\"type\":\"string\",\"pattern\":\"^[a-z0-9_]+$\"}",
        ] {
            assert!(!free(narrow), "{narrow}");
        }
        for wide in
            ["{}", "{\"type\":\"string\"}", "{\"type\":\"string\",\"pattern\":\"^/.*$\"}", "{\"type\":\"array\"}"]
        {
            assert!(free(wide), "{wide}");
        }
    }

    #[test]
    fn comments_and_strings_are_not_code() {
        let text = "x = 'a # b'  # os.system(y)\n\"\"\"os.system(z)\nmore\"\"\" + w\n'''one''' 'it\\'s'\n";
        let lines: Vec<String> = python_lines(text).into_iter().map(|(_, line)| line.trim().to_owned()).collect();
        assert_eq!(lines, ["x = 'a # b'", "", "+ w", "'it\\'s'"]);
    }
}
