//! Files and tests that ARCHITECTURE.md and SECURITY.md name exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{read, root};

const PAPERS: [&str; 2] = ["ARCHITECTURE.md", "SECURITY.md"];

/// Directories at the top of the repository; a code span that begins with one of them is a path.
const TOP: [&str; 6] = [".ci", "agent", "client", "packs-schema", "systemd", "tests"];

/// Functions by name: the files that define them, relative to the root.
fn functions() -> (BTreeMap<String, Vec<PathBuf>>, BTreeSet<PathBuf>) {
    let (mut functions, mut files) = (BTreeMap::<String, Vec<PathBuf>>::new(), BTreeSet::new());
    let mut left: Vec<PathBuf> = TOP.iter().map(|top| root().join(top)).collect();
    while let Some(directory) = left.pop() {
        for path in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let file = path.strip_prefix(root()).unwrap().with_extension("");
                for line in std::fs::read_to_string(&path).unwrap().lines() {
                    let rest = line.trim_start().split_once("fn ").map_or("", |(_, rest)| rest);
                    let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                    functions.entry(name).or_default().push(file.clone());
                }
                files.insert(file);
            }
        }
    }
    (functions, files)
}

/// Returns the code spans of a text outside its fenced blocks.
fn spans(text: &str) -> Vec<String> {
    let prose: String = text.split("```").step_by(2).collect::<Vec<_>>().join("\n");
    prose.split('`').skip(1).step_by(2).map(|span| span.replace('\n', " ")).collect()
}

/// Expands braces: `a/{b,c}.rs` is `a/b.rs` and `a/c.rs`.
fn expanded(path: &str) -> Vec<String> {
    match (path.split_once('{'), path.split_once('}')) {
        (Some((before, rest)), Some((_, after))) => {
            let inside = rest.split('}').next().unwrap_or_default();
            inside.split(',').map(|part| format!("{before}{}{after}", part.trim())).collect()
        }
        _ => vec![path.to_owned()],
    }
}

fn problem(span: &str, functions: &BTreeMap<String, Vec<PathBuf>>, files: &BTreeSet<PathBuf>) -> Option<String> {
    let plain =
        |extra: &str| span.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c) || extra.contains(c));
    if TOP.iter().any(|top| span.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'))) && plain("{}, ") {
        let missing = expanded(span).into_iter().find(|path| {
            let path = root().join(path);
            !path.exists() && !path.with_extension("rs").exists()
        });
        return missing.map(|path| format!("{path} does not exist"));
    }
    let is_name =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    // A metric.
    if span.starts_with("bolt_") {
        return None;
    }
    let parts: Vec<&str> = span.split("::").collect();
    if !parts.iter().all(|part| is_name(part)) || (parts.len() == 1 && span.matches('_').count() < 3) {
        return None;
    }
    let (name, place) = parts.split_last()?;
    let in_place = |file: &&PathBuf| {
        place.iter().all(|part| file.iter().any(|component| component.to_string_lossy().replace('-', "_") == *part))
    };
    let is_function = functions.get(*name).is_some_and(|files| files.iter().any(|file| in_place(&file)));
    let is_module = !place.is_empty() && files.iter().any(|file| in_place(&file) && file.ends_with(name));
    (!is_function && !is_module).then(|| format!("there is no test or module {span}"))
}

#[test]
fn files_and_tests_that_are_named_exist() {
    let (functions, files) = functions();
    let mut problems = Vec::new();
    let mut checked = 0;
    for paper in PAPERS {
        for span in spans(&read(Path::new(paper))) {
            checked += 1;
            problems.extend(problem(&span, &functions, &files).map(|problem| format!("{paper}: {problem}")));
        }
    }
    assert!(checked > 100, "{checked}");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn names_that_do_not_exist_are_found() {
    let (functions, files) = functions();
    for good in [
        "tests/e2e/papers",
        "packs-schema/src/{base,agent}.rs",
        "papers::mentions::names_that_do_not_exist_are_found",
        "names_that_do_not_exist_are_found",
        "papers::mentions",
        "grants.toml",
        "run_as",
    ] {
        assert_eq!(problem(good, &functions, &files), None, "{good}");
    }
    for bad in [
        "tests/e2e/nothing.rs",
        "packs-schema/src/{base,nothing}.rs",
        "other::names_that_do_not_exist_are_found",
        "a_test_that_is_not_there",
        "papers::nothing",
    ] {
        assert!(problem(bad, &functions, &files).is_some(), "{bad}");
    }
}
