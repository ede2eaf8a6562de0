//! Pruning: what goes, what never goes, and that nothing which is needed is missed afterwards.

use std::collections::BTreeSet;
use std::time::SystemTime;

use packs_schema::base::name::TeamName;

use super::super::change::{change, with_view};
use super::rollouts::{demo, name};
use super::*;

/// Old at once, without a grace period.
fn now(keep_versions: usize) -> Policy {
    Policy { keep_versions, older_than: Duration::ZERO, grace: Duration::ZERO, ..Policy::default() }
}

fn version(text: &str) -> PackVersion {
    PackVersion::new(text).unwrap()
}

impl Bench {
    fn publish_versions(&self, channel: &str, minors: std::ops::Range<u32>) {
        for n in minors {
            self.version(&format!("1.{n}.0"));
            publish(&self.options(channel)).unwrap();
        }
    }

    fn prune(&self, policy: &Policy) -> Pruned {
        prune(&self.access(), policy).unwrap()
    }

    fn versions(&self) -> Vec<String> {
        self.status().versions.iter().map(|v| v.version.to_string()).collect()
    }

    fn archives(&self) -> usize {
        let all = snapshot(&self.at("repo/targets"));
        all.iter().filter(|(path, _)| path.to_string_lossy().ends_with(".tar.gz")).count()
    }

    fn files(&self) -> BTreeSet<PathBuf> {
        let all = snapshot(&self.at("repo")).into_iter().map(|(path, _)| path);
        all.filter(|path| !path.ends_with(".lock")).collect()
    }

    /// Every file that the newest state names is there.
    fn assert_whole(&self) {
        with_view(&View::unverified(self.at("repo")), async |state, _| {
            for (name, _, target) in state.all() {
                let path = self.at("repo/targets").join(format!("{}.{name}", hex(&target.hashes.sha256)));
                assert!(path.exists(), "{} is gone", path.display());
            }
            Ok(())
        })
        .unwrap();
        log(&View::unverified(self.at("repo")), None, None).unwrap();
    }

    fn held(&self, channel: &str) -> String {
        let status = self.status();
        let held = status.channels.iter().find(|held| held.channel.as_str() == channel);
        held.map_or_else(String::new, |held| format!("{:?} {:?}", held.rules, held.withdrawn))
    }
}

#[test]
fn old_versions_go_and_their_files_when_no_agent_can_be_reading_them() {
    let bench = Bench::new();
    bench.publish_versions("prod", 0..12);
    let before = bench.files();
    let dry = bench.prune(&Policy { dry_run: true, ..now(3) });
    assert_eq!((dry.dry_run, dry.versions.len()), (true, 8), "{dry:?}");
    assert_eq!(bench.files(), before, "a dry run changes nothing");
    assert_eq!(bench.versions().len(), 12);

    let previous = fs::read(bench.at("repo/metadata/timestamp.json")).unwrap();
    let pruned = bench.prune(&now(3));
    assert_eq!((&pruned.versions, pruned.dry_run), (&dry.versions, false));
    assert_eq!(bench.versions(), ["1.8.0", "1.9.0", "1.10.0", "1.11.0"], "the newest three, and three to roll back to");
    assert_eq!(bench.archives(), 12, "agents that have just read the timestamp before may still read them");
    // The state before is whole for such an agent.
    let newest = fs::read(bench.at("repo/metadata/timestamp.json")).unwrap();
    fs::write(bench.at("repo/metadata/timestamp.json"), previous).unwrap();
    bench.assert_whole();
    fs::write(bench.at("repo/metadata/timestamp.json"), newest).unwrap();
    let entries = log(&bench.view(), None, None).unwrap();
    assert_eq!((entries.last().unwrap().change, entries.last().unwrap().versions.len()), (Change::Prune, 8));

    for _ in 0..2 {
        refresh(&bench.access(), Duration::from_secs(400 * 86_400), false).unwrap();
    }
    let swept = bench.prune(&now(3));
    assert!(swept.versions.is_empty() && swept.bytes > 0, "{swept:?}");
    assert_eq!(bench.archives(), 4);
    bench.assert_whole();
    assert!(bench.files().len() < 32, "{:#?}", bench.files());
    assert!(bench.at("repo/metadata/1.root.json").exists());
    let again = bench.prune(&now(3));
    assert!(again.files.is_empty() && again.versions.is_empty(), "{again:?}");
}

#[test]
fn what_is_needed_is_not_removed() {
    let bench = Bench::new();
    // Held by a channel that is no longer changed, and by one whose rollout is paused in the middle.
    bench.publish_versions("old", 0..1);
    bench.publish_versions("slow", 1..2);
    bench.version("1.2.0");
    publish(&PublishOptions { percent: Some(10), ..bench.options("slow") }).unwrap();
    pause(&bench.access(), &demo(), &name("slow"), true).unwrap();
    bench.publish_versions("prod", 3..9);
    // 1.8.0 and 1.7.0 are taken back; 1.5.0 is where the next rollback goes.
    for _ in 0..2 {
        rollback(&bench.access(), &demo(), &name("prod"), None).unwrap();
    }
    bench.publish_versions("prod", 9..12);
    let running = BTreeSet::from([(demo(), version("1.4.0"))]);
    let pruned = bench.prune(&Policy { running, ..now(1) });
    let kept = |text: &str| pruned.kept.iter().find(|kept| kept.version == version(text)).map(|kept| kept.reason);
    assert_eq!([kept("1.0.0"), kept("1.1.0"), kept("1.2.0")], [Some(Reason::Held); 3], "{pruned:?}");
    assert_eq!(kept("1.4.0"), Some(Reason::Running));
    assert_eq!(kept("1.10.0"), Some(Reason::Rollback));
    assert_eq!(bench.versions(), ["1.0.0", "1.1.0", "1.2.0", "1.4.0", "1.10.0", "1.11.0"]);
    let back = rollback(&bench.access(), &demo(), &name("prod"), None).unwrap();
    assert_eq!(back.after.newest().version, version("1.10.0"));
    let gone = rollback(&bench.access(), &demo(), &name("prod"), Some(&version("1.9.0"))).unwrap_err();
    assert!(matches!(gone, RepoError::Release(ReleaseError::NotPublished { .. })), "{gone}");
    bench.assert_whole();
}

#[test]
fn young_versions_and_those_of_other_signers_stay() {
    let bench = Bench::new();
    bench.publish_versions("prod", 0..8);
    let files = bench.files();
    let pruned = bench.prune(&Policy { keep_versions: 1, ..Policy::default() });
    assert!(pruned.versions.is_empty() && pruned.files.is_empty(), "{pruned:?}");
    assert_eq!(bench.files(), files, "nothing is older than 90 days, and no file than a day");
    let team = TeamName::new("dba").unwrap();
    delegate(&bench.access(), &team, &demo(), &TeamKeys::New(bench.at("dba"), None), None).unwrap();
    let pruned = bench.prune(&now(1));
    assert_eq!((pruned.versions.len(), pruned.unsigned), (0, vec!["team-dba".to_owned()]));
    fs::copy(bench.at("dba/team-dba.pem"), bench.at("keys/team-dba.pem")).unwrap();
    assert_eq!(bench.prune(&now(1)).versions.len(), 6);
    bench.assert_whole();
}

#[test]
fn what_publishers_left_behind_goes_after_the_grace_period_and_nothing_of_others() {
    let bench = Bench::new();
    bench.publish_versions("prod", 0..2);
    let day = Policy { grace: Duration::from_secs(86_400), ..Policy::default() };
    let superseded = bench.prune(&day).waiting;
    let digest = "a".repeat(64);
    let ours = [
        format!("targets/{digest}.packs/demo/9.0.0.tar.gz"),
        format!("targets/{digest}.channels/prod/demo.json"),
        "metadata/99.targets.json".to_owned(),
        "metadata/99.snapshot.json".to_owned(),
        "metadata/.tmpAb12Cd".to_owned(),
    ];
    let others = ["metadata/README", "targets/index.html", "metadata/2.root.json.bak", "notes.txt"];
    for file in ours.iter().map(String::as_str).chain(others) {
        let path = bench.at("repo").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "left behind").unwrap();
    }
    assert_eq!(
        bench.prune(&day).waiting,
        superseded + ours.len(),
        "they may belong to a publication that is under way"
    );
    for file in ours.iter().map(String::as_str).chain(others) {
        let file = fs::File::options().write(true).open(bench.at("repo").join(file)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(2 * 86_400)).unwrap();
    }
    let swept = bench.prune(&day);
    assert_eq!(BTreeSet::from_iter(swept.files), BTreeSet::from(ours));
    assert!(others.iter().all(|file| bench.at("repo").join(file).exists()));
    bench.assert_whole();
}

#[test]
fn an_unpublished_archive_goes_when_the_repository_has_not_changed_for_the_grace_period() {
    let bench = Bench::new();
    bench.publish_versions("prod", 0..2);
    let before = now_ms();
    let unpublished = unpublish(&bench.access(), &demo(), &version("1.0.0")).unwrap();
    let day = 86_400_000;
    assert!((before + day..=now_ms() + day).contains(&unpublished.prunable_at_ms), "{unpublished:?}");
    let waits = bench.prune(&Policy::default());
    assert!(waits.files.is_empty() && waits.waiting > 0, "{waits:?}");
    let at_ms = waits.prunable_at_ms.unwrap();
    assert!((before + day..=now_ms() + day).contains(&at_ms), "{waits:?}");
    // Everything but the timestamp is old: an agent may have read the state before just now.
    let make_old = |path: &Path| {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(25 * 3600)).unwrap();
    };
    let timestamp = bench.at("repo/metadata/timestamp.json");
    bench.files().iter().filter(|path| **path != timestamp).for_each(|path| make_old(path));
    assert_eq!(bench.archives(), 2);
    bench.prune(&Policy::default());
    assert_eq!(bench.archives(), 2);
    make_old(&timestamp);
    let gone = bench.prune(&Policy::default());
    assert!(gone.waiting == 0 && gone.prunable_at_ms.is_none(), "{gone:?}");
    assert_eq!(bench.archives(), 1);
    bench.assert_whole();
}

#[test]
fn the_beginning_of_the_journal_goes_and_only_with_a_line_that_says_so() {
    let bench = Bench::new();
    bench.publish_versions("prod", 0..200);
    let all = log(&bench.view(), None, None).unwrap().len();
    let kept = bench.prune(&Policy { journal_older_than: Some(Duration::from_secs(3600)), ..now(3) });
    assert!(kept.journal.is_empty(), "all of it is young: {kept:?}");
    let pruned = bench.prune(&Policy { journal_older_than: Some(Duration::ZERO), ..now(3) });
    assert!(!pruned.journal.is_empty(), "{pruned:?}");
    let left = log(&bench.view(), None, None).unwrap();
    assert!(left.len() < all && left.last().unwrap().dropped.is_some(), "{} of {all}", left.len());
    let back = rollback(&bench.access(), &demo(), &name("prod"), None).unwrap();
    assert_eq!(back.after.newest().version, version("1.198.0"));
    // A publisher with a key leaves out more lines, without recording it.
    let edit = async |state: &mut super::super::state::State, _: &mut super::super::keys::KeyRing| {
        let owner = super::super::owner::Owner::Top;
        let first = super::super::journal::parts(state, &owner).await?.remove(0);
        state.unset(&owner, &first.name)
    };
    change(&bench.access(), edit).unwrap();
    let error = log(&bench.view(), None, None).unwrap_err().to_string();
    assert!(error.contains("no line says that they were pruned"), "{error}");
}

/// Two repositories with the same history, one of which is pruned again and again: every change comes to the same in both.
#[test]
fn a_repository_that_is_pruned_answers_every_change_as_one_that_is_not() {
    for seed in 1..=3_u64 {
        let (whole, pruned) = (Bench::new(), Bench::new());
        let mut state = seed;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut rollbacks = [0; 2];
        for step in 0..30 {
            let channel = usize::try_from(random(2)).unwrap();
            let to = ["dev", "prod"][channel];
            let what = random(8);
            let percent = u8::try_from(random(10) * 10 + 10).unwrap();
            let done = [&whole, &pruned].map(|bench| match what {
                0..=3 => {
                    bench.version(&format!("1.{step}.0"));
                    let options = PublishOptions { percent: Some(percent), ..bench.options(to) };
                    publish(&options).map(drop).map_err(|e| e.to_string())
                }
                4 => widen(&bench.access(), &demo(), &name(to), 100).map(drop).map_err(|e| e.to_string()),
                5 => pause(&bench.access(), &demo(), &name(to), percent > 50).map(drop).map_err(|e| e.to_string()),
                // A prune keeps that many versions for rollbacks.
                6 if rollbacks[channel] < 3 => {
                    rollback(&bench.access(), &demo(), &name(to), None).map(drop).map_err(|e| e.to_string())
                }
                _ => Ok(()),
            });
            rollbacks[channel] += usize::from(what == 6);
            assert_eq!(done[0], done[1], "seed {seed}, step {step}, {what} to {to}");
            assert_eq!(whole.held(to), pruned.held(to), "seed {seed}, step {step}");
            if random(3) == 0 {
                pruned.prune(&Policy { journal_older_than: Some(Duration::ZERO), ..now(3) });
                pruned.assert_whole();
            }
        }
        assert!(pruned.archives() < whole.archives() || whole.archives() < 10, "seed {seed}");
    }
}
