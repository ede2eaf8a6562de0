//! `grants.toml`: who may do what. Nothing is allowed that no grant gives, and a constraint never allows more.

use packs_schema::agent::grants::{Grants, Object, Question, Surroundings, Verb};
use packs_schema::base::name::{ActionRef, InstanceId, PackName, Principal};
use packs_schema::delivery::facts::Facts;
use packs_schema::pack::action::Class;
use serde_json::{Map, Value};

use crate::{join, parts, repository};

/// A minute of a Tuesday, in seconds since 1970.
const NOW: i64 = 1_764_671_820;

/// The file, the values of parameters, a principal and an action.
pub(super) fn run(data: &[u8]) {
    let [file, values, who, action] = parts(data);
    let text = |part| std::str::from_utf8(part).unwrap_or_default();
    let who = Principal::new(text(who)).unwrap_or_else(|_| Principal::new("spiffe://example/ann").expect("a URI"));
    let action = ActionRef::new(text(action)).unwrap_or_else(|_| ActionRef::new("linux.disk_usage").expect("a name"));
    let values: Map<String, Value> = serde_json::from_slice(values).unwrap_or_default();
    let Ok(file) = std::str::from_utf8(file) else { return };
    let grants = match Grants::parse(file) {
        Ok(grants) => grants,
        Err(error) => return assert!(error.to_string().len() <= 4096, "an error of {} bytes", error.to_string().len()),
    };
    let mut facts = Facts::of(InstanceId::new("i-1").expect("an id"));
    facts.region = "eu-west-1".to_owned();
    let here = grants.in_effect(Some(&facts), NOW);
    assert_eq!(here.in_effect(Some(&facts), NOW), here, "what is in effect changes when it is asked again");
    for verb in [Verb::Read, Verb::Run, Verb::Kill, Verb::Sync, Verb::Push, Verb::Metrics] {
        ask(&grants, &here, &facts, verb, (&who, &action, &values));
    }
    let findings = grants.lint(&Surroundings { principals: None, actions: Some(vec![action]) });
    assert!(findings.len() <= 64 + file.len(), "{} findings", findings.len());
}

fn ask(
    grants: &Grants,
    here: &Grants,
    facts: &Facts,
    verb: Verb,
    (who, action, values): (&Principal, &ActionRef, &Map<String, Value>),
) {
    let found = here.find_with(who, verb, action, Some(Class::Remediation), values);
    let question = Question { who, verb, object: Object::Action(action), class: Some(Class::Remediation), parameters: Some(values) };
    let verdicts = grants.explain(&question, Some(facts), NOW);
    let explained = verdicts.iter().find(|verdict| verdict.allows()).map(|verdict| verdict.place);
    assert_eq!(found, explained, "the explanation of {verb} differs from the decision");
    if found.is_some() {
        assert!(here.allows(who, verb, action, Class::Remediation), "with values, and not without");
        assert!(here.knows(who) && here.allows_any(who, verb) && here.allows_in_pack(who, verb, &action.pack()));
    }
    if here.allows_unclassed(who, verb, action) {
        assert!(here.allows(who, verb, action, Class::Diagnostic), "without a class, and not with one");
    }
    if here.allows_pack(who, verb, &PackName::new("linux").expect("a name")) {
        assert!(here.allows(who, verb, &ActionRef::new("linux.anything").expect("a name"), Class::Maintenance));
    }
    here.unmet(&question);
    assert!(here.near_misses(&question).len() <= verdicts.len(), "a grant is told twice");
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let packaged = repository::read("systemd/grants.toml");
    let is_example = |line: &&str| line.starts_with("# ") && (line.contains(" = ") || line.contains("[["));
    let text = String::from_utf8_lossy(&packaged);
    let examples: String = text.lines().filter(is_example).map(|line| format!("{}\n", &line[2..])).collect();
    let values = br#"{"keyspace": "users", "n": 3}"#;
    [packaged.as_slice(), examples.as_bytes(), CONSTRAINED.as_bytes()]
        .map(|file| join(&[file, values, b"spiffe://example/ann", b"cassandra.clear_snapshots"]))
        .into()
}

const CONSTRAINED: &str = r#"[[grant]]
principal = "spiffe://example/*"
verbs = ["read", "run", "kill"]
actions = ["cassandra.*", "linux.disk_*"]
classes = ["diagnostic", "remediation"]
where = "region == 'eu-west-1' && app in ['cassandra']"
times = ["mon-fri 08:00-18:00"]
[grant.parameters]
keyspace = {pattern = "^u"}
n = {maximum = 3}
[[limit]]
principal = "spiffe://example/*"
starts = {max = 10, per = "1m"}
executions = 4
"#;
