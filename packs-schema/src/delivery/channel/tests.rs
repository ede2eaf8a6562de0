//! Tests of channels: validation and decisions.

use super::*;
use crate::base::name::InstanceId;
use crate::delivery::facts::Facts;

fn version(text: &str) -> PackVersion {
    PackVersion::new(text).unwrap()
}

fn rule(text: &str, percent: u8) -> Rule {
    Rule { percent, ..Rule::new(version(text)) }
}

fn channel(rules: Vec<Rule>, withdrawn: &[&str]) -> Channel {
    Channel::new(1, PackName::new("demo").unwrap(), rules, withdrawn.iter().map(|v| version(v)).collect()).unwrap()
}

fn web() -> Facts {
    Facts { app: "web".into(), ..Facts::of(InstanceId::new("i-1").unwrap()) }
}

/// Formats the decision of `channel` for an instance in `cohort` that runs `active`.
fn decided(channel: &Channel, cohort: u8, active: &str) -> String {
    let active = (!active.is_empty()).then(|| version(active));
    match channel.decide(&web(), cohort, active.as_ref()) {
        Decision::Take(version) => format!("take {version}"),
        Decision::RollBack(version) => format!("back {version}"),
        Decision::KeepHigher(version) => format!("lower {version}"),
        Decision::Withdraw => "withdraw".to_owned(),
        Decision::Keep => "keep".to_owned(),
        Decision::NotApplicable => "not here".to_owned(),
    }
}

#[test]
fn instances_outside_a_rollout_get_the_previous_version() {
    let channel = channel(vec![rule("1.1.0", 10), rule("1.0.0", 100)], &[]);
    for (cohort, active, wanted) in [
        (9, "1.0.0", "take 1.1.0"),
        (10, "1.0.0", "take 1.0.0"),
        (9, "", "take 1.1.0"),
        (10, "", "take 1.0.0"),
        (99, "0.9.0", "take 1.0.0"),
        // The rollout was narrowed: a version that was activated stays.
        (50, "1.1.0", "keep"),
        (50, "1.0.5", "keep"),
        (50, "1.2.0", "lower 1.0.0"),
        (5, "1.2.0", "lower 1.1.0"),
    ] {
        assert_eq!(decided(&channel, cohort, active), wanted, "{cohort} {active}");
    }
}

#[test]
fn a_paused_rollout_adds_no_instances() {
    let paused = Rule { paused: true, ..rule("1.1.0", 50) };
    let channel = channel(vec![paused, rule("1.0.0", 100)], &[]);
    assert_eq!(decided(&channel, 10, "1.0.0"), "take 1.0.0");
    assert_eq!(decided(&channel, 10, ""), "take 1.0.0");
    assert_eq!(decided(&channel, 10, "1.1.0"), "take 1.1.0");
    assert_eq!(decided(&channel, 90, "1.1.0"), "keep");
}

#[test]
fn only_a_withdrawn_version_is_rolled_back() {
    let channel = channel(vec![rule("1.0.0", 100)], &["1.1.0", "1.2.0"]);
    for (active, wanted) in [
        ("1.2.0", "back 1.0.0"),
        ("1.1.0", "back 1.0.0"),
        ("1.0.0", "take 1.0.0"),
        ("", "take 1.0.0"),
        ("0.9.0", "take 1.0.0"),
        ("1.1.1", "lower 1.0.0"),
        ("2.0.0", "lower 1.0.0"),
    ] {
        assert_eq!(decided(&channel, 0, active), wanted, "{active}");
    }
}

#[test]
fn a_withdrawn_version_is_deactivated_if_no_rule_applies() {
    let channel = channel(vec![rule("1.0.0", 50)], &["1.1.0"]);
    assert_eq!([decided(&channel, 10, "1.1.0"), decided(&channel, 50, "1.1.0")], ["back 1.0.0", "withdraw"]);
    assert_eq!([decided(&channel, 50, "1.0.0"), decided(&channel, 50, "")], ["keep", "not here"]);
}

#[test]
fn an_expression_excludes_instances() {
    let only = |filter: &str, percent| Rule { filter: Some(Filter::new(filter).unwrap()), ..rule("1.1.0", percent) };
    assert_eq!(decided(&channel(vec![only("app == 'db'", 100)], &[]), 0, ""), "not here");
    assert_eq!(decided(&channel(vec![only("app == 'db'", 100)], &[]), 0, "1.0.0"), "keep");
    assert_eq!(decided(&channel(vec![only("app == 'web'", 100)], &[]), 0, "1.0.0"), "take 1.1.0");
    let both = channel(vec![only("app == 'db'", 100), rule("1.0.0", 100)], &[]);
    assert_eq!(decided(&both, 0, ""), "take 1.0.0");
}

#[test]
fn rules_that_never_apply_are_dropped() {
    let web = || Some(Filter::new("app == 'web'").unwrap());
    let versions = |rules| channel(rules, &[]).rules.iter().map(|r| r.version.to_string()).collect::<Vec<_>>();
    assert_eq!(versions(vec![rule("1.2.0", 100), rule("1.1.0", 10), rule("1.0.0", 100)]), ["1.2.0"]);
    assert_eq!(versions(vec![rule("1.2.0", 5), rule("1.1.0", 10), rule("1.0.0", 100)]), ["1.2.0", "1.1.0", "1.0.0"]);
    let narrow = |v, percent| Rule { filter: web(), ..rule(v, percent) };
    assert_eq!(versions(vec![narrow("1.2.0", 100), narrow("1.1.0", 10), rule("1.0.0", 100)]), ["1.2.0", "1.0.0"]);
    let paused = Rule { paused: true, ..rule("1.2.0", 100) };
    assert_eq!(versions(vec![paused, rule("1.1.0", 100)]), ["1.2.0", "1.1.0"]);
}

#[test]
fn a_file_with_unknown_keys_or_contradictions_is_refused() {
    let good = r#"{"format":1,"serial":3,"pack":"a","rules":[{"version":"1.1.0","percent":10},{"version":"1.0.0"}]}"#;
    let read: Channel = serde_json::from_str(good).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), good);
    for (from, to) in [
        (r#""format":1"#, r#""format":2"#),
        (r#""format":1,"#, ""),
        (r#""serial":3"#, r#""serial":0"#),
        (r#""serial":3,"#, ""),
        (r#""pack":"a""#, r#""pack":"../a""#),
        (r#""percent":10"#, r#""percent":101"#),
        (r#""percent":10"#, r#""percentage":10"#),
        (r#"{"version":"1.0.0"}"#, r#"{"version":"1.1.0"}"#),
        (r#"{"version":"1.0.0"}"#, r#"{"version":"1.2.0"}"#),
        (r#""rules""#, r#""withdrawn":["1.1.0"],"rules""#),
        (r#""rules""#, r#""rollback":true,"rules""#),
        (r#"[{"version":"1.1.0","percent":10},{"version":"1.0.0"}]"#, "[]"),
    ] {
        let wrong = good.replace(from, to);
        assert_ne!(wrong, good, "{from}");
        assert!(serde_json::from_str::<Channel>(&wrong).is_err(), "{wrong}");
    }
}

#[test]
fn withdrawn_versions_are_bounded_and_exclude_those_with_a_rule() {
    let many: Vec<String> = (0..150).map(|n| format!("1.{n}.0")).collect();
    let channel = channel(vec![rule("1.149.0", 100)], &many.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(channel.withdrawn.len(), MAX_WITHDRAWN);
    assert_eq!(channel.withdrawn.last(), Some(&version("1.148.0")), "the highest are kept, and none that has a rule");
}

#[cfg(feature = "rollout")]
#[test]
fn cohorts_are_stable_and_even() {
    use crate::delivery::cohort::cohort_of;

    let pack = PackName::new("linux").unwrap();
    let id = |n| InstanceId::new(format!("i-{n:08}")).unwrap();
    // A changed function would include other instances in running rollouts.
    assert_eq!([1, 2, 3, 4].map(|n| cohort_of(&id(n), &pack)), [79, 60, 92, 59]);
    let other = PackName::new("cassandra").unwrap();
    assert!((0..100).any(|n| cohort_of(&id(n), &pack) != cohort_of(&id(n), &other)), "packs roll out independently");
    let below = |percent| (0..10_000).filter(|n| cohort_of(&id(*n), &pack) < percent).count();
    assert_eq!((below(0), below(100)), (0, 10_000));
    assert!((800..1200).contains(&below(10)), "{}", below(10));
}

#[test]
fn target_names_parse_back() {
    let (pack, channel) = (PackName::new("a").unwrap(), ChannelName::new("prod").unwrap());
    assert_eq!(
        parse_pack_target(&pack_target(&pack, &version("1.0.0-rc.1"))),
        Some((pack.clone(), version("1.0.0-rc.1")))
    );
    assert_eq!(parse_channel_target(&channel_target(&channel, &pack)), Some((channel, pack)));
    for wrong in ["packs/a/../b/1.0.0.tar.gz", "packs/a/1.0.0.zip", "packs//1.0.0.tar.gz", "channels/a/b/c.json"] {
        assert!(parse_pack_target(wrong).is_none() && parse_channel_target(wrong).is_none(), "{wrong}");
    }
}
