//! `requirements.txt`: what a pack needs of Python, as far as a pack may say it.
//!
//! A pack names distributions, versions and hashes. Where they come from, and whether code of theirs may run while they
//! are installed, is the site's to say (`[python]` in `agent.toml`): so no option of pip's, no address, no path and no
//! other file is taken here, although pip would take them. What passes is a plain list that pip reads as it is read here.

use std::sync::LazyLock;

use regex_lite::Regex;

/// The most distributions that a pack may name.
pub const MAX_REQUIREMENTS: usize = 500;

/// One distribution that a pack needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The line on which it stands, from 1.
    pub line: usize,
    /// Its name as written.
    pub name: String,
    /// Exactly one version fits.
    pub pinned: bool,
    /// It carries the hashes of what may be installed.
    pub hashed: bool,
}

/// A line that a pack may not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {text:?} {why}")]
pub struct RequirementError {
    line: usize,
    text: String,
    why: String,
}

const SHAPE: &str = r"^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[[A-Za-z0-9._,\s-]*\])?\s*((?:(?:===|==|~=|!=|<=|>=|<|>)\s*[A-Za-z0-9.*+!_-]+\s*(?:,\s*)?)*)$";
static REQUIREMENT: LazyLock<Regex> = LazyLock::new(|| Regex::new(SHAPE).expect("a valid pattern"));

/// Reads the file; everything that is wrong with it at once.
pub fn requirements(text: &str) -> Result<Vec<Requirement>, Vec<RequirementError>> {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    // Python ends a line at more characters than Rust does: what is a comment here could be an option there.
    let foreign = |c: char| (c.is_control() && !matches!(c, '\t' | '\n')) || matches!(c, '\u{2028}' | '\u{2029}');
    for (index, line) in text.lines().enumerate().filter(|(_, line)| line.contains(foreign)) {
        let text = line.escape_debug().take(80).collect();
        bad.push(RequirementError { line: index + 1, text, why: "has a control character".to_owned() });
    }
    for (line, text) in logical_lines(text) {
        match one(line, &text) {
            Ok(requirement) => good.push(requirement),
            Err(why) => bad.push(RequirementError { line, text: text.chars().take(80).collect(), why }),
        }
    }
    if good.len() > MAX_REQUIREMENTS {
        let why = format!("is one of more than {MAX_REQUIREMENTS} requirements; a pack needs less");
        bad.push(RequirementError {
            line: good[MAX_REQUIREMENTS].line,
            text: good[MAX_REQUIREMENTS].name.clone(),
            why,
        });
    }
    if bad.is_empty() { Ok(good) } else { Err(bad) }
}

/// Lines without comments and joined at a final `\`, each with the number of its first, as pip has them.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        let is_comment = line.trim_start().starts_with('#');
        let (number, mut joined) = open.take().unwrap_or((index + 1, String::new()));
        // pip ends a joined line at a comment; one that a comment interrupts is told apart by nothing else.
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
            "is an option of pip's: index, wheels and options are the site's, [python] in agent.toml".to_owned()
        );
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let options = words.iter().position(|word| word.starts_with('-')).unwrap_or(words.len());
    let hashed = hashes(&words[options..])?;
    let named = words[..options].join(" ");
    let (what, marker) = named.split_once(';').unwrap_or((&named, ""));
    if what.contains('@') || what.contains("://") || what.contains('/') || is_archive(what) {
        return Err("is an address or a file; name a distribution and its version, such as requests==2.32.3".to_owned());
    }
    if !marker.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '\\' | '$' | '`') || c == ' ') {
        return Err("has an environment marker with characters that none has".to_owned());
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

/// True if there are hashes, and nothing but hashes.
fn hashes(words: &[&str]) -> Result<bool, String> {
    let mut words = words.iter();
    let mut any = false;
    while let Some(word) = words.next() {
        let hash = match word.strip_prefix("--hash") {
            Some("") => words.next().copied(),
            Some(rest) => rest.strip_prefix('='),
            None => return Err(format!("has the option {word:?}; only --hash=sha256:… may stand here")),
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

/// pip takes such a name for a file when there is one.
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
    fn what_is_the_sites_or_nobodys_to_say_is_refused_with_its_line() {
        for (text, words) in [
            ("six\n--index-url https://evil.example/simple", "line 2: \"--index-url"),
            ("-r other.txt", "option of pip's"),
            ("-e .", "option of pip's"),
            ("--no-binary :all:", "option of pip's"),
            ("six --no-binary", "only --hash"),
            ("six --config-settings=x=y", "only --hash"),
            ("six --hash=md5:d41d8cd98f00b204e9800998ecf8427e", "not sha256"),
            ("six --hash=sha256:12", "not sha256"),
            ("six --hash", "not sha256"),
            ("git+https://evil.example/x", "an address or a file"),
            ("six @ https://evil.example/six.whl", "an address or a file"),
            ("./vendor/six", "an address or a file"),
            ("six.whl", "an address or a file"),
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
}
