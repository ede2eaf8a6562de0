//! The place that polls are tried in, and what is expected of them.

use std::fs;
use std::path::{Path, PathBuf};

use packs_schema::agent::config::Config;
use packs_schema::agent::rest::{FailedVersion, SyncStatus};
use packs_schema::agent::store::StoredPack;
use packs_schema::base::name::{ChannelName, PackName, PackVersion};

use super::archive::{Item, archive, pack};
use super::repository::Repository;
use crate::sync::*;

/// An instance with its store, and the repository that it follows.
pub(super) struct Bench {
    pub(super) temp: tempfile::TempDir,
    pub(super) repository: Repository,
    pub(super) config: Config,
    /// Of the channel file that was offered last.
    pub(super) serial: u64,
}

impl Bench {
    pub(super) fn new() -> Bench {
        let temp = tempfile::tempdir().unwrap();
        let repository = Repository::new(&temp.path().join("repo"));
        let at = |name: &str| temp.path().join(name).display().to_string();
        let text = format!(
            "[instance]\nid = \"i-1\"\napp = \"web\"\n[api]\nlisten = \"127.0.0.1:0\"\n\
             [tls]\ncertificate = \"/x\"\nkey = \"/x\"\nclient_ca = \"/x\"\n\
             [paths]\npacks = {:?}\npack_config = {:?}\n\
             [repository]\nurl = \"file://{}\"\nroot = {:?}\nchannel = \"prod\"\n",
            at("packs"),
            at("etc"),
            at("repo"),
            repository.root().display().to_string()
        );
        fs::create_dir(temp.path().join("etc")).unwrap();
        let config = Config::parse(&text).unwrap();
        Bench { temp, repository, config, serial: 0 }
    }

    /// With demo 1.0.0 active.
    pub(super) fn active() -> Bench {
        let mut bench = Bench::new();
        bench.offer("demo", "1.0.0", &pack("demo", "1.0.0"));
        bench.repository.publish();
        bench.poll().unwrap();
        assert_eq!(bench.current("demo"), Some("1.0.0".to_owned()), "{:?}", bench.status());
        bench
    }

    pub(super) fn offer(&mut self, name: &str, version: &str, items: &[Item]) {
        self.offer_bytes(name, version, archive(items), "");
    }

    pub(super) fn offer_bytes(&mut self, name: &str, version: &str, bytes: Vec<u8>, more: &str) {
        let (name, version) = (PackName::new(name).unwrap(), PackVersion::new(version).unwrap());
        self.repository.set(&packs_schema::delivery::channel::pack_target(&name, &version), bytes);
        let channel = packs_schema::delivery::channel::channel_target(&ChannelName::new("prod").unwrap(), &name);
        self.serial += 1;
        let serial = self.serial;
        let text = format!(
            "{{\"format\":1,\"serial\":{serial},\"pack\":\"{name}\",\"rules\":[{{\"version\":\"{version}\"{more}}}]}}"
        );
        self.repository.set(&channel, text);
    }

    /// Has the channel take back what is active, with nothing in its place for this instance.
    pub(super) fn take_back(&mut self, version: &str) {
        self.serial += 1;
        let text = serde_json::json!({"format": 1, "serial": self.serial, "pack": "demo",
            "rules": [{"version": "0.9.0", "percent": 0}], "withdrawn": [version]});
        self.repository.set("channels/prod/demo.json", text.to_string());
        self.repository.publish();
    }

    pub(super) fn poll(&self) -> Result<(), SyncError> {
        poll(&self.config, Occasion::Asked)
    }

    pub(super) fn store(&self) -> PathBuf {
        self.temp.path().join("packs")
    }

    pub(super) fn status(&self) -> SyncStatus {
        serde_json::from_slice(&fs::read(self.store().join(".status.json")).unwrap()).unwrap()
    }

    /// The active version as its record says.
    pub(super) fn current(&self, name: &str) -> Option<String> {
        let record = fs::read(self.store().join(name).join("current/.bolt/pack.json")).ok()?;
        let stored: StoredPack = serde_json::from_slice(&record).unwrap();
        Some(stored.pack.version.to_string())
    }

    /// Leaves the record of processes that ended this often in the middle of installing `what`; returns its file.
    pub(super) fn ended_on(&self, what: &str, times: u32) -> PathBuf {
        let file = self.store().join(".tuf/attempts.json");
        let boot = clock::Clock::read().unwrap().boot;
        let record = serde_json::json!({"format": 1, "boot": boot, "begun": {what: times}});
        fs::write(&file, record.to_string()).unwrap();
        file
    }

    /// Polls, and expects the pack to fail at `step` with demo 1.0.0 as it was.
    pub(super) fn expect_failure(&self, step: &str, words: &str) -> FailedVersion {
        let before = tree(&self.store().join("demo"));
        self.poll().unwrap();
        let status = self.status();
        let (name, failed) = status.failed.first().unwrap_or_else(|| panic!("nothing failed: {step} {words}")).clone();
        assert_eq!((name.as_str(), failed.step.as_str()), ("demo", step), "{failed:?}");
        assert!(failed.message.contains(words), "{:?} does not say {words:?}", failed.message);
        assert_eq!(tree(&self.store().join("demo")), before, "the active version was touched");
        assert_eq!(fs::read_dir(self.store().join(".staging")).unwrap().count(), 0, "staging is left");
        failed
    }

    /// Polls, and expects the whole poll to fail with demo 1.0.0 as it was.
    pub(super) fn expect_poll_failure(&self, words: &str) -> SyncError {
        let before = tree(&self.store().join("demo"));
        let error = self.poll().unwrap_err();
        let said = error::chain(&error);
        assert!(said.contains(words), "{said:?} does not say {words:?}");
        assert_eq!(self.status().failure.as_deref(), Some(said.as_str()));
        assert_eq!(tree(&self.store().join("demo")), before, "the active version was touched");
        error
    }
}

/// Paths, link targets and contents below `directory`.
pub(super) fn tree(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        let meta = path.symlink_metadata().unwrap();
        if meta.is_symlink() {
            let target = fs::read_link(&path).unwrap();
            found.push((path, target.into_os_string().into_encoded_bytes()));
        } else if meta.is_dir() {
            found.extend(tree(&path));
        } else {
            let content = fs::read(&path).unwrap();
            found.push((path, content));
        }
    }
    found.sort();
    found
}
