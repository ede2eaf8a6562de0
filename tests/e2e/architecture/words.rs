//! Words that were retired in favour of the field's terms do not come back (see the glossary in ARCHITECTURE.md).
//!
//! Reads every comment and every string of the crates, so that help texts, errors, log messages and rustdoc are all covered, and
//! every paper. How comments open is held for the tests as well.

use std::fs;
use std::path::{Path, PathBuf};

use super::{root, sources};

/// Retired words, each with what to write instead. Compared with whole words, in lower case.
const RETIRED: &[(&str, &str)] = &[
    ("anew", "again"),
    ("nobody", "no one, or the thing that is missing"),
    ("somebody", "someone, or who it is"),
    ("of before", "previous"),
    ("for want of", "without, or if it runs out of"),
    ("counts no more", "is no longer valid"),
    ("count no more", "are no longer valid"),
    ("goes by the", "uses the"),
    ("stands in", "is in"),
    ("stand in", "are in"),
    ("stands beside", "is beside"),
    ("bury", "clean up"),
    ("buried", "cleaned up"),
    ("be mended", "be fixed"),
    ("mend it", "fix it"),
    ("is told to", "is asked to"),
];

/// Openings that say nothing about the item: a comment starts with a verb or a noun.
const OPENINGS: &[&str] = &["What", "Who", "Whom", "That", "Those", "It", "One", "So", "Nobody", "Somebody"];

const CRATES: [&str; 6] =
    ["packs-schema/src", "agent/src", "agent/aws/src", "agent/launcher/src", "client/src", "tests/src"];

const TESTS: [&str; 6] =
    ["packs-schema/tests", "agent/launcher/tests", "client/tests", "tests/e2e", "tests/benches", "tests/reliability"];

const PAPERS: [&str; 9] = [
    "README.md",
    "ARCHITECTURE.md",
    "SECURITY.md",
    "CONTRIBUTING.md",
    "agent/README.md",
    "client/README.md",
    "packs-schema/README.md",
    "systemd/README.md",
    "tests/README.md",
];

#[test]
fn retired_words_do_not_come_back() {
    let mut found = Vec::new();
    let files = CRATES.iter().flat_map(|of| sources(of)).chain(papers());
    for (path, text) in files {
        for (number, line) in text.lines().enumerate() {
            let words = if path.extension().is_some_and(|e| e == "rs") { prose(line) } else { line.to_owned() };
            for (retired, instead) in RETIRED.iter().filter(|(retired, _)| holds(&words, retired)) {
                found.push(format!("{}: \"{retired}\": write {instead}", place(&path, number)));
            }
        }
    }
    assert!(found.is_empty(), "{} retired words:\n{}", found.len(), found.join("\n"));
}

#[test]
fn comments_start_with_a_verb_or_a_noun() {
    let mut found = Vec::new();
    for (path, text) in CRATES.iter().chain(&TESTS).flat_map(|of| sources(of)) {
        let mut previous = "";
        for (number, line) in text.lines().map(str::trim_start).enumerate() {
            let mark = ["///", "//!", "//"].into_iter().find(|mark| line.starts_with(mark)).unwrap_or_default();
            if !mark.is_empty() && !previous.starts_with(mark) {
                let first = line[mark.len()..].split_whitespace().next().unwrap_or_default();
                if OPENINGS.contains(&first.trim_end_matches(['.', ',', ':', ';'])) {
                    found.push(format!("{}: {line}", place(&path, number)));
                }
            }
            previous = line;
        }
    }
    assert!(found.is_empty(), "{} comments:\n{}", found.len(), found.join("\n"));
}

#[test]
fn prose_is_comments_and_strings() {
    assert_eq!(prose("    let bury = settle(\"anew {x}\"); // of before"), "anew {x} of before");
    assert!(holds("Begun anew.", "anew") && !holds("renewanewed", "anew"));
}

fn papers() -> impl Iterator<Item = (PathBuf, String)> {
    PAPERS.iter().map(|name| root().join(name)).map(|path| {
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        (path, text)
    })
}

fn place(path: &Path, number: usize) -> String {
    format!("{}:{}", path.strip_prefix(root()).unwrap_or(path).display(), number + 1)
}

/// The comment and the strings of a line of Rust, separated by spaces.
fn prose(line: &str) -> String {
    let mut prose = Vec::new();
    let (mut rest, mut inside) = (line, false);
    while !rest.is_empty() {
        if let Some(comment) = rest.strip_prefix("//").filter(|_| !inside) {
            prose.push(comment.trim_start_matches(['/', '!']).trim().to_owned());
            break;
        }
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let end =
            rest[first..].find(if inside { &['"'][..] } else { &['"', '/'][..] }).map_or(rest.len(), |at| at + first);
        if inside {
            prose.push(rest[1..end].to_owned());
            rest = rest.get(end + 1..).unwrap_or_default();
            inside = false;
        } else {
            rest = &rest[end..];
            inside = rest.starts_with('"');
        }
    }
    // A string over several lines has no quote of its own.
    if prose.is_empty() && !line.contains(['(', ';', '{', '=']) { line.to_owned() } else { prose.join(" ") }
}

fn holds(text: &str, words: &str) -> bool {
    // The account of that name.
    let text = text.to_lowercase().replace("(nobody)", "");
    let edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
    text.match_indices(words)
        .any(|(at, _)| edge(text[..at].chars().next_back()) && edge(text[at + words.len()..].chars().next()))
}
