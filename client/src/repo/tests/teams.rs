//! Teams: their own packs with their own key, and nothing else.

use packs_schema::base::name::TeamName;

use super::rollouts::{demo, name};
use super::*;

fn dba() -> TeamName {
    TeamName::new("dba").unwrap()
}

impl Bench {
    /// Copies the keys of a team: its own, and those of snapshot and timestamp.
    fn team_directory(&self) -> PathBuf {
        let directory = self.at("dba");
        fs::create_dir_all(&directory).unwrap();
        for key in ["snapshot.pem", "timestamp.pem", "root.json"] {
            fs::copy(self.at("keys").join(key), directory.join(key)).unwrap();
        }
        directory
    }
    fn team(&self) -> PublishOptions {
        let mut options = self.options("prod");
        (options.keys, options.team) = (self.team_directory(), Some(dba()));
        options
    }
    fn delegated(&self) -> Delegated {
        let keys = TeamKeys::New(self.at("dba"), None);
        delegate(&self.access(), &dba(), &demo(), &keys, None).unwrap()
    }
    fn owner_of_prod(&self) -> Option<TeamName> {
        self.status().channels.iter().find(|c| c.channel == name("prod")).unwrap().team.clone()
    }
}

#[test]
fn a_team_publishes_promotes_and_rolls_back_without_the_targets_key() {
    let bench = Bench::new();
    publish(&bench.options("prod")).unwrap();
    let done = bench.delegated();
    assert_eq!((done.packs.as_slice(), done.threshold), (&[demo()][..], 1));
    assert_eq!(done.moved, 2, "the pack and what the channel holds");
    assert_eq!(bench.owner_of_prod(), Some(dba()));
    bench.version("1.1.0");
    publish(&bench.team()).unwrap();
    let mut access = bench.access();
    access.keys = bench.team_directory();
    rollback(&access, &demo(), &name("prod"), None).unwrap();
    let entries = log(&bench.view(), Some(&demo()), None).unwrap();
    let last = entries.last().unwrap();
    assert_eq!((last.change, &last.by.keys), (Change::Rollback, &done.keys));
    let files = snapshot(&bench.at("repo/targets"));
    assert!(files.iter().any(|(path, _)| path.ends_with("team-dba/000001.ndjson")));
    let roles = bench.status().roles;
    assert_eq!((roles[4].role.as_str(), roles[4].packs.as_slice()), ("team-dba", &[demo()][..]));
    // The targets' keys are of no use for it any more.
    bench.version("1.2.0");
    let wrong = publish(&bench.options("prod")).unwrap_err();
    assert!(matches!(wrong, RepoError::Keys(KeyError::TooFewKeys { .. })), "{wrong}");
}

#[test]
fn a_team_cannot_sign_for_others() {
    let bench = Bench::new();
    bench.delegated();
    pack::scaffold(&PackName::new("other").unwrap(), pack::Template::Script, &bench.at("other")).unwrap();
    let mut options = bench.team();
    options.pack = bench.at("other");
    let before = snapshot(&bench.at("repo"));
    let error = publish(&options).unwrap_err();
    assert!(matches!(&error, RepoError::Team(TeamError::NotDelegated { owner, .. }) if owner == "targets"), "{error}");
    options.team = None;
    let error = publish(&options).unwrap_err();
    assert!(matches!(error, RepoError::Keys(KeyError::TooFewKeys { .. })), "{error}");
    let mut after = snapshot(&bench.at("repo"));
    after.retain(|(path, _)| !path.ends_with(".lock"));
    assert_eq!(after.len(), before.iter().filter(|(path, _)| !path.ends_with(".lock")).count());
    // Nor does one pack have two teams.
    let keys = TeamKeys::New(bench.at("sre"), None);
    let taken = delegate(&bench.access(), &TeamName::new("sre").unwrap(), &demo(), &keys, None).unwrap_err();
    assert!(matches!(taken, RepoError::Team(TeamError::Taken { .. })), "{taken}");
    assert!(!bench.at("sre/team-sre.pem").exists());
}

#[test]
fn a_team_keeps_its_private_keys_to_itself() {
    let bench = Bench::new();
    let keys = ["a", "b"].map(|member| team_key(&dba(), &bench.at(member), None).unwrap()[1].clone());
    let public = TeamKeys::Public(keys.to_vec());
    let done = delegate(&bench.access(), &dba(), &demo(), &public, Some(2)).unwrap();
    assert_eq!((done.keys.len(), done.threshold), (2, 2));
    bench.status();
    let directory = bench.team_directory();
    fs::copy(bench.at("a/team-dba.pem"), directory.join("team-dba.pem")).unwrap();
    let error = publish(&bench.team()).unwrap_err();
    assert!(matches!(error, RepoError::Keys(KeyError::TooFewKeys { good: 1, threshold: 2, .. })), "{error}");
    fs::copy(bench.at("b/team-dba.pem"), directory.join("team-dba-2.pem")).unwrap();
    publish(&bench.team()).unwrap();
    assert_eq!(bench.owner_of_prod(), Some(dba()));
    // Another team's file, or one that was changed.
    let [_, other] = team_key(&TeamName::new("sre").unwrap(), &bench.at("c"), None).unwrap();
    let web = PackName::new("web").unwrap();
    let keys = TeamKeys::Public(vec![other.clone()]);
    let error = delegate(&bench.access(), &TeamName::new("ops").unwrap(), &web, &keys, None).unwrap_err();
    assert!(matches!(error, RepoError::Team(TeamError::NotAPublicKey { .. })), "{error}");
    let text = fs::read_to_string(&other).unwrap().replace("\"sre\"", "\"ops\"");
    fs::write(&other, text).unwrap();
    let error = delegate(&bench.access(), &TeamName::new("ops").unwrap(), &web, &keys, None);
    assert!(error.is_ok(), "the same bytes are signed by any name: {error:?}");
}

#[test]
fn what_is_published_is_not_lost_when_only_the_public_key_is_there() {
    let bench = Bench::new();
    publish(&bench.options("prod")).unwrap();
    let [_, public] = team_key(&dba(), &bench.at("a"), None).unwrap();
    let error = delegate(&bench.access(), &dba(), &demo(), &TeamKeys::Public(vec![public]), None).unwrap_err();
    assert!(matches!(error, RepoError::Team(TeamError::NeedsTeamKey { .. })), "{error}");
    assert_eq!(bench.owner_of_prod(), None);
}

#[test]
fn a_delegation_ends_with_or_without_what_was_published() {
    for dropped in [false, true] {
        let bench = Bench::new();
        publish(&bench.options("prod")).unwrap();
        bench.delegated();
        bench.version("1.1.0");
        publish(&bench.team()).unwrap();
        let done = undelegate(&bench.access(), &dba(), None, dropped).unwrap();
        assert!(done.packs.is_empty());
        let status = bench.status();
        assert_eq!(status.roles.len(), 4);
        assert_eq!(status.versions.len(), if dropped { 0 } else { 2 });
        let error = publish(&bench.team()).unwrap_err();
        assert!(matches!(error, RepoError::Team(TeamError::NotDelegated { .. })), "{error}");
        publish(&bench.options("prod")).unwrap();
        assert!(log(&bench.view(), None, None).unwrap().len() >= 6, "the journal is kept");
        // And it may begin again: agents are never shown an older version of the role.
        let again = delegate(&bench.access(), &dba(), &demo(), &TeamKeys::Private(bench.at("dba")), None).unwrap();
        assert!(again.moved > 0);
        assert!(bench.status().roles[4].version > 2);
    }
}

#[test]
fn a_team_has_several_packs_and_loses_one() {
    let bench = Bench::new();
    bench.delegated();
    let other = PackName::new("other").unwrap();
    let more = delegate(&bench.access(), &dba(), &other, &TeamKeys::AsBefore, None).unwrap();
    assert_eq!(more.packs, [demo(), other.clone()]);
    publish(&bench.team()).unwrap();
    let mut access = bench.access();
    // The team has to sign that it lists less.
    fs::copy(bench.at("dba/team-dba.pem"), bench.at("keys/team-dba.pem")).unwrap();
    access.keys = bench.at("keys");
    let less = undelegate(&access, &dba(), Some(&demo()), false).unwrap();
    assert_eq!(less.packs, [other]);
    assert_eq!(bench.owner_of_prod(), None);
}
