//! Follows values through the text of a shell script without understanding it: which variables a text reads, which take
//! their values, and which commands it consists of.
//!
//! Coarser than `shell`, and for findings and refusals only: nothing is rewritten by it, and it knows no functions.

use std::collections::{BTreeMap, BTreeSet};

use super::shell::is_name;

/// Deepest nesting of substitutions that are looked into.
const MAX_DEPTH: usize = 40;
/// Words before the program of a command.
const KEYWORDS: [&str; 10] = ["if", "then", "else", "elif", "do", "while", "until", "!", "{", "}"];

/// Line of a script, with those that continue it, and its here-documents.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) here: String,
}

impl Line {
    /// Returns the variables that it reads, also in here-documents.
    pub(super) fn reads(&self) -> impl Iterator<Item = &str> {
        mentioned(&self.text).into_iter().chain(mentioned(&self.here))
    }
}

/// Cuts a script into lines, without comments. With `literal`, `$` stays what it is in single quotes as well.
pub(super) fn lines(script: &str, literal: bool) -> Vec<Line> {
    let (mut done, mut line, mut ends, mut quote) = (Vec::new(), Line::default(), Vec::new(), None);
    let mut rest = script;
    while let Some(c) = rest.chars().next() {
        let before = line.text.chars().next_back();
        let blank = before.is_none_or(|c| c.is_whitespace() || ";&|()".contains(c));
        rest = &rest[c.len_utf8()..];
        match (quote, c) {
            (Some('\''), '$') if !literal => line.text.push('\u{1}'),
            (Some(open), c) if c == open => {
                quote = None;
                line.text.push(c);
            }
            (None, '\'' | '"') => {
                quote = Some(c);
                line.text.push(c);
            }
            (None | Some('"'), '\\') => {
                let Some(next) = rest.chars().next() else { break };
                rest = &rest[next.len_utf8()..];
                if next != '\n' {
                    line.text.extend([c, next]);
                }
            }
            (None, '#') if blank => rest = &rest[rest.find('\n').unwrap_or(rest.len())..],
            (None, '<') if line.text.ends_with('<') && !line.text.ends_with("<<") && !rest.starts_with('<') => {
                line.text.push(c);
                ends.extend(delimiter(rest));
            }
            (None, '\n') => {
                for end in std::mem::take(&mut ends) {
                    rest = here_document(rest, &end, &mut line.here);
                }
                done.push(std::mem::take(&mut line));
            }
            (_, c) => line.text.push(c),
        }
    }
    done.push(line);
    done
}

/// Returns the end of a here-document, after `<<`.
fn delimiter(text: &str) -> Option<String> {
    let text = text.strip_prefix('-').unwrap_or(text).trim_start_matches([' ', '\t']);
    let text = text.trim_start_matches(['\'', '"', '\\']);
    let length = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    is_name(&text[..length]).then(|| text[..length].to_owned())
}

/// Adds the lines up to `end`, and returns the text after it.
fn here_document<'a>(text: &'a str, end: &str, here: &mut String) -> &'a str {
    let mut rest = text;
    while !rest.is_empty() {
        let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
        rest = after;
        if line.trim_start_matches('\t') == end {
            break;
        }
        here.push_str(line);
        here.push('\n');
    }
    rest
}

/// Returns the names of variables and positional parameters that a text expands; not those of which it takes the length.
pub(super) fn mentioned(text: &str) -> Vec<&str> {
    let name = |(at, _): (usize, &str)| {
        let rest = &text[at + 1..];
        let inside = rest.strip_prefix('{');
        let rest = inside.map_or(rest, |inside| inside.trim_start_matches('!'));
        let first = rest.chars().next()?;
        let end = |good: fn(char) -> bool| rest.find(|c| !good(c)).unwrap_or(rest.len());
        let length = match first {
            '@' | '*' => 1,
            '0'..='9' if inside.is_none() => 1,
            '0'..='9' => end(|c| c.is_ascii_digit()),
            _ => end(|c| c.is_ascii_alphanumeric() || c == '_'),
        };
        (length > 0).then(|| &rest[..length])
    };
    text.match_indices('$').filter_map(name).collect()
}

/// Returns `names`, and the variables that take their values, by assignments, loops, `read` and `getopts`.
pub(super) fn carriers(lines: &[Line], names: BTreeSet<String>) -> BTreeSet<String> {
    let mut readers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, line) in lines.iter().enumerate() {
        line.reads().for_each(|name| readers.entry(name).or_default().push(index));
        if line.text.contains("getopts") {
            ["1", "@"].into_iter().for_each(|name| readers.entry(name).or_default().push(index));
        }
    }
    let (mut waiting, mut found, mut seen) = (names.iter().cloned().collect::<Vec<_>>(), names, BTreeSet::new());
    while let Some(name) = waiting.pop() {
        for index in readers.get(name.as_str()).into_iter().flatten().filter(|index| seen.insert(**index)) {
            waiting.extend(assigned(&lines[*index].text).into_iter().filter(|name| found.insert(name.clone())));
        }
    }
    found
}

/// Returns the names that a line gives values to.
fn assigned(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in text.match_indices('=') {
        let before = text[..at].trim_end_matches('+');
        let before = if before.ends_with(']') { before.rsplit_once('[').map_or("", |(name, _)| name) } else { before };
        let from = before.rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(0, |at| at + 1);
        // Not beyond ASCII: the character before is a whole one of any length.
        names.extend(before.get(from..).filter(|name| is_name(name)).map(str::to_owned));
    }
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || ";|&()<>'\"".contains(c)).collect();
    for (index, word) in words.iter().enumerate() {
        let taken = match *word {
            "for" | "select" => 1,
            "read" | "mapfile" | "readarray" | "printf" | "getopts" => words.len(),
            _ => 0,
        };
        names.extend(words[index + 1..].iter().take(taken).filter(|name| is_name(name)).map(|name| (*name).to_owned()));
        if *word == "getopts" {
            names.push("OPTARG".to_owned());
        }
    }
    names
}

/// List of commands being read.
#[derive(Default)]
struct Open {
    /// Character that ends it; none for that of the line.
    close: Option<char>,
    text: String,
    double: bool,
}

/// Cuts a line into its commands, also those of substitutions. A command has the text of its substitutions as well.
pub(super) fn commands(text: &str) -> Vec<String> {
    let (mut done, mut open) = (Vec::new(), vec![Open::default()]);
    let mut chars = text.chars().peekable();
    let mut previous = ' ';
    while let Some(c) = chars.next() {
        let deep = open.len() > MAX_DEPTH;
        let top = open.last_mut().expect("the first is never closed");
        let redirects = c == '&' && (matches!(previous, '<' | '>') || chars.peek() == Some(&'>'));
        match c {
            '\\' => top.text.extend([Some(c), chars.next()].into_iter().flatten()),
            '\'' if !top.double => {
                top.text.push(c);
                for c in chars.by_ref() {
                    top.text.push(c);
                    if c == '\'' {
                        break;
                    }
                }
            }
            '"' => {
                top.double = !top.double;
                top.text.push(c);
            }
            '(' if previous == '$' && !deep => open.push(Open { close: Some(')'), ..Open::default() }),
            '`' if top.close != Some('`') && !deep => open.push(Open { close: Some('`'), ..Open::default() }),
            _ if Some(c) == top.close && !top.double => {
                let inner = open.pop().map(|inner| inner.text).unwrap_or_default();
                if let Some(outer) = open.last_mut() {
                    // A single word, as far as the outer command is concerned.
                    outer.text.extend(inner.chars().map(|c| if c.is_whitespace() { '\u{1}' } else { c }));
                }
                done.push(inner);
            }
            '(' if previous == '$' => top.text.push(c),
            ';' | '|' | '&' | '(' | ')' if !top.double && !redirects => done.push(std::mem::take(&mut top.text)),
            c => top.text.push(c),
        }
        previous = c;
    }
    done.extend(open.into_iter().map(|open| open.text));
    done.retain(|command| !command.trim().is_empty());
    done
}

/// Returns the words of a command from its program on: without keywords and assignments before it.
pub(super) fn program(command: &str) -> Vec<&str> {
    let assigns = |word: &str| {
        let name = word.split_once('=').map(|(name, _)| name.trim_end_matches('+'));
        name.is_some_and(|name| is_name(name.split('[').next().unwrap_or(name)))
    };
    let words = words(command).into_iter();
    words.skip_while(|word| KEYWORDS.contains(word) || assigns(word)).collect()
}

/// Splits at blanks outside of quotes.
fn words(command: &str) -> Vec<&str> {
    let (mut words, mut from, mut quote) = (Vec::new(), None, None);
    for (at, c) in command.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, c) if c.is_whitespace() => {
                words.extend(from.take().map(|from| &command[from..at]));
                continue;
            }
            _ => {}
        }
        from = from.or(Some(at));
    }
    words.extend(from.map(|from| &command[from..]));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn lines_have_their_here_documents_and_no_comments() {
        let script = "a \"x\ny\" # $no\nb \\\n c <<-'E' <<F\n$1\n\tE\nf\nF\necho ${#x} $((1<<2)) <<<$y\n";
        let lines = lines(script, true);
        let texts: Vec<(&str, &str)> = lines.iter().map(|line| (line.text.as_str(), line.here.as_str())).collect();
        let wanted =
            [("a \"x\ny\" ", ""), ("b  c <<-'E' <<F", "$1\nf\n"), ("echo ${#x} $((1<<2)) <<<$y", ""), ("", "")];
        assert_eq!(texts, wanted);
        assert_eq!(super::lines("awk '{print $1}'", false)[0].reads().count(), 0);
        assert_eq!(super::lines("awk \"{print '$1'}\"", false)[0].reads().collect::<Vec<_>>(), ["1"]);
    }

    #[test]
    fn variables_are_followed() {
        assert_eq!(mentioned("$a${b:-$12} ${12} $@ ${#c} $# ${!d} $$ é$é"), ["a", "b", "1", "12", "@", "d"]);
        for (script, found) in [
            ("x=$1\ny=\"a $x\"\nz=$y", ["1", "x", "y", "z"].as_slice()),
            ("z=$y\ny=$x\nx=$1", &["1", "x", "y", "z"]),
            ("for a in b $1; do x[$a]=$a; done", &["1", "a", "x"]),
            ("read -r a b <<< \"$1\"\nread c <<E\n$b\nE", &["1", "E", "a", "b", "c"]),
            ("while getopts ab: o; do :; done", &["1", "OPTARG", "do", "done", "o"]),
            ("x=2; echo $1\ny=${#1}\né=$1", &["1", "x"]),
        ] {
            let lines = lines(script, false);
            assert_eq!(carriers(&lines, of(&["1"])), of(found), "{script}");
        }
    }

    #[test]
    fn commands_are_cut_outside_of_quotes() {
        for (line, wanted) in [
            ("a 'b;c' && d \"e|f\" 2>&1; (g)", ["a 'b;c' ", " d \"e|f\" 2>&1", "g"].as_slice()),
            ("x=$(a \"$b\") c `d`", &["a \"$b\"", "d", "x=$a\u{1}\"$b\" c d"]),
            ("\"$(a; b)\"", &["a", " b", "\"$\u{1}b\""]),
        ] {
            assert_eq!(commands(line), wanted, "{line}");
        }
        assert_eq!(program("if ! A=b B[1]='c d' curl -u \"a b\""), ["curl", "-u", "\"a b\""]);
        assert!(program("A=b").is_empty());
        assert!(commands(&"$(".repeat(10_000)).len() <= MAX_DEPTH + 1);
    }
}
