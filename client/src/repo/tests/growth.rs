//! Repositories that grow: what agents download stays small, and nothing that was published is lost.

use packs_schema::base::name::TeamName;

use super::rollouts::{demo, name};
use super::*;

/// Number of versions from which on some are retired.
const MANY: u32 = 90;

impl Bench {
    fn publish_many(&self, options: &PublishOptions) {
        for n in 0..MANY {
            self.version(&format!("1.{n}.0"));
            publish(options).unwrap();
        }
    }

    /// The newest metadata file of a role.
    fn newest(&self, role: &str) -> PathBuf {
        let number = |path: &PathBuf| {
            let name = path.file_name()?.to_str()?.strip_suffix(&format!(".{role}.json"))?;
            name.parse::<u64>().ok()
        };
        let files = fs::read_dir(self.at("repo/metadata")).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|path| number(path).is_some()).max_by_key(|path| number(path)).unwrap()
    }

    /// The names of the targets that agents download of a role.
    fn listed(&self, role: &str) -> Vec<String> {
        let metadata: serde_json::Value = serde_json::from_slice(&fs::read(self.newest(role)).unwrap()).unwrap();
        metadata["signed"]["targets"].as_object().unwrap().keys().cloned().collect()
    }

    fn listed_archives(&self, role: &str) -> usize {
        self.listed(role).iter().filter(|name| name.starts_with("packs/")).count()
    }
}

fn version(text: &str) -> PackVersion {
    PackVersion::new(text).unwrap()
}

#[test]
fn versions_that_no_channel_holds_are_retired_and_stay_published() {
    let bench = Bench::new();
    bench.version("0.9.0");
    publish(&bench.options("old")).unwrap();
    let first = snapshot(&bench.at("repo/targets"));
    bench.publish_many(&bench.options("prod"));
    assert!(bench.listed_archives("targets") <= 66, "{:?}", bench.listed("targets"));
    assert!(fs::metadata(bench.newest("targets")).unwrap().len() < 24_000);
    let listed = bench.listed("targets");
    assert!(listed.contains(&"packs/demo/0.9.0.tar.gz".to_owned()), "a channel holds it: {listed:?}");
    assert!(!listed.contains(&"packs/demo/1.0.0.tar.gz".to_owned()), "{listed:?}");
    let versions = bench.status().versions;
    assert_eq!(versions.len(), MANY as usize + 1);
    assert!(versions.iter().all(|version| version.published_at_ms.is_some()));
    // Its content is unchanged.
    bench.version("1.0.0");
    let mut options = bench.options("late");
    fs::write(bench.at("demo/note.txt"), "changed").unwrap();
    let taken = publish(&options).unwrap_err();
    assert!(matches!(taken, RepoError::Release(ReleaseError::VersionTaken { .. })), "{taken}");
    fs::remove_file(bench.at("demo/note.txt")).unwrap();
    options.percent = Some(10);
    assert!(!publish(&options).unwrap().new);
    assert!(bench.listed("targets").contains(&"packs/demo/1.0.0.tar.gz".to_owned()), "a channel needs it again");
    // Both a rollback and a promotion list what they need.
    rollback(&bench.access(), &demo(), &name("prod"), Some(&version("1.3.0"))).unwrap();
    assert!(bench.listed("targets").contains(&"packs/demo/1.3.0.tar.gz".to_owned()));
    let entries = log(&bench.view(), None, None).unwrap();
    assert_eq!(entries.len(), 2 * (MANY as usize + 1) + 2);
    assert_eq!(bench.status().versions.len(), MANY as usize + 1);
    assert!(first.iter().all(|(path, bytes)| fs::read(path).unwrap() == *bytes));
}

#[test]
fn retired_versions_move_with_their_pack_from_and_to_a_team() {
    for dropped in [false, true] {
        let bench = Bench::new();
        bench.publish_many(&bench.options("prod"));
        let team = TeamName::new("dba").unwrap();
        let moved = delegate(&bench.access(), &team, &demo(), &TeamKeys::New(bench.at("dba"), None), None).unwrap();
        assert_eq!(moved.moved, MANY as usize + 1, "all versions, and what the channel holds");
        assert!(bench.listed("targets").iter().all(|name| name.starts_with("log/0")), "{:?}", bench.listed("targets"));
        assert!(bench.listed_archives("team-dba") <= 66);
        let status = bench.status();
        assert_eq!(status.versions.len(), MANY as usize);
        assert!(status.versions.iter().all(|version| version.team.as_ref() == Some(&team)));
        fs::copy(bench.at("dba/team-dba.pem"), bench.at("keys/team-dba.pem")).unwrap();
        undelegate(&bench.access(), &team, None, dropped).unwrap();
        assert_eq!(bench.status().versions.len(), if dropped { 0 } else { MANY as usize });
        assert!(bench.listed("targets").iter().all(|name| !name.starts_with("log/team-dba/retired")));
        log(&bench.view(), None, None).unwrap();
    }
}

#[test]
fn a_change_writes_little_of_the_journal_again() {
    let bench = Bench::new();
    bench.publish_many(&bench.options("prod"));
    let written = snapshot(&bench.at("repo/targets"));
    let journal = written.iter().filter(|(path, _)| path.extension() == Some("ndjson".as_ref()));
    let journal: u64 = journal.map(|(_, bytes)| bytes.len() as u64).sum();
    let change = journal / u64::from(MANY);
    assert!(change < 24_000, "{change} bytes of the journal are written for each publication");
    let parts = bench.listed("targets").iter().filter(|name| name.ends_with(".ndjson")).count();
    assert!(parts <= 5, "{parts}");
    let entries = super::log(&bench.view(), None, None).unwrap();
    assert_eq!(entries.len(), 2 * MANY as usize);
}

/// Creates a repository as an earlier version wrote it: 70 versions of one pack, a team, a rollback.
#[test]
fn a_repository_of_the_format_before_is_read_and_written() {
    let bench = Bench::new();
    let archive = fs::File::open("../tests/fixtures/repository-format-1.tar.gz").unwrap();
    let old = bench.at("old");
    tar::Archive::new(flate2::read::GzDecoder::new(archive)).unpack(&old).unwrap();
    let mut access = Access::new(old.join("repo"), old.join("keys"));
    access.root = Some(old.join("repo/metadata/1.root.json"));
    let mut view = View::pinned(old.join("repo"), old.join("keys"));
    view.root.clone_from(&access.root);
    let status = || status(&view).unwrap();
    let before = status();
    assert_eq!((before.versions.len(), before.channels.len()), (72, 3));
    let small = PackName::new("small").unwrap();
    let lines = log(&view, None, None).unwrap();
    // A rollback to a version that is retired by the same change, and held by nothing else.
    let back = rollback(&access, &small, &name("prod"), None).unwrap();
    assert_eq!(back.after.newest().version, version("1.45.0"));
    let after = status();
    assert_eq!(after.versions, before.versions);
    let web = |status: &Status| status.channels.iter().find(|held| held.pack.as_str() == "web").cloned();
    assert_eq!(web(&after), web(&before));
    let newest = old.join("repo/metadata/82.targets.json");
    let text = fs::read_to_string(&newest).unwrap();
    let listed = text.matches("packs/small/").count();
    assert!(listed <= 18 && text.contains("packs/small/1.45.0") && text.contains("packs/small/1.69.0"), "{listed}");
    let now = log(&view, None, None).unwrap();
    assert_eq!(now.len(), lines.len() + 1);
    assert_eq!(now[..lines.len()], lines);
    // Its team goes on.
    widen(&access, &PackName::new("web").unwrap(), &name("prod"), 100).unwrap();
    let pruned = prune(&access, &Policy { older_than: Duration::ZERO, ..Policy::default() }).unwrap();
    assert!(pruned.versions.len() > 50, "{pruned:?}");
    assert_eq!(rollback(&access, &small, &name("prod"), None).unwrap().after.newest().version, version("1.35.0"));
}
