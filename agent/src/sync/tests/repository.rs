//! A repository that a test can get wrong on purpose: signed with keys of its own, with whatever versions, expiries and
//! delegations, by who may and by who may not.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tough::TargetName;
use tough::schema::decoded::{Decoded, Hex};
use tough::schema::{
    DelegatedRole, DelegatedTargets, Delegations, Hashes, Metafile, PathPattern, PathSet, Role, RoleKeys, RoleType,
    Root, Signature, Signed, Snapshot, Target, Targets, Timestamp,
};
use tough::sign::Sign;

/// A key in memory.
#[derive(Clone)]
pub(super) struct Key(Vec<u8>);

impl Key {
    pub(super) fn new() -> Key {
        Key(Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap().as_ref().to_vec())
    }
    fn pair(&self) -> Ed25519KeyPair {
        Ed25519KeyPair::from_pkcs8(&self.0).unwrap()
    }
    fn id(&self) -> Decoded<Hex> {
        self.pair().tuf_key().key_id().unwrap()
    }
}

/// Signs `role` with all of `keys`, whether they may or not.
fn sign<T: Role + Serialize>(role: T, keys: &[Key]) -> Vec<u8> {
    let message = role.canonical_form().unwrap();
    let signature = |key: &Key| {
        let signed = runtime().block_on(Sign::sign(&key.pair(), &message, &SystemRandom::new())).unwrap();
        Signature { keyid: key.id(), sig: signed.into() }
    };
    let signatures = keys.iter().map(signature).collect();
    serde_json::to_vec_pretty(&Signed { signed: role, signatures }).unwrap()
}

/// A team with a key of its own.
pub(super) struct Team {
    pub(super) name: &'static str,
    pub(super) key: Key,
    /// Paths that are delegated to it.
    pub(super) paths: Vec<&'static str>,
    pub(super) version: u64,
    /// Seconds from now that its metadata are good for.
    pub(super) expires: i64,
    pub(super) targets: BTreeMap<String, Vec<u8>>,
}

impl Team {
    pub(super) fn new(name: &'static str, paths: &[&'static str]) -> Team {
        let (key, paths) = (Key::new(), paths.to_vec());
        Team { name, key, paths, version: 0, expires: 3600, targets: BTreeMap::new() }
    }
}

/// The repository. Nothing appears in it before [`Repository::publish`].
pub(super) struct Repository {
    directory: PathBuf,
    /// Of root, targets, snapshot and timestamp.
    pub(super) keys: [Vec<Key>; 4],
    /// Number of signatures required.
    pub(super) thresholds: [u64; 4],
    /// Of root, targets, snapshot and timestamp.
    pub(super) versions: [u64; 4],
    targets: BTreeMap<String, Vec<u8>>,
    pub(super) teams: Vec<Team>,
    /// Teams that sign, and are in the snapshot, but that the targets delegate nothing to.
    pub(super) strangers: Vec<Team>,
    /// Roles that the snapshot leaves out.
    pub(super) hidden: Vec<String>,
    signs_instead: Option<Key>,
    /// Seconds from now that the next timestamp is good for.
    pub(super) timestamp_expires: i64,
    pub(super) snapshot_expires: i64,
    pub(super) targets_expires: i64,
    pub(super) root_expires: i64,
    /// When its publisher says that the next targets were published.
    pub(super) published_at_ms: Option<u64>,
}

impl Repository {
    pub(super) fn new(directory: &Path) -> Repository {
        let key = vec![Key::new()];
        for name in ["metadata", "targets"] {
            fs::create_dir_all(directory.join(name)).unwrap();
        }
        let repository = Repository {
            directory: directory.to_owned(),
            keys: [(); 4].map(|()| key.clone()),
            thresholds: [1; 4],
            versions: [1, 0, 0, 0],
            targets: BTreeMap::new(),
            teams: Vec::new(),
            strangers: Vec::new(),
            hidden: Vec::new(),
            signs_instead: None,
            timestamp_expires: 3600,
            snapshot_expires: 3600,
            targets_expires: 3600,
            root_expires: 3600,
            published_at_ms: None,
        };
        repository.write_root(&[]);
        repository
    }

    pub(super) fn root(&self) -> PathBuf {
        self.directory.join("metadata/1.root.json")
    }

    pub(super) fn metadata(&self) -> PathBuf {
        self.directory.join("metadata")
    }

    /// Where the file of a target is.
    pub(super) fn target_file(&self, name: &str) -> PathBuf {
        self.file_of(name, &self.targets[name])
    }

    pub(super) fn file_of(&self, name: &str, bytes: &[u8]) -> PathBuf {
        self.directory.join(format!("targets/{}.{name}", hex(&Sha256::digest(bytes))))
    }

    pub(super) fn set(&mut self, name: &str, bytes: impl Into<Vec<u8>>) {
        self.targets.insert(name.to_owned(), bytes.into());
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Vec<u8>> {
        self.targets.remove(name)
    }

    /// Gives all roles another key, in a root that the old key signs, and restarts the versions.
    pub(super) fn rotate(&mut self) {
        let key = vec![Key::new()];
        let old = std::mem::replace(&mut self.keys, [(); 4].map(|()| key.clone()));
        self.versions = [self.versions[0] + 1, 0, 0, 0];
        self.write_root(&old[0]);
    }

    /// Gives one role (0: root, 1: targets, 2: snapshot, 3: timestamp) another key in a new root; returns the old ones.
    pub(super) fn replace_key(&mut self, role: usize) -> Vec<Key> {
        let vouching = self.keys[0].clone();
        let old = std::mem::replace(&mut self.keys[role], vec![Key::new()]);
        self.versions[0] += 1;
        self.write_root(&vouching);
        old
    }

    /// Signed by the root's own keys, and by those that vouch for it.
    pub(super) fn write_root(&self, vouching: &[Key]) {
        let mut root = Root {
            spec_version: "1.0.0".to_owned(),
            consistent_snapshot: true,
            version: number(self.versions[0]),
            expires: after(self.root_expires),
            keys: HashMap::new(),
            roles: HashMap::new(),
            _extra: HashMap::new(),
        };
        let roles = [RoleType::Root, RoleType::Targets, RoleType::Snapshot, RoleType::Timestamp];
        for ((role, keys), threshold) in roles.into_iter().zip(&self.keys).zip(self.thresholds) {
            root.keys.extend(keys.iter().map(|key| (key.id(), key.pair().tuf_key())));
            let keyids = keys.iter().map(Key::id).collect();
            root.roles.insert(role, RoleKeys { keyids, threshold: number(threshold), _extra: HashMap::new() });
        }
        let others = vouching.iter().filter(|key| !self.keys[0].iter().any(|own| own.id() == key.id()));
        let signers: Vec<Key> = self.keys[0].iter().chain(others).cloned().collect();
        fs::write(self.metadata().join(format!("{}.root.json", self.versions[0])), sign(root, &signers)).unwrap();
    }

    /// Signs and writes what was set, in the next version of every role.
    pub(super) fn publish(&mut self) {
        self.versions.iter_mut().skip(1).for_each(|version| *version += 1);
        self.teams.iter_mut().chain(&mut self.strangers).for_each(|team| team.version += 1);
        self.write();
    }

    /// Signs and writes what was set, in the versions that were set.
    pub(super) fn write(&self) {
        let all = self.teams.iter().chain(&self.strangers);
        for (name, bytes) in self.targets.iter().chain(all.clone().flat_map(|team| &team.targets)) {
            let file = self.file_of(name, bytes);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, bytes).unwrap();
        }
        let mut meta = HashMap::new();
        let mut list = |role: &str, version: u64, bytes: &[u8]| {
            fs::write(self.metadata().join(format!("{version}.{role}.json")), bytes).unwrap();
            if !self.hidden.iter().any(|hidden| hidden == role) {
                meta.insert(format!("{role}.json"), metafile(version, bytes));
            }
        };
        for team in all {
            let targets = self.list(&team.targets, team.version, team.expires);
            let role = DelegatedTargets { name: team.name.to_owned(), targets };
            let key = self.signs_instead.as_ref().unwrap_or(&team.key);
            list(team.name, team.version, &sign(role, std::slice::from_ref(key)));
        }
        let mut targets = self.list(&self.targets, self.versions[1], self.targets_expires);
        targets.delegations = (!self.teams.is_empty()).then(|| self.delegations());
        list("targets", self.versions[1], &sign(targets, &self.keys[1]));
        let mut snapshot = Snapshot::new("1.0.0".to_owned(), number(self.versions[2]), after(self.snapshot_expires));
        snapshot.meta = meta;
        let bytes = sign(snapshot, &self.keys[2]);
        fs::write(self.metadata().join(format!("{}.snapshot.json", self.versions[2])), &bytes).unwrap();
        self.write_timestamp(self.versions[3], self.versions[2], &bytes);
    }

    /// Signs the next version of everything, but the metadata of one team with another key than the delegation names.
    pub(super) fn sign_team_with(&mut self, team: usize, key: &Key) {
        self.versions.iter_mut().skip(1).for_each(|version| *version += 1);
        self.teams[team].version += 1;
        self.signs_instead = Some(key.clone());
        self.write();
        self.signs_instead = None;
    }

    /// A timestamp for this snapshot.
    pub(super) fn write_timestamp(&self, version: u64, of: u64, snapshot: &[u8]) {
        let mut timestamp = Timestamp::new("1.0.0".to_owned(), number(version), after(self.timestamp_expires));
        timestamp.meta = HashMap::from([("snapshot.json".to_owned(), metafile(of, snapshot))]);
        fs::write(self.metadata().join("timestamp.json"), sign(timestamp, &self.keys[3])).unwrap();
    }

    fn list(&self, listed: &BTreeMap<String, Vec<u8>>, version: u64, expires: i64) -> Targets {
        let mut targets = Targets::new("1.0.0".to_owned(), number(version), after(expires));
        targets.delegations = None;
        for (name, bytes) in listed {
            let sha256 = Sha256::digest(bytes).to_vec().into();
            let published = self.published_at_ms.map(|at| ("published_at_ms".to_owned(), at.into()));
            let target = Target {
                length: bytes.len() as u64,
                hashes: Hashes { sha256, _extra: HashMap::new() },
                custom: published.into_iter().collect(),
                _extra: HashMap::new(),
            };
            targets.targets.insert(TargetName::new(name).unwrap(), target);
        }
        targets
    }

    fn delegations(&self) -> Delegations {
        let mut delegations = Delegations::new();
        for team in &self.teams {
            delegations.keys.insert(team.key.id(), team.key.pair().tuf_key());
            let paths = team.paths.iter().map(|path| PathPattern::new(*path).unwrap()).collect();
            delegations.roles.push(DelegatedRole {
                name: team.name.to_owned(),
                keyids: vec![team.key.id()],
                threshold: NonZeroU64::MIN,
                paths: PathSet::Paths(paths),
                terminating: true,
                targets: None,
            });
        }
        delegations
    }
}

fn metafile(version: u64, bytes: &[u8]) -> Metafile {
    let hashes = Hashes { sha256: Sha256::digest(bytes).to_vec().into(), _extra: HashMap::new() };
    Metafile {
        length: Some(bytes.len() as u64),
        hashes: Some(hashes),
        version: number(version),
        _extra: HashMap::new(),
    }
}

fn number(version: u64) -> NonZeroU64 {
    NonZeroU64::new(version).unwrap()
}

fn after(seconds: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + seconds).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
