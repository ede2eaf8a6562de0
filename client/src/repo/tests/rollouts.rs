//! Channels: promote, widen, pause, roll back, unpublish; and their journal.

use std::io::Write as _;

use packs_schema::delivery::channel::Rule;

use super::*;

impl Bench {
    pub(super) fn access(&self) -> Access {
        Access::new(self.at("repo"), self.at("keys"))
    }
    fn publish(&self, version: &str, channel: &str) {
        self.version(version);
        publish(&self.options(channel)).unwrap();
    }
    fn promote(&self, from: &str, to: &str, percent: u8) -> Result<Changed, RepoError> {
        promote(&self.access(), &Promotion { from: Some(name(from)), percent, ..promotion(to) })
    }
    /// Returns the content of a channel in short form: `1.1.0@10 1.0.0 -1.2.0`.
    fn holds(&self, channel: &str) -> String {
        let status = self.status();
        let held = status.channels.iter().find(|c| c.channel.as_str() == channel).unwrap();
        let rule = |rule: &Rule| match (rule.percent, rule.paused) {
            (100, false) => rule.version.to_string(),
            (percent, paused) => format!("{}@{percent}{}", rule.version, if paused { "!" } else { "" }),
        };
        let withdrawn = held.withdrawn.iter().map(|version| format!("-{version}"));
        held.rules.iter().map(rule).chain(withdrawn).collect::<Vec<_>>().join(" ")
    }
}

pub(super) fn demo() -> PackName {
    PackName::new("demo").unwrap()
}

pub(super) fn name(channel: &str) -> ChannelName {
    ChannelName::new(channel).unwrap()
}

/// To all of a channel's instances, from nowhere.
fn promotion(to: &str) -> Promotion {
    let (pack, to) = (demo(), name(to));
    Promotion {
        pack,
        version: None,
        from: None,
        to,
        new_channel: true,
        percent: 100,
        filter: None,
        everywhere: false,
        again: false,
    }
}

fn version(text: &str) -> PackVersion {
    PackVersion::new(text).unwrap()
}

#[test]
fn a_channel_that_does_not_exist_is_made_on_request_only() {
    let bench = Bench::new();
    bench.publish("1.0.0", "test");
    bench.promote("test", "prod", 100).unwrap();
    bench.publish("1.1.0", "test");
    let typed = |to: &str| {
        let meant = Promotion { from: Some(name("test")), new_channel: false, ..promotion(to) };
        promote(&bench.access(), &meant)
    };
    let before = snapshot(&bench.at("repo"));
    let error = typed("prdo").unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no channel prdo in this repository, which has channels prod and test (did you mean prod?); give --new-channel \
         to make it"
    );
    assert_eq!(snapshot(&bench.at("repo")), before);
    assert!(!typed("canary").unwrap_err().to_string().contains("did you mean"));
    typed("prod").unwrap();
    // A channel that another pack is in exists.
    pack::scaffold(&PackName::new("other").unwrap(), pack::Template::Script, &bench.at("other")).unwrap();
    publish(&PublishOptions { pack: bench.at("other"), ..bench.options("lab") }).unwrap();
    typed("lab").unwrap();
}

#[test]
fn a_version_goes_from_stage_to_stage_and_back() {
    let bench = Bench::new();
    bench.publish("1.0.0", "test");
    bench.promote("test", "prod", 100).unwrap();
    bench.publish("1.1.0", "test");
    assert!(bench.promote("test", "prod", 10).unwrap().changed);
    assert_eq!(bench.holds("prod"), "1.1.0@10 1.0.0");
    let access = bench.access();
    widen(&access, &demo(), &name("prod"), 50).unwrap();
    pause(&access, &demo(), &name("prod"), true).unwrap();
    assert_eq!(bench.holds("prod"), "1.1.0@50! 1.0.0");
    assert!(!pause(&access, &demo(), &name("prod"), true).unwrap().changed, "it is paused already");
    pause(&access, &demo(), &name("prod"), false).unwrap();
    rollback(&access, &demo(), &name("prod"), None).unwrap();
    assert_eq!(bench.holds("prod"), "1.0.0 -1.1.0");
    let again = Promotion { from: Some(name("test")), again: true, ..promotion("prod") };
    promote(&access, &again).unwrap();
    assert_eq!(bench.holds("prod"), "1.1.0");
    // All have it, and what was before is in the journal only.
    rollback(&access, &demo(), &name("prod"), None).unwrap();
    assert_eq!(bench.holds("prod"), "1.0.0 -1.1.0");
    assert_eq!(bench.status().channels[0].serial, 8);
}

/// A version that went to all leaves no rule behind it: what was held before is in the journal.
#[test]
fn a_rollback_gives_a_version_to_those_who_had_it_and_to_no_others() {
    let bench = Bench::new();
    bench.publish("1.0.0", "prod");
    bench.version("1.1.0");
    publish(&PublishOptions { percent: Some(20), ..bench.options("prod") }).unwrap();
    bench.publish("1.2.0", "prod");
    assert_eq!(bench.holds("prod"), "1.2.0");
    rollback(&bench.access(), &demo(), &name("prod"), None).unwrap();
    assert_eq!(bench.holds("prod"), "1.1.0@20 1.0.0 -1.2.0");
    rollback(&bench.access(), &demo(), &name("prod"), None).unwrap();
    assert_eq!(bench.holds("prod"), "1.0.0 -1.1.0 -1.2.0");
}

#[test]
fn a_rollback_withdraws_all_that_the_channel_ever_held_above() {
    let bench = Bench::new();
    for version in ["1.0.0", "1.1.0", "1.2.0", "1.3.0"] {
        bench.publish(version, "prod");
    }
    let access = bench.access();
    rollback(&access, &demo(), &name("prod"), Some(&version("1.0.0"))).unwrap();
    assert_eq!(bench.holds("prod"), "1.0.0 -1.1.0 -1.2.0 -1.3.0");
    let before = snapshot(&bench.at("repo"));
    let nothing = rollback(&access, &demo(), &name("prod"), None).unwrap_err();
    assert!(matches!(nothing, RepoError::Release(ReleaseError::NothingBefore { .. })), "{nothing}");
    let forward = rollback(&access, &demo(), &name("prod"), Some(&version("1.2.0"))).unwrap_err();
    assert!(matches!(forward, RepoError::Release(ReleaseError::NotBack { .. })), "{forward}");
    let unknown = rollback(&access, &demo(), &name("prod"), Some(&version("0.1.0"))).unwrap_err();
    assert!(matches!(unknown, RepoError::Release(ReleaseError::NotPublished { .. })), "{unknown}");
    assert_eq!(snapshot(&bench.at("repo")), before);
}

#[test]
fn what_a_channel_does_not_hold_is_not_promoted_from_it() {
    let bench = Bench::new();
    bench.publish("1.0.0", "test");
    bench.publish("1.1.0", "dev");
    let ask = |version: Option<&str>, from: Option<&str>| {
        let version = version.map(|text| PackVersion::new(text).unwrap());
        let promotion = Promotion { version, from: from.map(name), ..promotion("prod") };
        promote(&bench.access(), &promotion)
    };
    assert!(matches!(ask(Some("1.1.0"), Some("test")), Err(RepoError::Release(ReleaseError::HoldsOther { .. }))));
    assert!(matches!(ask(None, Some("other")), Err(RepoError::Release(ReleaseError::NotHeld { .. }))));
    assert!(matches!(ask(Some("9.0.0"), None), Err(RepoError::Release(ReleaseError::NotPublished { .. }))));
    assert!(matches!(ask(None, None), Err(RepoError::Release(ReleaseError::NoVersion(_)))));
    assert_eq!(ask(Some("1.0.0"), Some("test")).unwrap().after.newest().version, version("1.0.0"));
    assert!(ask(Some("1.1.0"), None).unwrap().changed);
    assert!(matches!(ask(Some("1.0.0"), None), Err(RepoError::Release(ReleaseError::Lower { .. }))));
    assert!(matches!(
        widen(&bench.access(), &demo(), &name("prod"), 50),
        Err(RepoError::Release(ReleaseError::Narrower { .. }))
    ));
}

#[test]
fn every_change_is_recorded_and_the_record_is_checked() {
    let bench = Bench::new();
    bench.publish("1.0.0", "test");
    bench.publish("1.1.0", "test");
    bench.promote("test", "prod", 10).unwrap();
    rollback(&bench.access(), &demo(), &name("test"), None).unwrap();
    let of = |channel: Option<&str>| log(&bench.view(), None, channel.map(name).as_ref()).unwrap();
    let changes: Vec<Change> = of(None).iter().map(|entry| entry.change).collect();
    use Change::{Promote, Publish, Rollback};
    assert_eq!(changes, [Publish, Promote, Publish, Promote, Promote, Rollback]);
    let entry = &of(Some("prod"))[0];
    assert_eq!((entry.from.as_ref(), entry.version.as_ref()), (Some(&name("test")), Some(&version("1.1.0"))));
    assert_eq!(entry.by.keys, bench.status().roles[1].keys);
    assert!(entry.by.user.contains('@'), "{:?}", entry.by);
    assert!(entry.before.is_none() && entry.after.as_ref().unwrap()["rules"][0]["percent"] == 10);

    // Whoever may sign can leave a line out, and is found out.
    let owner = owner::Owner::Top;
    let edit = async |state: &mut state::State, _: &mut keys::KeyRing| {
        let bytes = state.bytes("log/000001.ndjson", 1 << 20).await?.unwrap();
        let lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
        let without = [&lines[..2], &lines[3..]].concat().concat();
        state.set(&owner, "log/000001.ndjson", without, std::collections::HashMap::new())
    };
    change::change(&bench.access(), edit).unwrap();
    let error = log(&bench.view(), None, None).unwrap_err();
    assert!(error.to_string().contains("line 3: the line before it was changed or left out"), "{error}");
}

#[test]
fn a_part_of_the_journal_that_is_full_is_closed() {
    let bench = Bench::new();
    bench.publish("1.0.0", "test");
    let edit = async |state: &mut state::State, _: &mut keys::KeyRing| {
        for _ in 0..400 {
            let mut entry = Entry::new(Change::Promote, &demo());
            entry.by.user = "x".repeat(200);
            journal::append(state, &owner::Owner::Top, entry).await?;
        }
        Ok(())
    };
    change::change(&bench.access(), edit).unwrap();
    bench.publish("1.1.0", "test");
    assert_eq!(log(&bench.view(), None, None).unwrap().len(), 404);
    let all = snapshot(&bench.at("repo/targets"));
    let parts: Vec<_> = all.iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "ndjson")).collect();
    assert!(parts.iter().all(|(_, bytes)| bytes.len() <= 64 << 10));
    assert!(parts.iter().any(|(path, _)| path.ends_with("000003.ndjson")), "{parts:?}");
}

#[test]
fn the_source_of_a_pack_travels_beside_it_and_not_in_it() {
    let bench = Bench::new();
    let plain = pack::build(&bench.at("demo")).unwrap().digest;
    assert_eq!(publish(&bench.options("dev")).unwrap().source, None);
    let git = |arguments: &[&str]| {
        let mut command = std::process::Command::new("git");
        command
            .arg("-C")
            .arg(bench.at(""))
            .args(["-c", "user.name=A", "-c", "user.email=a@example.org"])
            .args(arguments);
        command.output().is_ok_and(|output| output.status.success())
    };
    if !git(&["init", "-q"]) {
        return drop(writeln!(
            std::io::stderr(),
            "SKIPPED the_source_of_a_pack_travels_beside_it_and_not_in_it: there is no git"
        ));
    }
    assert!(git(&["add", "demo"]) && git(&["commit", "-q", "-m", "x"]) && git(&["tag", "v7"]));
    assert!(git(&["remote", "add", "origin", "https://me:hunter2@git.example.org/packs.git"]));
    let built = pack::build(&bench.at("demo")).unwrap();
    assert_eq!(built.digest, plain, "the archive is the same with and without a work tree");
    bench.publish("0.9.9", "test");
    let status = bench.status();
    let source = status.versions.iter().find(|v| v.version == version("0.9.9")).unwrap().source.clone().unwrap();
    assert_eq!(source.describe, "v7-dirty");
    assert_eq!(source.remote.as_deref(), Some("https://git.example.org/packs.git"));
    assert_eq!(source.commit.unwrap().len(), 40);
    for (path, bytes) in snapshot(&bench.at("repo")) {
        assert!(!String::from_utf8_lossy(&bytes).contains("hunter2"), "{}", path.display());
    }
}

#[test]
fn to_publish_the_same_again_leaves_a_rollout_as_it_is() {
    let bench = Bench::new();
    bench.publish("1.0.0", "prod");
    bench.publish("1.1.0", "test");
    bench.promote("test", "prod", 10).unwrap();
    pause(&bench.access(), &demo(), &name("prod"), true).unwrap();
    let again = publish(&bench.options("prod")).unwrap();
    assert!(!again.new && again.changes.is_empty());
    assert_eq!(bench.holds("prod"), "1.1.0@10! 1.0.0");
    // Unless it is asked for.
    let wider = publish(&PublishOptions { percent: Some(20), ..bench.options("prod") }).unwrap();
    assert_eq!((bench.holds("prod").as_str(), wider.changes.len()), ("1.1.0@20! 1.0.0", 1));
}

#[test]
fn what_was_taken_back_comes_again_only_when_it_is_meant() {
    let bench = Bench::new();
    bench.publish("1.0.0", "prod");
    bench.publish("1.1.0", "prod");
    rollback(&bench.access(), &demo(), &name("prod"), None).unwrap();
    let meant = Promotion { version: Some(version("1.1.0")), ..promotion("prod") };
    for refused in [publish(&bench.options("prod")).map(drop), promote(&bench.access(), &meant).map(drop)] {
        let error = refused.unwrap_err();
        assert!(
            matches!(error, RepoError::Release(ReleaseError::TakenBack { .. }))
                && error.to_string().contains("--again"),
            "{error}"
        );
    }
    assert_eq!(bench.holds("prod"), "1.0.0 -1.1.0");
    promote(&bench.access(), &Promotion { again: true, ..meant }).unwrap();
    assert_eq!(bench.holds("prod"), "1.1.0");
}

#[test]
fn a_version_for_some_is_given_to_all_when_that_is_said() {
    let bench = Bench::new();
    bench.publish("1.0.0", "prod");
    bench.publish("1.1.0", "test");
    let all = Promotion { version: Some(version("1.1.0")), ..promotion("prod") };
    promote(&bench.access(), &Promotion { filter: Some(Filter::new("app == 'web'").unwrap()), ..all.clone() }).unwrap();
    assert!(!promote(&bench.access(), &all).unwrap().changed, "without a word it is for those it was for");
    let changed = promote(&bench.access(), &Promotion { everywhere: true, ..all }).unwrap();
    assert_eq!((changed.after.rules.len(), changed.after.newest().filter.as_ref()), (1, None));
}

#[test]
fn an_archive_that_was_lost_is_there_again_when_it_is_published_again() {
    let bench = Bench::new();
    bench.publish("1.0.0", "prod");
    let before = snapshot(&bench.at("repo/targets"));
    let (archive, _) = before.iter().find(|(path, _)| path.ends_with("1.0.0.tar.gz")).unwrap();
    fs::remove_file(archive).unwrap();
    assert!(!publish(&bench.options("prod")).unwrap().new);
    assert_eq!(snapshot(&bench.at("repo/targets")), before);
}

#[test]
fn a_first_version_is_withdrawn_to_nothing_and_a_later_one_takes_its_place() {
    let bench = Bench::new();
    let access = bench.access();
    bench.publish("1.0.0", "prod");
    bench.publish("1.1.0", "prod");
    let withdrawn = withdraw(&access, &demo(), &name("prod")).unwrap();
    assert!(withdrawn.changed && withdrawn.after.holds_nothing());
    assert_eq!(bench.holds("prod"), "0.0.0-0@0 -1.0.0 -1.1.0");
    assert!(bench.status().channels[0].holds_nothing);
    assert!(!withdraw(&access, &demo(), &name("prod")).unwrap().changed, "it holds nothing already");

    let before = snapshot(&bench.at("repo"));
    for refused in [
        widen(&access, &demo(), &name("prod"), 50),
        pause(&access, &demo(), &name("prod"), true),
        pause(&access, &demo(), &name("prod"), false),
        bench.promote("prod", "test", 100),
        rollback(&access, &demo(), &name("prod"), None),
        rollback(&access, &demo(), &name("prod"), Some(&version("1.0.0"))),
    ] {
        let error = refused.unwrap_err();
        assert!(matches!(error, RepoError::Release(ReleaseError::HoldsNothing { .. })), "{error}");
        assert!(error.to_string().contains("holds nothing of demo, since every version was withdrawn"), "{error}");
    }
    let again = publish(&bench.options("prod")).unwrap_err();
    assert!(matches!(again, RepoError::Release(ReleaseError::TakenBack { .. })), "{again}");
    assert_eq!(snapshot(&bench.at("repo")), before);

    // The next version for some of the instances; the others have none.
    bench.version("1.2.0");
    let some = Some(Filter::new("app == 'web'").unwrap());
    publish(&PublishOptions { percent: Some(25), filter: some, ..bench.options("prod") }).unwrap();
    assert_eq!(bench.holds("prod"), "1.2.0@25 -1.0.0 -1.1.0");
    assert!(!bench.status().channels[0].holds_nothing);
    let nothing = rollback(&access, &demo(), &name("prod"), None).unwrap_err();
    assert!(matches!(nothing, RepoError::Release(ReleaseError::NothingBefore { .. })), "{nothing}");
    assert!(nothing.to_string().contains("--to nothing"), "{nothing}");
    bench.publish("1.3.0", "prod");
    rollback(&access, &demo(), &name("prod"), None).unwrap();
    assert_eq!(bench.holds("prod"), "1.2.0@25 -1.0.0 -1.1.0 -1.3.0");
    withdraw(&access, &demo(), &name("prod")).unwrap();
    assert_eq!(bench.holds("prod"), "0.0.0-0@0 -1.0.0 -1.1.0 -1.2.0 -1.3.0");
    // A withdrawn version, with `--again`.
    let meant = Promotion { version: Some(version("1.1.0")), again: true, ..promotion("prod") };
    promote(&access, &meant).unwrap();
    assert_eq!(bench.holds("prod"), "1.1.0 -1.0.0 -1.2.0 -1.3.0");
}

#[test]
fn nothing_is_neither_published_nor_needed_by_prune() {
    let bench = Bench::new();
    bench.version("0.0.0-0");
    let reserved = publish(&bench.options("prod")).unwrap_err();
    assert!(matches!(reserved, RepoError::Release(ReleaseError::Reserved { .. })), "{reserved}");
    bench.publish("1.0.0", "prod");
    withdraw(&bench.access(), &demo(), &name("prod")).unwrap();
    let policy = Policy { keep_versions: 0, older_than: Duration::ZERO, ..Policy::default() };
    let pruned = prune(&bench.access(), &policy).unwrap();
    assert_eq!(pruned.versions.iter().map(|gone| gone.version.to_string()).collect::<Vec<_>>(), ["1.0.0"]);
    bench.publish("1.1.0", "prod");
    assert_eq!(bench.holds("prod"), "1.1.0 -1.0.0");
}

#[test]
fn a_channel_that_held_more_than_it_can_withdraw_says_so() {
    let bench = Bench::new();
    for minor in 0..=packs_schema::delivery::channel::MAX_WITHDRAWN {
        bench.publish(&format!("1.{minor}.0"), "prod");
    }
    let before = snapshot(&bench.at("repo"));
    let error = withdraw(&bench.access(), &demo(), &name("prod")).unwrap_err();
    assert!(matches!(error, RepoError::Release(ReleaseError::TooManyToWithdraw { versions: 101, .. })), "{error}");
    assert_eq!(snapshot(&bench.at("repo")), before);
}

/// A version that was taken back and is named with `--to` is meant.
#[test]
fn a_rollback_to_a_version_that_was_taken_back_before() {
    let bench = Bench::new();
    for version in ["1.0.0", "1.1.0"] {
        bench.publish(version, "prod");
    }
    rollback(&bench.access(), &demo(), &name("prod"), None).unwrap();
    bench.publish("1.2.0", "prod");
    rollback(&bench.access(), &demo(), &name("prod"), Some(&version("1.1.0"))).unwrap();
    assert_eq!(bench.holds("prod"), "1.1.0 -1.2.0");
}

#[test]
fn a_version_that_no_channel_holds_is_unpublished_and_cannot_be_promoted() {
    let bench = Bench::new();
    for version in ["1.0.0", "1.1.0"] {
        bench.version(version);
        publish(&bench.options("dev")).unwrap();
    }
    let access = Access { reason: Some("it deletes too much".parse().unwrap()), ..bench.access() };
    let (pack, old, new) = (demo(), version("1.0.0"), version("1.1.0"));
    let held = unpublish(&access, &pack, &new).unwrap_err();
    assert!(
        matches!(&held, RepoError::Release(ReleaseError::StillHeld { channels, .. }) if channels.len() == 1),
        "{held}"
    );
    assert!(held.to_string().contains("held by channel dev"), "{held}");
    let before = bench.status().versions.len();
    assert_eq!(unpublish(&access, &pack, &old).unwrap().version, old);
    assert_eq!(bench.status().versions.len(), before - 1);
    let promotion = Promotion { version: Some(old.clone()), ..promotion("prod") };
    let refused = promote(&access, &promotion).unwrap_err();
    assert!(matches!(refused, RepoError::Release(ReleaseError::NotPublished { .. })), "{refused}");
    assert!(matches!(
        unpublish(&access, &pack, &old).unwrap_err(),
        RepoError::Release(ReleaseError::NotPublished { .. })
    ));
    let last = log(&bench.view(), None, None).unwrap().pop().unwrap();
    assert_eq!((last.change, last.version), (Change::Unpublish, Some(old)));
    assert_eq!(last.reason.as_deref(), Some("it deletes too much"));
}

#[test]
fn a_reason_is_one_line_of_bounded_length() {
    for wrong in ["", "  ", "two\nlines", "\u{1b}[2J", &"x".repeat(501)] {
        assert!(wrong.parse::<ChangeReason>().is_err(), "{wrong:?}");
    }
    assert!("clears too much".parse::<ChangeReason>().is_ok());
}
