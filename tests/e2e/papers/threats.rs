//! The threat model in SECURITY.md: under each attacker, each thing that must hold names the tests that hold it, and these exist.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::reference::section;
use super::{read, root};

/// Heading of the section.
const HEADING: &str = "## Threat model";
/// Directories with tests in Rust.
const SOURCES: [&str; 4] = ["agent", "client", "packs-schema", "tests"];

/// Thing that must hold against an attacker.
struct Promise {
    /// Text of the item, in one line.
    text: String,
    /// Tests that hold it: the code spans after `Test:` or `Tests:`.
    tests: Vec<String>,
}

/// Returns the attackers and the promises under each of them.
fn attackers(section: &str) -> Vec<(String, Vec<Promise>)> {
    let mut items: Vec<(bool, String)> = Vec::new();
    for line in section.lines() {
        let item =
            line.strip_prefix("- ").map(|text| (true, text)).or(line.strip_prefix("  - ").map(|text| (false, text)));
        match (item, items.last_mut()) {
            (Some((is_attacker, text)), _) => items.push((is_attacker, text.to_owned())),
            (None, Some((_, item))) if line.starts_with("  ") => {
                item.push(' ');
                item.push_str(line.trim());
            }
            (None, _) => {}
        }
    }
    let mut attackers: Vec<(String, Vec<Promise>)> = Vec::new();
    for (is_attacker, text) in items {
        if is_attacker {
            attackers.push((text, Vec::new()));
        } else if let Some((_, promises)) = attackers.last_mut() {
            let named = text.split_once("Test: ").or(text.split_once("Tests: ")).map_or("", |(_, named)| named);
            let tests = named.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            promises.push(Promise { text, tests });
        }
    }
    attackers
}

/// Returns the tests of the repository by name, with the files that have them, relative to the root and without `.rs`.
fn tests() -> BTreeMap<String, Vec<PathBuf>> {
    let mut tests = BTreeMap::<String, Vec<PathBuf>>::new();
    let mut left: Vec<PathBuf> = SOURCES.iter().map(|top| root().join(top)).collect();
    while let Some(directory) = left.pop() {
        for path in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let mut is_test = false;
                for line in std::fs::read_to_string(&path).unwrap().lines().map(str::trim_start) {
                    is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                    let Some((_, rest)) = line.split_once("fn ").filter(|_| is_test) else { continue };
                    let name = rest.split(['(', '<']).next().unwrap_or_default().to_owned();
                    tests.entry(name).or_default().push(path.strip_prefix(root()).unwrap().with_extension(""));
                    is_test = false;
                }
            }
        }
    }
    tests
}

/// True if the repository has the test: a name, or `<module>::…::<name>` in a file on whose path the modules are.
fn exists(test: &str, tests: &BTreeMap<String, Vec<PathBuf>>) -> bool {
    let mut parts: Vec<&str> = test.split("::").collect();
    let files = parts.pop().and_then(|name| tests.get(name)).map_or(&[][..], Vec::as_slice);
    let is_on_path = |file: &Path, part: &str| {
        file.components().any(|component| component.as_os_str().to_string_lossy().replace('-', "_") == part)
    };
    files.iter().any(|file| parts.iter().all(|part| is_on_path(file, part)))
}

/// Returns what is wrong with a threat model.
fn problems(section: &str, tests: &BTreeMap<String, Vec<PathBuf>>) -> Vec<String> {
    let mut problems = Vec::new();
    for (attacker, promises) in attackers(section) {
        if !attacker.starts_with("**") {
            problems.push(format!("no attacker: {attacker}"));
        }
        if promises.is_empty() {
            problems.push(format!("nothing must hold: {attacker}"));
        }
        for Promise { text, tests: named } in promises {
            if named.is_empty() {
                problems.push(format!("no test is named: {text}"));
            }
            let missing = named.iter().filter(|test| !exists(test, tests));
            problems.extend(missing.map(|test| format!("there is no test {test}: {text}")));
        }
    }
    problems
}

#[test]
fn each_thing_that_must_hold_against_an_attacker_has_a_test() {
    let section = section("SECURITY.md", HEADING);
    let found = attackers(&section);
    assert!(found.len() >= 12 && found.iter().map(|(_, promises)| promises.len()).sum::<usize>() >= 40);
    let problems = problems(&section, &tests());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(
        read(Path::new("SECURITY.md")).find(HEADING) < read(Path::new("SECURITY.md")).find("## How"),
        "it comes first"
    );
}

#[test]
fn a_threat_without_a_test_is_found() {
    let model = "- **A** can.\n  - One: x. Test: `threats::a_threat_without_a_test_is_found`.\n  - Two\n    of it. Tests:\n    \
                 `a_test_that_is_gone`.\n  - Three.\n- **B** can.\n";
    let found = problems(model, &tests());
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("there is no test a_test_that_is_gone: Two of it."), "{found:?}");
    assert!(found[1].starts_with("no test is named: Three."), "{found:?}");
    assert!(found[2].starts_with("nothing must hold: **B**"), "{found:?}");
}
