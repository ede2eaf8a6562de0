//! Channel files, which the repository's keys sign and every instance decides by.

use packs_schema::base::name::{InstanceId, PackVersion};
use packs_schema::delivery::channel::{Channel, Decision, MAX_RULES, parse_channel_target, parse_pack_target};
use packs_schema::delivery::channel::{channel_target, pack_target};
use packs_schema::delivery::facts::Facts;

use crate::{join, parts};

/// A channel, the active version, and the name of a target.
pub(super) fn run(data: &[u8]) {
    let [file, active, target] = parts(data);
    let text = |part| std::str::from_utf8(part).unwrap_or_default();
    if let Some((pack, version)) = parse_pack_target(text(target)) {
        assert_eq!(pack_target(&pack, &version), text(target));
    }
    if let Some((channel, pack)) = parse_channel_target(text(target)) {
        assert_eq!(channel_target(&channel, &pack), text(target));
    }
    let channel = match serde_json::from_slice::<Channel>(file) {
        Ok(channel) => channel,
        // It names an unknown key, whatever its length.
        Err(error) => return assert!(error.to_string().len() <= file.len() + 1024, "{error}"),
    };
    assert!((1..=MAX_RULES).contains(&channel.rules.len()));
    let written = serde_json::to_vec(&channel).expect("a channel serialises");
    assert_eq!(serde_json::from_slice::<Channel>(&written).expect("what was written reads back"), channel);
    let active = PackVersion::new(text(active)).ok();
    let mut facts = Facts::of(InstanceId::new("i-1").expect("an id"));
    facts.app = "cassandra".to_owned();
    for cohort in [0, 10, 50, 99] {
        decide(&channel, &facts, cohort, active.as_ref());
    }
}

/// A decision never lowers a version that was not withdrawn, and names only versions of the rules.
fn decide(channel: &Channel, facts: &Facts, cohort: u8, active: Option<&PackVersion>) {
    let is_withdrawn = active.is_some_and(|active| channel.withdrawn.contains(active));
    match channel.decide(facts, cohort, active) {
        Decision::Take(version) => {
            assert!(active.is_none_or(|active| version >= active));
            assert!(!channel.withdrawn.contains(version) && channel.rules.iter().any(|rule| rule.version == *version));
        }
        Decision::RollBack(version) => assert!(is_withdrawn && active.is_some_and(|active| version < active)),
        Decision::Withdraw => assert!(is_withdrawn),
        Decision::KeepHigher(version) => assert!(active.is_some_and(|active| version < active)),
        Decision::Keep => assert!(active.is_some()),
        Decision::NotApplicable => assert!(active.is_none()),
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let channel = br#"{"format": 1, "serial": 8, "pack": "cassandra", "rules": [{"version": "2.4.1", "percent": 10,
        "where": "app == 'cassandra'"}, {"version": "2.4.0", "paused": true}], "withdrawn": ["2.3.9"]}"#;
    let empty = br#"{"format":1,"serial":9,"pack":"a","rules":[{"version":"0.0.0-0","percent":0}],"withdrawn":["1.0.0"]}"#;
    vec![
        join(&[channel, b"2.3.9", b"channels/stable/cassandra.json"]),
        join(&[channel, b"2.5.0-rc.1+x", b"packs/cassandra/2.4.1.tar.gz"]),
        join(&[empty, b"1.0.0", b""]),
    ]
}
