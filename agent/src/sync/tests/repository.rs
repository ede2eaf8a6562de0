//! A repository that a test can get wrong on purpose: signed with a key of its own, through tough's editor.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use jiff::Timestamp;
use tough::editor::RepositoryEditor;
use tough::editor::signed::SignedRole;
use tough::key_source::KeySource;
use tough::schema::{Hashes, KeyHolder, RoleKeys, RoleType, Root, Target};
use tough::sign::Sign;

use sha2::{Digest as _, Sha256};

/// A key in memory.
#[derive(Clone)]
struct Key(Vec<u8>);

impl Key {
    fn new() -> Key {
        Key(Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap().as_ref().to_vec())
    }
    fn pair(&self) -> Ed25519KeyPair {
        Ed25519KeyPair::from_pkcs8(&self.0).unwrap()
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

#[async_trait]
impl KeySource for Key {
    async fn as_sign(&self) -> Result<Box<dyn Sign>, Box<dyn Error + Send + Sync + 'static>> {
        Ok(Box::new(self.pair()))
    }
    async fn write(&self, _: &str, _: &str) -> Result<(), Box<dyn Error + Send + Sync + 'static>> {
        Err("in memory".into())
    }
}

/// The repository. Nothing appears in it before [`Repository::publish`].
pub(super) struct Repository {
    directory: PathBuf,
    key: Key,
    root_version: u64,
    version: u64,
    targets: BTreeMap<String, Vec<u8>>,
    /// Seconds from now that the next timestamp is good for.
    pub(super) timestamp_expires: i64,
    /// When its publisher says that the next targets were published.
    pub(super) published_at_ms: Option<u64>,
}

impl Repository {
    pub(super) fn new(directory: &Path) -> Repository {
        let key = Key::new();
        for name in ["metadata", "targets"] {
            fs::create_dir_all(directory.join(name)).unwrap();
        }
        let repository = Repository {
            directory: directory.to_owned(),
            key: key.clone(),
            root_version: 1,
            version: 0,
            targets: BTreeMap::new(),
            timestamp_expires: 3600,
            published_at_ms: None,
        };
        repository.write_root(&[key]);
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
        let digest = hex(&Sha256::digest(&self.targets[name]));
        self.directory.join(format!("targets/{digest}.{name}"))
    }

    pub(super) fn set(&mut self, name: &str, bytes: impl Into<Vec<u8>>) {
        self.targets.insert(name.to_owned(), bytes.into());
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.targets.remove(name);
    }

    /// Gives all roles another key, in a root that the old key vouches for, and starts the versions anew.
    pub(super) fn rotate(&mut self) {
        let old = std::mem::replace(&mut self.key, Key::new());
        self.root_version += 1;
        self.version = 0;
        self.write_root(&[old, self.key.clone()]);
    }

    /// The root names the last of `signers` for every role; all of them sign it.
    fn write_root(&self, signers: &[Key]) {
        let key = signers.last().unwrap().pair().tuf_key();
        let id = key.key_id().unwrap();
        let one = NonZeroU64::MIN;
        let role = |role| (role, RoleKeys { keyids: vec![id.clone()], threshold: one, _extra: HashMap::new() });
        let roles = [RoleType::Root, RoleType::Targets, RoleType::Snapshot, RoleType::Timestamp].map(role);
        let root = Root {
            spec_version: "1.0.0".to_owned(),
            consistent_snapshot: true,
            version: NonZeroU64::new(self.root_version).unwrap(),
            expires: after(3600),
            keys: HashMap::from([(id.clone(), key)]),
            roles: HashMap::from(roles),
            _extra: HashMap::new(),
        };
        let signed = runtime().block_on(async {
            // The old key is none of the new root's: its signature is made under a holder that has both.
            let mut signed: Option<SignedRole<Root>> = None;
            for signer in signers {
                let mut holder = root.clone();
                let key = signer.pair().tuf_key();
                let id = key.key_id().unwrap();
                holder.keys = HashMap::from([(id.clone(), key)]);
                holder.roles.get_mut(&RoleType::Root).unwrap().keyids = vec![id];
                let sources: Vec<Box<dyn KeySource>> = vec![Box::new(signer.clone())];
                let next = SignedRole::new(root.clone(), &KeyHolder::Root(holder), &sources, &SystemRandom::new())
                    .await
                    .unwrap();
                signed = Some(match signed {
                    None => next,
                    Some(before) => next.add_old_signatures(before.signed().signatures.clone()).unwrap(),
                });
            }
            signed.unwrap()
        });
        fs::write(self.metadata().join(format!("{}.root.json", self.root_version)), signed.buffer()).unwrap();
    }

    /// Signs and writes what was set.
    pub(super) fn publish(&mut self) {
        self.version += 1;
        for (name, bytes) in &self.targets {
            let file = self.target_file(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, bytes).unwrap();
        }
        let root = self.metadata().join(format!("{}.root.json", self.root_version));
        runtime().block_on(async {
            let mut editor = RepositoryEditor::new(&root).await.unwrap();
            for (name, bytes) in &self.targets {
                let sha256 = Sha256::digest(bytes).to_vec().into();
                let target = Target {
                    length: bytes.len() as u64,
                    hashes: Hashes { sha256, _extra: HashMap::new() },
                    custom: self
                        .published_at_ms
                        .map(|at| ("published_at_ms".to_owned(), at.into()))
                        .into_iter()
                        .collect(),
                    _extra: HashMap::new(),
                };
                editor.add_target(name.as_str(), target).unwrap();
            }
            let version = NonZeroU64::new(self.version).unwrap();
            editor.targets_version(version).unwrap().targets_expires(after(3600)).unwrap();
            editor.snapshot_version(version).snapshot_expires(after(3600));
            editor.timestamp_version(version).timestamp_expires(after(self.timestamp_expires));
            let sources: Vec<Box<dyn KeySource>> = vec![Box::new(self.key.clone())];
            let signed = editor.sign(&sources).await.unwrap();
            signed.write(self.metadata()).await.unwrap();
        });
    }
}

fn after(seconds: i64) -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second() + seconds).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
