//! `bolt repo init`: keys, the first root, and an empty signed state.

use std::collections::HashMap;
use std::io::Write as _;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use jiff::Timestamp;
use tempfile::NamedTempFile;
use tough::editor::RepositoryEditor;
use tough::editor::signed::{SignedRepository, SignedRole};
use tough::key_source::KeySource;
use tough::schema::{KeyHolder, RoleKeys, RoleType, Root};
use tough::sign::Sign;

use super::place::Place;
use super::{Expiry, RepoError, block_on, keys};
use crate::files;

/// What [`init`] makes.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// The repository's directory: absent or empty.
    pub repository: PathBuf,
    /// The keys' directory.
    pub keys: PathBuf,
    /// How many root keys to make …
    pub root_keys: u8,
    /// … of which so many must sign a new root.
    pub root_threshold: u8,
    /// How long signatures are good for.
    pub expiry: Expiry,
}

impl InitOptions {
    /// One root key, and the usual expiry.
    pub fn new(repository: impl Into<PathBuf>, keys: impl Into<PathBuf>) -> InitOptions {
        let (repository, keys) = (repository.into(), keys.into());
        InitOptions { repository, keys, root_keys: 1, root_threshold: 1, expiry: Expiry::default() }
    }
}

/// What [`init`] made.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Initialized {
    /// The first root: what agents are given as `repository.root`.
    pub root: PathBuf,
    /// The private keys.
    pub keys: Vec<PathBuf>,
}

/// Makes a repository and its keys.
pub fn init(options: &InitOptions) -> Result<Initialized, RepoError> {
    let InitOptions { root_keys, root_threshold, .. } = *options;
    if !(1..=16).contains(&root_keys) || !(1..=root_keys).contains(&root_threshold) {
        return Err(RepoError::Threshold { keys: root_keys, threshold: root_threshold });
    }
    let place = Place::at(&options.repository)?;
    place.check_vacant()?;
    let files = key_files(&options.keys, root_keys);
    let paths: Vec<&Path> = files.iter().map(|(_, path)| path.as_path()).collect();
    files::refuse_existing(&paths)?;
    files::create_dir(&options.keys)?;
    for path in &paths {
        keys::generate(path)?;
    }
    place.create()?;
    block_on(write(&place, &files, options))?;
    Ok(Initialized { root: place.root(1), keys: files.into_iter().map(|(_, path)| path).collect() })
}

fn key_files(directory: &Path, root_keys: u8) -> Vec<(RoleType, PathBuf)> {
    let root = (1..=root_keys).map(|n| (RoleType::Root, n));
    let others = [RoleType::Targets, RoleType::Snapshot, RoleType::Timestamp].map(|role| (role, 1));
    root.chain(others).map(|(role, n)| (role, keys::path(directory, role, n))).collect()
}

async fn write(place: &Place, files: &[(RoleType, PathBuf)], options: &InitOptions) -> Result<(), RepoError> {
    let signed = |error| RepoError::Tuf { what: "sign the first metadata", error: Box::new(error) };
    let mut root = Root {
        spec_version: "1.0.0".to_owned(),
        consistent_snapshot: true,
        version: NonZeroU64::MIN,
        expires: after(options.expiry.root),
        keys: HashMap::new(),
        roles: HashMap::new(),
        _extra: HashMap::new(),
    };
    let mut sources: Vec<Box<dyn KeySource>> = Vec::new();
    for (role, path) in files {
        let key = keys::read(path)?.tuf_key();
        let id = key.key_id().map_err(|_| RepoError::NotAKey(path.clone()))?;
        root.keys.insert(id.clone(), key);
        let threshold = if *role == RoleType::Root { u64::from(options.root_threshold) } else { 1 };
        let threshold = NonZeroU64::new(threshold).unwrap_or(NonZeroU64::MIN);
        let empty = || RoleKeys { keyids: Vec::new(), threshold, _extra: HashMap::new() };
        root.roles.entry(*role).or_insert_with(empty).keyids.push(id);
        sources.push(keys::source(path.clone())?);
    }
    let holder = KeyHolder::Root(root.clone());
    let root = SignedRole::new(root, &holder, &sources, &SystemRandom::new()).await.map_err(signed)?;
    place.write_root(1, root.buffer())?;

    let path = local_root(place, 1)?;
    let mut editor = RepositoryEditor::new(path.path()).await.map_err(signed)?;
    set_versions(&mut editor, [NonZeroU64::MIN; 3], &options.expiry)?;
    let first = editor.sign(&sources).await.map_err(signed)?;
    place.write_metadata(&metadata_of(&first).await?)
}

/// A root of the repository, where the editor can read it.
pub(super) fn local_root(place: &Place, version: u64) -> Result<NamedTempFile, RepoError> {
    let bytes = place.read_root(version)?.ok_or_else(|| RepoError::NoRepository(place.root(version)))?;
    let failed = |source| RepoError::File { what: "write", path: std::env::temp_dir(), source };
    let mut file = NamedTempFile::new().map_err(failed)?;
    file.write_all(&bytes).map_err(failed)?;
    Ok(file)
}

/// The files of signed metadata but for the roots, in the order in which they are written.
pub(super) async fn metadata_of(signed: &SignedRepository) -> Result<Vec<(String, Vec<u8>)>, RepoError> {
    let failed = |source| RepoError::File { what: "write", path: std::env::temp_dir(), source };
    let temporary = tempfile::tempdir().map_err(failed)?;
    signed.write(temporary.path()).await.map_err(RepoError::tuf("write the metadata"))?;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(temporary.path()).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.ends_with("root.json") {
            files.push((name, std::fs::read(entry.path()).map_err(failed)?));
        }
    }
    files.sort_by_key(|(name, _)| (name == "timestamp.json", name.ends_with("snapshot.json")));
    Ok(files)
}

/// The versions of targets, snapshot and timestamp, and how long they are good for from now on.
pub(super) fn set_versions(
    editor: &mut RepositoryEditor,
    [targets, snapshot, timestamp]: [NonZeroU64; 3],
    expiry: &Expiry,
) -> Result<(), RepoError> {
    let failed = |error| RepoError::Tuf { what: "set the versions of the metadata", error: Box::new(error) };
    editor.targets_version(targets).map_err(failed)?;
    editor.targets_expires(after(expiry.targets)).map_err(failed)?;
    editor.snapshot_version(snapshot).snapshot_expires(after(expiry.snapshot));
    editor.timestamp_version(timestamp).timestamp_expires(after(expiry.timestamp));
    Ok(())
}

fn after(duration: Duration) -> Timestamp {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    let now = Timestamp::now().as_second();
    Timestamp::from_second(now.saturating_add(seconds)).unwrap_or(Timestamp::MAX)
}
