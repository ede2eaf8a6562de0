//! Expressions of Python and Ruby, as far as their text tells them: items of lists, literals and assignments.

use std::collections::BTreeMap;

/// Longest list of arguments that is read, in bytes.
pub(super) const MAX_ARGUMENTS: usize = 4096;

/// Maximum number of calls or lists of one kind that are read.
pub(super) const MAX_CALLS: usize = 2000;

/// Returns the rest of the line at the beginning of a text, as far as it is read.
pub(super) fn line(text: &str) -> &str {
    let mut end = text.len().min(MAX_ARGUMENTS);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].split('\n').next().unwrap_or_default()
}

/// Returns the places after a text, such as the name of a call.
pub(super) fn places<'a>(text: &'a str, after: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(after).map(move |(at, _)| at + after.len()).take(MAX_CALLS)
}

/// Returns the text with empty lines in the place of its comments.
pub(super) fn without_comments(text: &str) -> String {
    // The first line of a program names its language.
    let is_comment = |line: &str| line.trim_start().starts_with('#') && !line.starts_with("#!");
    text.lines().map(|line| if is_comment(line) { "\n".to_owned() } else { format!("{line}\n") }).collect()
}

/// Returns where the brackets around the end of a text open.
pub(super) fn opening(before: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in before.char_indices().rev().take(MAX_ARGUMENTS) {
        match c {
            ')' | ']' | '}' => depth += 1,
            '(' if depth == 0 => return Some(at),
            '(' | '[' | '{' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

/// True if the bracket around the beginning of a text closes at its end.
pub(super) fn is_closed(text: &str) -> bool {
    parts(text).last().is_some_and(|(_, end)| end + 1 == text.len())
}

/// Returns the items of a list up to its closing bracket.
pub(super) fn items(text: &str) -> Vec<&str> {
    parts(text).into_iter().map(|(item, _)| item).collect()
}

/// Returns the items of a list, each with its end; none without a closing bracket.
fn parts(text: &str) -> Vec<(&str, usize)> {
    let (mut items, mut from, mut depth, mut quote) = (Vec::new(), 0, 0_usize, None);
    for (at, c) in text.char_indices().take(MAX_ARGUMENTS) {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') if depth == 0 => {
                items.push((text[from..at].trim(), at));
                return items;
            }
            (None, ')' | ']' | '}') => depth -= 1,
            (None, ',') if depth == 0 => {
                items.push((text[from..at].trim(), at));
                from = at + 1;
            }
            _ => {}
        }
    }
    Vec::new()
}

/// Returns the last simple expression that each variable is set to.
pub(super) fn assigned(text: &str) -> BTreeMap<&str, &str> {
    let pairs = text.lines().filter_map(|line| line.trim().split_once('='));
    pairs.map(|(name, value)| (name.trim(), value.trim())).filter(|(name, _)| is_name(name)).collect()
}

/// Returns the text of a literal.
pub(super) fn literal(expression: &str) -> Option<&str> {
    ['\'', '"'].iter().find_map(|quote| {
        let inside = expression.strip_prefix(*quote)?.strip_suffix(*quote)?;
        (!inside.contains([*quote, '\\'])).then_some(inside)
    })
}

/// True for a plain name.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}
