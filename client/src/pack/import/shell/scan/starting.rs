//! Code of other languages in the words of a script, by which these give text to a shell: pipes of awk, the command `e` of
//! sed, quotes of perl that run. What such code reads, from variables or its input, is not followed.

use super::super::grammar::Input;
use super::super::{has_word, readers};

/// Languages, and the words and signs by which their code starts programs.
const STARTING: &[(&str, &[&str], &[&str])] = &[
    ("perl", &["system", "exec", "qx"], &["`", "/ee", "}ee"]),
    ("ruby", &["system", "exec", "spawn"], &["`", "%x", "popen"]),
    ("php", &["system", "exec", "popen"], &["`"]),
];
/// The same where what follows is not the author's text.
const NAMING: &[&str] = &[
    "`$",
    "`#",
    "qx($",
    "qx{$",
    "qx/$",
    "%x(#",
    "%x{#",
    "%x[#",
    "system($",
    "system $",
    "exec($",
    "exec $",
    "popen($",
    "system(ENV",
    "exec(ENV",
    "system ENV",
    "exec ENV",
    "/ee",
    "}ee",
];

/// Returns a value for code of this program that gives text to a shell, or starts what text names: `true` where text that is not
/// the author's may begin a command.
pub(super) fn starts_programs(program: &str, code: &str) -> Option<bool> {
    let language = program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    match language {
        "awk" | "gawk" | "mawk" | "nawk" => {
            let calls = code.match_indices("system").map(|(at, word)| begins_free(&code[at + word.len()..]));
            calls.filter(|_| has_word(code, "system")).chain(pipes_in_awk(code)).max()
        }
        "sed" | "gsed" => runs_in_sed(code),
        _ => {
            let known = STARTING.iter().find(|(known, ..)| *known == language);
            let (_, words, signs) = known?;
            let has = words.iter().any(|word| has_word(code, word)) || signs.iter().any(|sign| code.contains(sign));
            has.then(|| NAMING.iter().any(|way| code.contains(way)))
        }
    }
}

/// Returns a value if it prints to a command that is more than one literal, or to one that runs what it reads.
fn pipes_in_awk(code: &str) -> Option<bool> {
    let (mut statement, mut rest, mut found) = (String::new(), code, None);
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = after;
        match c {
            '"' => {
                statement.push(c);
                rest = literal(after).1;
            }
            '|' if after.starts_with('|') => rest = &after[1..],
            '|' if prints(&statement) => found = found.max(piped(&statement, after)),
            '{' | '}' | ';' | '\n' => statement.clear(),
            c => statement.push(c),
        }
    }
    found
}

/// Returns a value for the text after a pipe of awk, unless it is a literal without a program that runs its input.
fn piped(statement: &str, after: &str) -> Option<bool> {
    let command = after.trim_start_matches('&').trim_start();
    let Some(text) = command.strip_prefix('"') else {
        return (!command.starts_with("getline")).then_some(true);
    };
    let (command, rest) = literal(text);
    let is_all = rest.trim_start().chars().next().is_none_or(|c| ";}\n".contains(c));
    let separates = |c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c));
    let runs = |word: &str| readers::grammar(word).is_some_and(|grammar| grammar.input != Input::Never);
    if command.split(separates).any(runs) {
        let printed = statement.rsplit("print").next().unwrap_or_default();
        return Some(begins_free(printed.trim_start_matches('f')));
    }
    (!is_all).then(|| command.trim().is_empty())
}

/// True if the first operand of a call is no literal.
fn begins_free(operands: &str) -> bool {
    !operands.trim_start_matches([' ', '(']).starts_with('"')
}

fn prints(statement: &str) -> bool {
    has_word(statement, "print") || has_word(statement, "printf")
}

/// Splits text behind a quote at the end of the literal.
fn literal(text: &str) -> (&str, &str) {
    let at = end_of(text, '"');
    (&text[..at], text.get(at + 1..).unwrap_or_default())
}

/// Returns the place of a character that no backslash is before, or the end.
fn end_of(text: &str, end: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if c == end && !escaped {
            return at;
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

/// Returns a value for the command `e`, and for `s` with the flag `e`.
fn runs_in_sed(code: &str) -> Option<bool> {
    let between = |c: char| c.is_whitespace() || c.is_ascii_digit() || "{};,$!~+".contains(c);
    let mut rest = code.trim_start_matches(between);
    while let Some(command) = rest.chars().next() {
        let text = &rest[command.len_utf8()..];
        rest = match (command, text.chars().next()) {
            ('e', _) => return Some(true),
            ('/', _) => behind(text, '/'),
            ('\\', Some(end)) => behind(&text[end.len_utf8()..], end),
            ('s' | 'y', Some(end)) => {
                let pattern = &text[end.len_utf8()..];
                let replacement = behind(pattern, end);
                let flags = behind(replacement, end);
                let length = flags.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(flags.len());
                // The name of a file follows `w`.
                let to_file = flags[..length].find('w');
                if command == 's' && flags[..to_file.unwrap_or(length)].contains('e') {
                    // A word that is put before all else.
                    let is_word = replacement.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/');
                    return Some(!(is_word && pattern.starts_with('^') && pattern[1..].starts_with(end)));
                }
                if to_file.is_some() { next_line(flags) } else { &flags[length..] }
            }
            ('a' | 'i' | 'c', _) => behind_text(text),
            ('r' | 'R' | 'w' | 'W' | '#', _) => next_line(text),
            ('b' | 't' | 'T' | ':', _) => &text[text.find([';', '\n', '}']).unwrap_or(text.len())..],
            _ => text,
        }
        .trim_start_matches(between);
    }
    None
}

/// Returns the text behind the first character that no backslash is before.
fn behind(text: &str, end: char) -> &str {
    text.get(end_of(text, end) + end.len_utf8()..).unwrap_or_default()
}

fn next_line(text: &str) -> &str {
    text.split_once('\n').map_or("", |(_, after)| after)
}

/// Returns what follows the lines of a text, all but the last of which end in a backslash.
fn behind_text(text: &str) -> &str {
    let mut rest = text;
    while let Some((line, after)) = rest.split_once('\n') {
        rest = after;
        if !line.ends_with('\\') {
            return rest;
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_that_starts_programs_is_told_from_other_code() {
        for (program, code) in [
            ("awk", "{print | x}"),
            ("awk", "{ print $1 |& x }"),
            ("gawk", "{if (x) printf \"%s\", $1 | \"mail \" x}"),
            ("awk", "BEGIN { print \"a;b\" | (\"ls \" x) }"),
            ("awk", "{print \"rm \" $1 | \"sh\"}"),
            ("awk", "{print $1 | \"xargs rm\"; close(\"x\")}"),
            ("mawk", "{print | ENVIRON[\"X\"]}"),
            ("awk", "{system (\"ls \" $1)}"),
            ("sed", "s/a/b/e"),
            ("sed", "s/^/ls /ge; p"),
            ("sed", "1e"),
            ("sed", "/x/e"),
            ("sed", "s|a/e|b|Ie"),
            ("sed", "\\|x|{s,a,b,;e\n}"),
            ("sed", "$a\\\nexport\ne"),
            ("perl", "s/.*/qx($&)/e"),
            ("perl5.30", "s/(.*)/$1/ee"),
            ("perl", "print `$_`"),
            ("ruby", "puts %x(#{$x})"),
            ("ruby", "IO.popen(x)"),
        ] {
            assert!(starts_programs(program, code).is_some(), "{program} {code}");
        }
        for (program, code, names) in [
            ("awk", "{print | x}", true),
            ("awk", "{print | \"mail \" x}", false),
            ("awk", "{print $1 | \"sh\"}", true),
            ("awk", "{printf(\"rm %s\", $1) | \"sh\"}", false),
            ("awk", "{system(x)}", true),
            ("awk", "{system(\"ls \" x)}", false),
            ("sed", "s/^/ls /e", false),
            ("sed", "s/^/&/e", true),
            ("sed", "s/a/ls /e", true),
            ("sed", "1e", true),
            ("perl", "print `date`", false),
            ("perl", "print `$_`", true),
        ] {
            assert_eq!(starts_programs(program, code), Some(names), "{program} {code}");
        }
        for (program, code) in [
            ("awk", "/a|b/ {print}"),
            ("awk", "$1 ~ /a|b/ || x {print $2; y = x || z}"),
            ("awk", "{print | \"sort -k 2\"}"),
            ("awk", "{print \"a | b\", x | \"cat 1>&2\" }"),
            ("awk", "BEGIN {\"date\" | getline d; print d}"),
            ("sed", "s/e/e/g"),
            ("sed", "/e/d; y/e/f/"),
            ("sed", "s/a/b/w e"),
            ("sed", "$a export X"),
            ("sed", "$a\\\nexport X\\\nexport Y"),
            ("sed", "b end\n:end\ns,\\,e,x,"),
            ("sed", "s/a/\u{1}/"),
            ("perl", "s/a/b/e; print"),
            ("python3", "system(x)"),
            ("jq", "system"),
        ] {
            assert_eq!(starts_programs(program, code), None, "{program} {code}");
        }
    }

    #[test]
    fn code_of_sed_that_ends_anywhere_is_read() {
        for code in
            ["s", "s/", "s/a", "s/a/", "s/a/b", "s/a/b\\", "\\", "\\x", "/", "y", "a", "a\\", "sé", "sée", "{", ":"]
        {
            assert_eq!((runs_in_sed(code), pipes_in_awk(code)), (None, None), "{code}");
        }
        assert_eq!(runs_in_sed("sébécée"), Some(true));
    }
}
