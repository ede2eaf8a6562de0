//! References are complete: what the types take is in the paper that explains it.

use std::collections::BTreeSet;
use std::path::Path;

use packs_schema::base::environment::{Owner, VARIABLES};
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
