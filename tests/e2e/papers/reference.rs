//! References are complete: what the types take is in the paper that explains it.

use std::collections::BTreeSet;
use std::path::Path;

use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Code;
use packs_schema::base::environment::{Owner, VARIABLES};
use regex_lite::Regex;
use serde_json::Value;

use super::{read, root};

/// Returns the text below a heading of a paper, up to the next heading of the same or a higher level.
pub(super) fn section(paper: &str, heading: &str) -> String {
    let level = heading.chars().take_while(|c| *c == '#').count();
    let text = read(Path::new(paper));
    let below = text.lines().skip_while(|line| *line != heading).skip(1);
    let ends = |line: &&str| line.starts_with('#') && line.chars().take_while(|c| *c == '#').count() <= level;
    let body: Vec<&str> = below.take_while(|line| !ends(line)).collect();
    assert!(!body.is_empty(), "{paper} has no section {heading:?}");
    body.join("\n")
}

/// Returns the words in code spans: `` `max_length` ``, `` `{max, per}` ``.
fn code_words(text: &str) -> BTreeSet<String> {
    let spans = text.split('`').skip(1).step_by(2);
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    spans.flat_map(|span| span.split(|c| !is_word(c))).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Returns the names of the properties of a schema, or of one of its definitions.
fn properties(schema: &Value, definition: Option<&str>) -> Vec<String> {
    let of = definition.map_or(schema, |name| &schema["$defs"][name]);
    let names: Vec<String> = of["properties"].as_object().unwrap().keys().cloned().collect();
    assert!(!names.is_empty());
    names
}

fn schema(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(root().join("packs-schema/schemas").join(name)).unwrap()).unwrap()
}

#[test]
fn every_key_of_a_pack_is_in_the_reference() {
    const PAPER: &str = "packs-schema/README.md";
    let (pack, action) = (schema("pack.schema.json"), schema("action.schema.json"));
    let mut wanted = vec![("## pack.yaml", properties(&pack, None)), ("## Action files", properties(&action, None))];
    let definitions = action["$defs"].as_object().unwrap().keys();
    for definition in definitions.filter(|name| action["$defs"][*name].get("properties").is_some()) {
        let heading = if definition == "Schema" { "## Parameters" } else { "## Action files" };
        wanted.push((heading, properties(&action, Some(definition))));
    }
    for (heading, keys) in wanted {
        let known = code_words(&section(PAPER, heading));
        let missing: Vec<&String> = keys.iter().filter(|key| !known.contains(*key)).collect();
        assert!(missing.is_empty(), "{PAPER}, {heading}: {missing:?}");
    }
}

#[test]
fn every_variable_of_a_script_is_in_the_reference() {
    let known = code_words(&section("packs-schema/README.md", "## What a script gets"));
    let given = VARIABLES.iter().filter(|(_, owner)| *owner == Owner::Execution).map(|(name, _)| *name);
    let missing: Vec<&str> = given.filter(|name| !known.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_state_and_code_of_the_interface_is_in_the_reference() {
    const PAPER: &str = "agent/README.md";
    let states = code_words(&section(PAPER, "## States"));
    let missing: Vec<&State> = State::ALL.iter().filter(|state| !states.contains(state.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let codes = section(PAPER, "## Problem codes");
    for code in Code::ALL {
        let row = codes.lines().find(|line| code_words(line).contains(code.as_str()));
        let row = row.unwrap_or_else(|| panic!("{PAPER} does not explain {code}"));
        assert!(row.starts_with(&format!("| {} |", code.status())), "{code}: {row}");
    }
}

/// The route table is the interface: the paper shows each of its routes and no other.
#[test]
fn every_route_is_in_the_reference() {
    let source = std::fs::read_to_string(root().join("agent/src/api/routes.rs")).unwrap();
    let table = source.split("routes! {").last().unwrap().split("\n}").next().unwrap();
    let route = |line: &str| {
        let (method, rest) = line.trim().split_once(' ')?;
        let path = rest.split('"').nth(1)?;
        ["GET", "POST"].contains(&method).then(|| format!("{method} {path}"))
    };
    let routes: BTreeSet<String> = table.lines().filter_map(route).collect();
    assert!(routes.len() >= 19, "{routes:?}");
    let section = section("agent/README.md", "## Routes");
    let spans = section.lines().filter_map(|line| line.split('`').nth(1)).filter(|span| span.contains("/v1/"));
    assert_eq!(spans.map(str::to_owned).collect::<BTreeSet<String>>(), routes);
}

/// Returns the text of the Rust files below a directory, without the files of tests.
fn sources(directory: &Path) -> Vec<String> {
    let (mut texts, mut left) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = left.pop() {
        for path in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "tests" {
                left.push(path);
            } else if name.ends_with(".rs") && name != "tests.rs" {
                let text = std::fs::read_to_string(path).unwrap();
                texts.push(text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned());
            }
        }
    }
    texts
}

/// Returns the codes that the api reports in its health: text, or constants of the same file, where codes are set and cleared.
fn health_codes(texts: &[String]) -> BTreeSet<String> {
    let pattern = |text: &str| Regex::new(text).unwrap();
    let literal = pattern(r#"(?:\.(?:set|update|note)\(|reason\()\s*"([a-z_]+)""#);
    let choice = pattern(r#"reason\(if [^{]*\{ "([a-z_]+)" \} else \{ "([a-z_]+)" \}"#);
    let constant = pattern(r#"const ([A-Z_]+): &str = "([a-z_]+)";"#);
    let mut codes = BTreeSet::new();
    for text in texts.iter().filter(|text| text.contains("ealth")) {
        codes.extend(literal.captures_iter(text).map(|found| found[1].to_owned()));
        codes.extend(choice.captures_iter(text).flat_map(|found| [found[1].to_owned(), found[2].to_owned()]));
        for found in constant.captures_iter(text) {
            let used = pattern(&format!(r"(?:\.(?:set|update|note|clear|has)\(\s*|[\[ ]\(){}\b", &found[1]));
            if used.is_match(text) {
                codes.insert(found[2].to_owned());
            }
        }
    }
    codes
}

#[test]
fn every_health_code_has_a_row_that_says_what_to_do() {
    let texts = sources(&root().join("agent/src"));
    let codes = health_codes(&texts);
    assert!(codes.len() >= 25, "{codes:?}");
    let table = section("systemd/README.md", "## Health codes");
    let row =
        |line: &str| Some((line.strip_prefix("| `")?.split('`').next()?.to_owned(), line.split(" | ").nth(1)?.len()));
    let rows: std::collections::BTreeMap<String, usize> = table.lines().filter_map(row).collect();
    let missing: Vec<&String> = codes.iter().filter(|code| !rows.contains_key(*code)).collect();
    assert!(missing.is_empty(), "without a row: {missing:?}");
    let known = |code: &String| texts.iter().any(|text| text.contains(&format!("\"{code}\"")));
    let gone: Vec<&String> = rows.keys().filter(|code| !known(code)).collect();
    assert!(gone.is_empty(), "no longer in the source: {gone:?}");
    assert!(rows.values().all(|length| *length > 15), "{rows:?}");
    let alerts = read(Path::new("systemd/monitoring/alerts.yml"));
    let selected = Regex::new(r#"code=~?"([a-z_|]+)""#).unwrap();
    let alerted: BTreeSet<&str> =
        selected.captures_iter(&alerts).flat_map(|found| found.get(1).unwrap().as_str().split('|')).collect();
    assert!(alerted.iter().all(|code| rows.contains_key(*code)), "alerts.yml: {alerted:?}");
    for code in ["audit_unavailable", "disk_failed", "disk_full", "history_failed"] {
        assert!(alerted.contains(code), "no alert for {code}, which leaves bolt_ready at 1");
    }
}

#[test]
fn every_variable_of_the_tests_is_explained() {
    let known = code_words(&read(Path::new("tests/README.md")));
    let ours = VARIABLES.iter().filter(|(name, owner)| *owner == Owner::Tests && !name.ends_with('_'));
    let missing: Vec<&str> = ours.map(|(name, _)| *name).filter(|name| !known.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_outcome_of_an_instance_is_in_the_reference() {
    let source = std::fs::read_to_string(root().join("client/src/error.rs")).unwrap();
    let body = source.split("pub fn outcome(").nth(1).unwrap().split("\n    }\n").next().unwrap();
    let mut outcomes: BTreeSet<String> = body.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    outcomes.insert("not_started".to_owned());
    let table = section("client/README.md", "## Exit codes and outcomes");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(rows.map(str::to_owned).collect::<BTreeSet<String>>(), outcomes);
}

#[test]
fn lint_codes_in_the_reference_exist() {
    let source: String = sources(&root().join("packs-schema/src")).concat();
    let text = section("packs-schema/README.md", "## Lint");
    let prose: String = text.split("```").step_by(2).collect();
    let codes = code_words(&prose);
    let codes: Vec<&String> = codes.iter().filter(|word| word.contains('_')).collect();
    assert!(codes.len() >= 10, "{codes:?}");
    let gone: Vec<&&String> = codes.iter().filter(|code| !source.contains(&format!("\"{code}\""))).collect();
    assert!(gone.is_empty(), "{gone:?}");
}
