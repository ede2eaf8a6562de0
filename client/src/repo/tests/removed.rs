//! Versions that were removed: their digests are remembered.

use packs_schema::base::name::TeamName;

use super::rollouts::{demo, name};
use super::*;

fn version(text: &str) -> PackVersion {
    PackVersion::new(text).unwrap()
}

impl Bench {
    fn publish_one(&self, version: &str, note: &str) -> Result<Published, RepoError> {
        self.version(version);
        fs::write(self.at("demo/note.txt"), note).unwrap();
        publish(&self.options("prod"))
    }

    /// Publishes with the key of team `dba`.
    fn publish_as_team(&self, version: &str, note: &str) -> Result<Published, RepoError> {
        fs::copy(self.at("dba/team-dba.pem"), self.at("keys/team-dba.pem")).unwrap();
        self.publish_one(version, note)
    }

    fn delegate_demo(&self) {
        delegate(&self.access(), &dba(), &demo(), &TeamKeys::New(self.at("dba"), None), None).unwrap();
    }
}

fn dba() -> TeamName {
    TeamName::new("dba").unwrap()
}

fn refused(result: Result<Published, RepoError>, digest: &str) {
    let error = result.unwrap_err();
    let RepoError::Release(ReleaseError::VersionRemoved { removed, .. }) = &error else { panic!("{error}") };
    assert_eq!(removed, digest);
    assert!(error.to_string().contains("raise the version in pack.yaml"), "{error}");
}

#[test]
fn an_unpublished_version_comes_back_with_the_same_content_only() {
    let bench = Bench::new();
    let first = bench.publish_one("1.0.0", "first").unwrap();
    bench.publish_one("1.1.0", "second").unwrap();
    unpublish(&bench.access(), &demo(), &version("1.0.0")).unwrap();
    let mut options = bench.options("test");
    bench.version("1.0.0");
    fs::write(bench.at("demo/note.txt"), "other").unwrap();
    refused(publish(&options), first.digest.as_str());
    // Also by a team that the pack was delegated to since, and after that.
    bench.delegate_demo();
    fs::copy(bench.at("dba/team-dba.pem"), bench.at("keys/team-dba.pem")).unwrap();
    refused(publish(&options), first.digest.as_str());
    undelegate(&bench.access(), &dba(), None, false).unwrap();
    refused(publish(&options), first.digest.as_str());
    fs::write(bench.at("demo/note.txt"), "first").unwrap();
    options.channels = vec![name("lab")];
    let again = publish(&options).unwrap();
    assert!(again.new && again.digest == first.digest, "{again:?}");
}

#[test]
fn versions_that_were_pruned_or_dropped_with_a_team_are_remembered() {
    let bench = Bench::new();
    let first = bench.publish_one("1.0.0", "first").unwrap();
    for n in 1..4 {
        bench.publish_one(&format!("1.{n}.0"), "later").unwrap();
    }
    let policy = Policy { keep_versions: 1, older_than: Duration::ZERO, ..Policy::default() };
    let pruned = prune(&bench.access(), &policy).unwrap();
    assert!(pruned.versions.iter().any(|gone| gone.version == version("1.0.0")), "{pruned:?}");
    let other = |version: &str| {
        bench.version(version);
        fs::write(bench.at("demo/note.txt"), "other").unwrap();
        publish(&bench.options("lab"))
    };
    refused(other("1.0.0"), first.digest.as_str());

    bench.delegate_demo();
    let theirs = bench.publish_as_team("2.0.0", "theirs").unwrap();
    undelegate(&bench.access(), &dba(), None, true).unwrap();
    assert!(bench.status().versions.is_empty());
    refused(other("2.0.0"), theirs.digest.as_str());
    refused(other("1.0.0"), first.digest.as_str());
    log(&bench.view(), None, None).unwrap();
}
