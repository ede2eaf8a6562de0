//! `bolt repo publish`: a pack and what channels say of it, signed, in one step for readers.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use packs_schema::channel::{Channel, MAX_CHANNEL_FILE, channel_target, pack_target};
use packs_schema::filter::Filter;
use packs_schema::name::{ChannelName, Digest, PackName, PackVersion};
use packs_schema::pack::Pack;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tough::editor::RepositoryEditor;
use tough::schema::{Hashes, Target};
use tough::{IntoVec, Repository, TargetName};

use super::init::{local_root, metadata_of, set_versions};
use super::place::Place;
use super::{Expiry, RepoError, block_on, keys};
use crate::pack::{self, BuiltPack};

/// What [`publish`] is to do.
#[derive(Debug, Clone)]
pub struct PublishOptions {
    /// A pack's directory, or an archive made by `bolt pack build`.
    pub pack: PathBuf,
    /// The repository: a directory, `file:///` or `s3://bucket/prefix`.
    pub repository: PathBuf,
    /// The keys' directory.
    pub keys: PathBuf,
    /// The channels that are to hold the version.
    pub channels: Vec<ChannelName>,
    /// To how many of the instances, in percent.
    pub percent: u8,
    /// To which of them.
    pub filter: Option<Filter>,
    /// The trusted root; absent: the repository's first.
    pub root: Option<PathBuf>,
    /// How long signatures are good for.
    pub expiry: Expiry,
}

impl PublishOptions {
    /// To all instances of `channels`.
    pub fn new(
        pack: impl Into<PathBuf>,
        repository: impl Into<PathBuf>,
        keys: impl Into<PathBuf>,
        channels: Vec<ChannelName>,
    ) -> PublishOptions {
        let (pack, repository, keys) = (pack.into(), repository.into(), keys.into());
        let expiry = Expiry::default();
        PublishOptions { pack, repository, keys, channels, percent: 100, filter: None, root: None, expiry }
    }
}

/// What [`publish`] did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Published {
    /// The pack …
    pub pack: PackName,
    /// … in this version …
    pub version: PackVersion,
    /// … with this digest.
    pub digest: Digest,
    /// Bytes of its archive.
    pub size_bytes: u64,
    /// False if the same archive had been published before.
    pub new: bool,
    /// The channels that hold it now.
    pub channels: Vec<ChannelName>,
    /// The version of the repository's timestamp.
    pub timestamp_version: u64,
}

/// Builds the pack, signs it and what the channels say of it, and makes that the repository's newest state.
pub fn publish(options: &PublishOptions) -> Result<Published, RepoError> {
    let place = open(options)?;
    let built = pack::load(&options.pack)?;
    place.attempt(|| block_on(sign(&place, &built, options)))
}

/// Publishes `archive`, as it is, as `described`; `options.pack` is not looked at. Agents check what they take, and refuse what
/// [`pack::build`] would not have made.
pub fn publish_archive(archive: Vec<u8>, described: Pack, options: &PublishOptions) -> Result<Published, RepoError> {
    let place = open(options)?;
    let built = BuiltPack::of(archive, described);
    place.attempt(|| block_on(sign(&place, &built, options)))
}

fn open(options: &PublishOptions) -> Result<Place, RepoError> {
    if options.channels.is_empty() {
        return Err(RepoError::NoChannel);
    }
    if options.percent > 100 {
        return Err(RepoError::Percent(options.percent));
    }
    let place = Place::at(&options.repository)?;
    place.check_repository()?;
    Ok(place)
}

async fn sign(place: &Place, built: &BuiltPack, options: &PublishOptions) -> Result<Published, RepoError> {
    let keys = keys::for_publish(&options.keys)?;
    let repository = place.load(options.root.as_deref()).await?;
    let root_expires = repository.root().signed.expires;
    if root_expires < Timestamp::now() {
        return Err(RepoError::RootExpired(root_expires));
    }
    let (name, version) = (&built.pack.name, &built.pack.version);
    let published = find(&repository, &pack_target(name, version)).map(|target| hex(&target.hashes.sha256));
    if let Some(published) = published.as_ref().filter(|published| *published != built.digest.as_str()) {
        let (pack, version, published) = (name.clone(), version.clone(), published.clone());
        return Err(RepoError::VersionTaken { pack, version, published });
    }
    let mut targets: Vec<(String, Vec<u8>)> = Vec::new();
    if published.is_none() {
        targets.push((pack_target(name, version), built.archive.clone()));
    }
    for channel in &options.channels {
        if let Some(holds) = read_channel(&repository, channel, name).await?
            && holds.version > *version
        {
            let (channel, pack) = (channel.clone(), name.clone());
            let versions = Box::new((holds.version, version.clone()));
            return Err(RepoError::Lower { channel, pack, versions });
        }
        let content = Channel {
            pack: name.clone(),
            version: version.clone(),
            percent: options.percent,
            filter: options.filter.clone(),
        };
        let bytes = serde_json::to_vec(&content).expect("a channel serialises");
        targets.push((channel_target(channel, name), bytes));
    }

    let failed = |error| RepoError::Tuf { what: "sign the new metadata", error: Box::new(error) };
    let next = |version: NonZeroU64| place.next(version);
    let versions = [
        next(repository.targets().signed.version),
        next(repository.snapshot().signed.version),
        next(repository.timestamp().signed.version),
    ];
    let root = local_root(place, repository.root().signed.version.get())?;
    let mut editor = RepositoryEditor::from_repo(root.path(), repository).await.map_err(failed)?;
    for (target, bytes) in &targets {
        let digest = Sha256::digest(bytes).to_vec();
        editor.add_target(target.as_str(), describe(bytes, digest)).map_err(failed)?;
    }
    set_versions(&mut editor, versions, &options.expiry)?;
    // Signed before anything is written: keys that may not sign leave nothing behind.
    let signed = editor.sign(&keys).await.map_err(|error| cannot_sign(error, &options.keys))?;
    for (target, bytes) in &targets {
        place.write_target(target, &hex(&Sha256::digest(bytes)), bytes)?;
    }
    place.write_metadata(&metadata_of(&signed).await?)?;
    Ok(Published {
        pack: name.clone(),
        version: version.clone(),
        digest: built.digest.clone(),
        size_bytes: built.archive.len() as u64,
        new: published.is_none(),
        channels: options.channels.clone(),
        timestamp_version: versions[2].get(),
    })
}

fn cannot_sign(error: tough::error::Error, keys: &Path) -> RepoError {
    match error {
        tough::error::Error::SigningKeysNotFound { .. } | tough::error::Error::KeysNotFoundInRoot { .. } => {
            RepoError::OtherKeys(keys.to_owned())
        }
        error => RepoError::Tuf { what: "sign the new metadata", error: Box::new(error) },
    }
}

/// What the repository's metadata say of a target.
pub(super) fn find<'a>(repository: &'a Repository, name: &str) -> Option<&'a Target> {
    let name = TargetName::new(name).ok()?;
    repository.targets().signed.find_target(&name, false).ok()
}

/// What `channel` holds of `pack`.
pub(super) async fn read_channel(
    repository: &Repository,
    channel: &ChannelName,
    pack: &PackName,
) -> Result<Option<Channel>, RepoError> {
    let name = channel_target(channel, pack);
    let wrong = |problem: String| RepoError::Channel { name: name.clone(), problem };
    let Some(target) = find(repository, &name) else { return Ok(None) };
    if target.length > MAX_CHANNEL_FILE {
        return Err(wrong(format!("it has {} bytes", target.length)));
    }
    let failed = RepoError::tuf("read what a channel holds");
    let target = TargetName::new(&name).map_err(|e| wrong(e.to_string()))?;
    let bytes = match repository.read_target(&target).await {
        Ok(Some(stream)) => stream.into_vec().await.map_err(failed)?,
        Ok(None) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| wrong(e.to_string()))
}

fn describe(bytes: &[u8], digest: Vec<u8>) -> Target {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    Target {
        length: bytes.len() as u64,
        hashes: Hashes { sha256: digest.into(), _extra: HashMap::new() },
        custom: HashMap::from([("published_at_ms".to_owned(), json!(now))]),
        _extra: HashMap::new(),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
