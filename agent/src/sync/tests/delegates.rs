//! Delegated roles: a team's pack comes from its own role, and a team that reaches for more gets nothing.

use super::repository::{Key, Team};
use super::*;

/// Delegation to the team that owns demo.
const PATHS: [&str; 3] = ["packs/demo/*", "channels/*/demo.json", "log/team-dba/*"];

impl Bench {
    /// With demo delegated to team dba, in 1.0.0, active.
    fn delegated() -> Bench {
        let mut bench = Bench::new();
        bench.repository.teams.push(Team::new("team-dba", &PATHS));
        bench.offer_of_team("1.0.0");
        bench.repository.publish();
        bench.poll().unwrap();
        assert_eq!(bench.current("demo").as_deref(), Some("1.0.0"), "{:?}", bench.status());
        bench
    }

    /// As `offer`, of demo, by the team.
    fn offer_of_team(&mut self, version: &str) {
        self.offer("demo", version, &pack("demo", version));
        for name in [format!("packs/demo/{version}.tar.gz"), "channels/prod/demo.json".to_owned()] {
            let bytes = self.repository.remove(&name).unwrap();
            self.team().targets.insert(name, bytes);
        }
    }

    fn team(&mut self) -> &mut Team {
        &mut self.repository.teams[0]
    }
}

#[test]
fn a_team_brings_its_pack_forward_beside_the_others() {
    let mut bench = Bench::delegated();
    bench.offer("other", "1.0.0", &pack("other", "1.0.0"));
    bench.offer_of_team("1.1.0");
    bench.repository.publish();
    bench.poll().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.1.0"));
    assert_eq!(bench.current("other").as_deref(), Some("1.0.0"));
    assert!(bench.status().failed.is_empty());
}

#[test]
fn a_pack_of_another_team_or_of_none() {
    let mut bench = Bench::delegated();
    bench.repository.teams.push(Team::new("team-sre", &["packs/web/*", "channels/*/web.json"]));
    bench.offer("other", "1.0.0", &pack("other", "1.0.0"));
    for name in ["packs/other/1.0.0.tar.gz", "channels/prod/other.json"] {
        let bytes = bench.repository.remove(name).unwrap();
        bench.team().targets.insert(name.to_owned(), bytes);
    }
    bench.repository.publish();
    bench.expect_poll_failure("a delegated role lists a target outside its delegation");
    for name in ["packs/web/1.0.0.tar.gz", "channels/prod/web.json"] {
        bench.team().targets = std::collections::BTreeMap::from([(name.to_owned(), b"x".to_vec())]);
        bench.repository.publish();
        bench.expect_poll_failure(name);
    }
    // A target that the other team lists as well is the other team's.
    let archive = archive(&pack("web", "1.0.0"));
    let channel = r#"{"format":1,"serial":1,"pack":"web","rules":[{"version":"1.0.0"}]}"#;
    let theirs = [("packs/web/1.0.0.tar.gz", archive), ("channels/prod/web.json", channel.into())];
    bench.repository.teams[1].targets = theirs.map(|(name, bytes)| (name.to_owned(), bytes)).into();
    bench.repository.publish();
    bench.poll().unwrap();
    assert!(bench.status().failed.is_empty(), "{:?}", bench.status());
    assert_eq!(bench.current("web").as_deref(), Some("1.0.0"));
}

#[test]
fn a_pack_that_the_targets_role_signs_for_is_not_a_teams_to_change() {
    let mut bench = Bench::delegated();
    bench.offer("other", "1.0.0", &pack("other", "1.0.0"));
    bench.repository.publish();
    bench.poll().unwrap();
    // The team lists it too, in a higher version.
    let archive = archive(&pack("other", "2.0.0"));
    let channel = r#"{"format":1,"serial":9,"pack":"other","rules":[{"version":"2.0.0"}]}"#;
    let theirs = bench.team();
    theirs.targets.insert("channels/prod/other.json".to_owned(), channel.into());
    bench.repository.publish();
    bench.poll().unwrap();
    assert_eq!(bench.current("other").as_deref(), Some("1.0.0"));
    assert!(bench.status().failed.is_empty());
    bench.team().targets.insert("packs/other/2.0.0.tar.gz".to_owned(), archive);
    bench.repository.publish();
    bench.expect_poll_failure("a delegated role lists a target outside its delegation");
}

#[test]
fn names_with_dots_in_them() {
    for name in ["packs/demo/../other/1.0.0.tar.gz", "channels/prod/../prod/other.json", "../metadata/1.root.json"] {
        let mut bench = Bench::delegated();
        bench.team().targets.insert(name.to_owned(), b"x".to_vec());
        // Where such a file would be does not matter: it is never looked for.
        bench.repository.versions[1..].iter_mut().for_each(|version| *version += 1);
        bench.team().version += 1;
        bench.repository.write();
        bench.expect_poll_failure("outside its delegation");
    }
}

#[test]
fn a_delegated_target_comes_from_the_team_and_from_no_second_role() {
    let mut bench = Bench::delegated();
    bench.offer("demo", "1.1.0", &pack("demo", "1.1.0"));
    bench.repository.publish();
    bench.expect_failure("choose", "is delegated to team-dba, but listed by the targets role as well");
}

#[test]
fn a_wrong_key_of_a_team() {
    let mut bench = Bench::delegated();
    bench.offer_of_team("1.1.0");
    let right = bench.team().key.clone();
    bench.repository.publish();
    // The delegation names the right key, and another signs.
    bench.team().key = Key::new();
    let stranger = std::mem::replace(&mut bench.team().key, right.clone());
    bench.repository.sign_team_with(0, &stranger);
    bench.expect_poll_failure("cannot verify");
    bench.repository.publish();
    bench.poll().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.1.0"));
}

#[test]
fn rollback_of_a_teams_metadata_by_whoever_has_the_online_keys() {
    for without_the_library in [false, true] {
        let mut bench = Bench::delegated();
        bench.offer_of_team("1.1.0");
        bench.repository.publish();
        bench.poll().unwrap();
        bench.team().version = 1;
        bench.repository.versions[2] += 1;
        bench.repository.versions[3] += 1;
        bench.repository.write();
        if without_the_library {
            for name in ["timestamp.json", "snapshot.json"] {
                fs::remove_file(bench.store().join(".tuf").join(name)).unwrap();
            }
        }
        bench.expect_poll_failure("team-dba");
    }
}

#[test]
fn a_team_that_a_snapshot_hides() {
    let mut bench = Bench::delegated();
    bench.repository.hidden.push("team-dba".to_owned());
    bench.repository.publish();
    bench.expect_poll_failure("team-dba");
    // To an agent that never saw it, too.
    fs::remove_dir_all(bench.store().join(".tuf")).unwrap();
    let error = bench.expect_poll_failure("the snapshot does not list team-dba");
    assert!(matches!(error, SyncError::Missing { .. }), "{error:?}");
}

#[test]
fn a_team_whose_delegation_has_ended() {
    let mut bench = Bench::delegated();
    let team = bench.repository.teams.remove(0);
    bench.repository.strangers.push(team);
    bench.repository.publish();
    bench.poll().unwrap();
    // The role continues to sign, and an attacker with the online keys continues to list it.
    let newer = archive(&pack("demo", "1.1.0"));
    let channel = r#"{"format":1,"serial":9,"pack":"demo","rules":[{"version":"1.1.0"}]}"#;
    let stranger = &mut bench.repository.strangers[0];
    stranger.targets.insert("packs/demo/1.1.0.tar.gz".to_owned(), newer);
    stranger.targets.insert("channels/prod/demo.json".to_owned(), channel.into());
    bench.repository.publish();
    bench.poll().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.0.0"));
    assert!(bench.status().failed.is_empty());
    // The targets that delegated to it are older than what was seen.
    let team = bench.repository.strangers.remove(0);
    bench.repository.teams.push(team);
    bench.repository.versions[1] = 1;
    bench.repository.versions[2] += 1;
    bench.repository.versions[3] += 1;
    bench.repository.write();
    bench.expect_poll_failure("targets");
}

#[test]
fn a_teams_key_that_was_replaced() {
    let mut bench = Bench::delegated();
    bench.offer_of_team("1.1.0");
    let old = std::mem::replace(&mut bench.team().key, Key::new());
    bench.repository.publish();
    bench.repository.sign_team_with(0, &old);
    bench.expect_poll_failure("cannot verify");
    bench.repository.publish();
    bench.poll().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.1.0"));
}

#[test]
fn a_team_whose_metadata_have_expired_stops_its_own_pack_only() {
    let mut bench = Bench::delegated();
    bench.offer_of_team("1.1.0");
    bench.offer("other", "1.0.0", &pack("other", "1.0.0"));
    bench.team().expires = -1;
    bench.repository.publish();
    let failed = bench.expect_failure("choose", "the metadata of team-dba expired at");
    assert!(failed.message.contains("signed again"), "{failed:?}");
    assert_eq!(bench.current("other").as_deref(), Some("1.0.0"));
    bench.team().expires = 3600;
    bench.repository.publish();
    bench.poll().unwrap();
    assert_eq!(bench.current("demo").as_deref(), Some("1.1.0"));
}
