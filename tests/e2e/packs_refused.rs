//! A repository that was tampered with: nothing of it is activated, what was active stays and runs.

use std::fs;
use std::path::{Path, PathBuf};

use bolt_client::local::LocalAgent;
use bolt_tests::http::Call;
use bolt_tests::{PackSource, World};
use packs_schema::rest::{Health, PackList};
use packs_schema::run::State;
use serde_json::json;

use crate::calls::{done, operator, until};

struct Case {
    world: World,
    agent: LocalAgent,
}

impl Case {
    /// An agent with the probe pack 1.0.0 active, in a repository that now offers 1.1.0.
    fn new() -> Case {
        let world = World::with_probe();
        let agent = world.agent();
        world.publish(&PackSource::probe().version("1.1.0"));
        Case { world, agent }
    }

    /// Asks for a poll, and waits for its end.
    async fn sync(&self) -> PackList {
        let before = self.agent.sync_status().map_or(0, |s| s.polls);
        let answer = operator(&self.world, &self.agent, Call::post("/v1/packs/sync", "")).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        until("a poll", async || self.agent.sync_status().is_some_and(|s| s.polls > before)).await;
        operator(&self.world, &self.agent, Call::get("/v1/packs")).await.json()
    }

    /// The next poll must refuse with `reason`, show it everywhere, and leave 1.0.0 running.
    async fn refused(&self, reason: &str) {
        let packs = self.sync().await;
        let probe = &packs.items[0];
        assert_eq!(probe.version.as_ref().map(ToString::to_string).as_deref(), Some("1.0.0"), "{packs:?}");
        let said = format!("{:?} {:?}", probe.failed, packs.sync);
        assert!(said.to_lowercase().contains(reason), "{said} does not name {reason:?}");
        let health: Health = operator(&self.world, &self.agent, Call::get("/v1/health")).await.json();
        assert!(health.ready && health.degraded && !health.reasons.is_empty(), "{health:?}");
        let hello = done(&self.world, &self.agent, "probe.hello", json!({})).await;
        assert_eq!((hello.state, hello.version.to_string()), (State::Succeeded, "1.0.0".to_owned()));
    }

    fn find(&self, end: &str) -> PathBuf {
        let mut found = files(&self.world.site.repository());
        found.retain(|path| path.to_string_lossy().ends_with(end));
        found.pop().unwrap_or_else(|| panic!("no file ends with {end}"))
    }

    fn edit(&self, end: &str, edit: impl Fn(Vec<u8>) -> Vec<u8>) {
        let path = self.find(end);
        fs::write(&path, edit(fs::read(&path).unwrap())).unwrap();
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[tokio::test]
async fn nothing_wrong() {
    let case = Case::new();
    let packs = case.sync().await;
    assert_eq!(packs.items[0].version.as_ref().unwrap().to_string(), "1.1.0", "{packs:?}");
}

#[tokio::test]
async fn a_wrong_signature() {
    let case = Case::new();
    case.edit("timestamp.json", |text| {
        let mut value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        value["signed"]["expires"] = "2099-01-01T00:00:00Z".into();
        serde_json::to_vec(&value).unwrap()
    });
    case.refused("signature").await;
}

#[tokio::test]
async fn a_wrong_hash() {
    let case = Case::new();
    case.edit("1.1.0.tar.gz", |mut bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    });
    case.refused("hash").await;
}

#[tokio::test]
async fn a_wrong_length() {
    let case = Case::new();
    case.edit("1.1.0.tar.gz", |bytes| [bytes.as_slice(), &[0; 100]].concat());
    case.refused("size").await;
}

#[tokio::test]
async fn a_missing_archive() {
    let case = Case::new();
    fs::remove_file(case.find("1.1.0.tar.gz")).unwrap();
    case.refused("1.1.0").await;
}

#[tokio::test]
async fn an_older_version_replayed() {
    let world = World::with_probe();
    let old = world.scratch("old");
    let copy = |from: &Path, to: &Path| {
        assert!(std::process::Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap().success());
    };
    copy(&world.site.repository(), &old);
    world.publish(&PackSource::probe().version("1.1.0"));
    let agent = world.agent();
    let case = Case { world, agent };
    fs::remove_dir_all(case.world.site.repository()).unwrap();
    fs::create_dir(case.world.site.repository()).unwrap();
    copy(&old, &case.world.site.repository());
    let packs = case.sync().await;
    assert_eq!(packs.items[0].version.as_ref().unwrap().to_string(), "1.1.0", "{packs:?}");
    let said = format!("{:?}", packs.sync).to_lowercase();
    assert!(said.contains("previously fetched version"), "{said}");
}

#[tokio::test]
async fn a_repository_of_other_keys() {
    let case = Case::new();
    let other = World::with_probe();
    fs::remove_dir_all(case.world.site.repository()).unwrap();
    fs::rename(other.site.repository(), case.world.site.repository()).unwrap();
    case.refused("signature").await;
}

#[tokio::test]
async fn a_repository_that_is_gone() {
    let case = Case::new();
    fs::remove_dir_all(case.world.site.repository()).unwrap();
    case.refused("metadata").await;
}
