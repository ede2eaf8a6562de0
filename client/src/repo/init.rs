//! `bolt repo init`: keys, the first root, and an empty signed state.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use tough::schema::{KeyHolder, RoleKeys, RoleType, Root, Signed, Snapshot, Timestamp};

use super::key_files;
use super::keys::KeyRing;
use super::passphrase::{Passphrase, Unlock};
use super::sign::{after, no_targets, sign};
use super::storage::Storage;
use super::trust::{self, TrustFiles, fingerprint};
use super::{Expiry, RepoError, SPEC_VERSION, block_on, keys};
use crate::files;
use crate::repo::KeyError;

/// Roles that a root has keys for.
pub(super) const ROLES: [RoleType; 4] = [RoleType::Root, RoleType::Targets, RoleType::Snapshot, RoleType::Timestamp];

/// Arguments of [`init`].
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// The repository's directory: absent or empty.
    pub repository: PathBuf,
    /// The keys' directory.
    pub keys: PathBuf,
    /// Number of root keys to make.
    pub root_keys: u8,
    /// Number of root keys that must sign a new root.
    pub root_threshold: u8,
    /// Lifetimes of signatures.
    pub expiry: Expiry,
    /// Passphrase that encrypts the keys; `None` leaves them plain.
    pub passphrase: Option<Passphrase>,
}

impl InitOptions {
    /// Returns options for one root key, the default lifetimes, and plain keys.
    pub fn new(repository: impl Into<PathBuf>, keys: impl Into<PathBuf>) -> InitOptions {
        let (repository, keys) = (repository.into(), keys.into());
        InitOptions { repository, keys, root_keys: 1, root_threshold: 1, expiry: Expiry::default(), passphrase: None }
    }
}

/// Result of [`init`].
#[derive(Debug, Clone, serde::Serialize)]
pub struct Initialized {
    /// The first root, pinned beside the keys; agents get it as `repository.root`.
    pub root: PathBuf,
    /// SHA-256 of its signed part, to compare when it is handed over.
    pub fingerprint: String,
    /// The private keys.
    pub keys: Vec<PathBuf>,
}

/// Makes a repository and its keys.
pub fn init(options: &InitOptions) -> Result<Initialized, RepoError> {
    let InitOptions { root_keys, root_threshold, .. } = *options;
    if !(1..=16).contains(&root_keys) || !(1..=root_keys).contains(&root_threshold) {
        return Err(RepoError::Keys(KeyError::Threshold { keys: root_keys, threshold: root_threshold }));
    }
    let storage = Storage::at(&options.repository)?;
    storage.check_vacant()?;
    let files = key_files(&options.keys, root_keys);
    // Keys in a key service exist already.
    let paths: Vec<&Path> =
        files.iter().map(PathBuf::as_path).filter(|path| path.extension() != Some("kms".as_ref())).collect();
    let pin = TrustFiles::of(&options.keys, None).pin();
    files::refuse_existing(&paths.iter().copied().chain([pin.as_path()]).collect::<Vec<_>>())?;
    // Before the keys, so that nothing is left behind when the repository cannot be written.
    storage.create()?;
    files::create_dir(&options.keys)?;
    for path in &paths {
        keys::generate(path, options.passphrase.as_ref())?;
    }
    let unlock = options.passphrase.clone().map_or(Unlock::Never, Unlock::With);
    let root = block_on(async || write(&storage, &mut KeyRing::new(&options.keys, &unlock), options).await)?;
    Ok(Initialized { fingerprint: fingerprint(&root)?, root: pin, keys: files })
}

fn key_files(directory: &Path, root_keys: u8) -> Vec<PathBuf> {
    let root = (1..=root_keys).map(|n| ("root", n));
    let all = root.chain(["targets", "snapshot", "timestamp"].map(|role| (role, 1)));
    all.map(|(role, n)| key_files::planned_path(directory, role, n)).collect()
}

async fn write(storage: &Storage, ring: &mut KeyRing, options: &InitOptions) -> Result<Signed<Root>, RepoError> {
    let mut root = Root {
        spec_version: SPEC_VERSION.to_owned(),
        consistent_snapshot: true,
        version: NonZeroU64::MIN,
        expires: after(options.expiry.root),
        keys: HashMap::new(),
        roles: HashMap::new(),
        _extra: HashMap::new(),
    };
    for role in ROLES {
        let threshold = if role == RoleType::Root { u64::from(options.root_threshold) } else { 1 };
        let threshold = NonZeroU64::new(threshold).unwrap_or(NonZeroU64::MIN);
        let mut keys = RoleKeys { keyids: Vec::new(), threshold, _extra: HashMap::new() };
        for key in ring.role(&key_files::name(role))? {
            keys.keyids.push(key.id()?);
            root.keys.insert(key.id()?, key.public());
        }
        root.roles.insert(role, keys);
    }
    let holder = KeyHolder::Root(root.clone());
    let allowed = |role: RoleType| root.roles.get(&role).cloned().ok_or_else(|| RepoError::Hidden(role.to_string()));
    let (_, bytes, _) = sign(root.clone(), &holder, &allowed(RoleType::Root)?, "root", ring).await?;
    // The pin first: the root is trusted because it was made here, not because the repository holds it.
    let signed = trust::pin_new(&options.keys, &bytes)?;
    storage.write_root(1, &bytes)?;

    let targets = no_targets(NonZeroU64::MIN, after(options.expiry.targets));
    let mut written = Vec::new();
    let (file, bytes, meta) = sign(targets, &holder, &allowed(RoleType::Targets)?, "targets", ring).await?;
    written.push((file, bytes));
    let mut snapshot = Snapshot::new(SPEC_VERSION.to_owned(), NonZeroU64::MIN, after(options.expiry.snapshot));
    snapshot.meta.insert("targets.json".to_owned(), meta);
    let (file, bytes, meta) = sign(snapshot, &holder, &allowed(RoleType::Snapshot)?, "snapshot", ring).await?;
    written.push((file, bytes));
    let mut timestamp = Timestamp::new(SPEC_VERSION.to_owned(), NonZeroU64::MIN, after(options.expiry.timestamp));
    timestamp.meta.insert("snapshot.json".to_owned(), meta);
    let (file, bytes, _) = sign(timestamp, &holder, &allowed(RoleType::Timestamp)?, "timestamp", ring).await?;
    written.push((file, bytes));
    storage.write_metadata(&written)?;
    Ok(signed)
}
