//! `bolt repo publish`: signs a pack and its channels, in one step for readers.

use std::path::PathBuf;

use packs_schema::base::name::{ChannelName, Digest, PackName, PackVersion, TeamName};
use packs_schema::delivery::channel::{Channel, Rule, is_reserved, pack_target};
use packs_schema::delivery::filter::Filter;
use packs_schema::pack::Pack;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::access::Access;
use super::change::change_with;
use super::change_reason::ChangeReason;
use super::channels::{Changed, Offer, offer, published_now, refuse_offer};
use super::journal::{self, Change, Entry};
use super::keys::KeyRing;
use super::origin::{By, Source};
use super::passphrase::Unlock;
use super::state::State;
use super::{Expiry, RepoError, hex};
use crate::pack::{self, ArchiveFile, BuiltPack, PackError};
use crate::repo::ReleaseError;

/// Arguments of [`publish`].
#[derive(Debug, Clone)]
pub struct PublishOptions {
    /// A pack's directory, or an archive made by `bolt pack build`.
    pub pack: PathBuf,
    /// The repository: a directory, `file:///` or `s3://bucket/prefix`.
    pub repository: PathBuf,
    /// The keys' directory.
    pub keys: PathBuf,
    /// Channels that get the version.
    pub channels: Vec<ChannelName>,
    /// Percentage of the instances that get it. Absent: all, and a channel that holds the version already is left as it is.
    pub percent: Option<u8>,
    /// Instances that get it.
    pub filter: Option<Filter>,
    /// Directory of the pinned root and the versions seen; absent: the keys' directory.
    pub state: Option<PathBuf>,
    /// A trusted root to use instead of the pinned one.
    pub root: Option<PathBuf>,
    /// Lifetimes of signatures.
    pub expiry: Expiry,
    /// Source of the passphrase of encrypted keys.
    pub unlock: Unlock,
    /// The team that signs; see [`Access::team`].
    pub team: Option<TeamName>,
    /// Reason of the publication, for the journal.
    pub reason: Option<ChangeReason>,
}

impl PublishOptions {
    /// Returns options that give the version to all instances of `channels`.
    pub fn new(
        pack: impl Into<PathBuf>,
        repository: impl Into<PathBuf>,
        keys: impl Into<PathBuf>,
        channels: Vec<ChannelName>,
    ) -> PublishOptions {
        let (pack, repository, keys) = (pack.into(), repository.into(), keys.into());
        let Access { expiry, unlock, state, root, team, reason, .. } = Access::new("", "");
        PublishOptions {
            pack,
            repository,
            keys,
            channels,
            percent: None,
            filter: None,
            state,
            root,
            expiry,
            unlock,
            team,
            reason,
        }
    }

    /// Returns the rule that channels get.
    fn rule(&self, version: &PackVersion) -> Rule {
        let percent = self.percent.unwrap_or(100);
        Rule { percent, filter: self.filter.clone(), ..Rule::new(version.clone()) }
    }

    /// True if a channel is left as it is: it holds the version, and neither a percentage nor a filter is given.
    fn keeps(&self, held: &Channel, version: &PackVersion) -> bool {
        let asks = self.percent.is_some() || self.filter.is_some();
        !asks && held.rules.iter().any(|rule| rule.version == *version)
    }

    fn access(&self) -> Access {
        let PublishOptions { repository, keys, state, root, expiry, unlock, team, reason, .. } = self.clone();
        Access { repository, keys, unlock, state, root, team, expiry, reason }
    }
}

/// Result of [`publish`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// The pack.
    pub pack: PackName,
    /// The version.
    pub version: PackVersion,
    /// SHA-256 of its archive.
    pub digest: Digest,
    /// Size of its archive, in bytes.
    pub size_bytes: u64,
    /// False if the same archive had been published before.
    pub new: bool,
    /// Channels that hold it now.
    pub channels: Vec<ChannelName>,
    /// Changes of the channels; none for a channel that held the version already.
    #[serde(skip_deserializing)]
    pub changes: Vec<Changed>,
    /// Version of the repository's timestamp.
    pub timestamp_version: u64,
    /// Work tree that the pack was built in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// Builds the pack, signs it and its channels, and makes that the repository's newest state.
pub fn publish(options: &PublishOptions) -> Result<Published, RepoError> {
    check(options)?;
    let access = options.access();
    let mut ring = access.ring();
    // Building may take long, so errors that would refuse any pack are found first. All is checked again with the change.
    change_with(&access, &mut ring, async |state, ring| {
        state.check_online_keys(ring)?;
        match pack::describe(&options.pack)? {
            Some(described) => check_release(state, ring, &described, options).await,
            None => Ok(()),
        }
    })?;
    let built = pack::load(&options.pack)?;
    write(&built, Source::of(&options.pack), options, &mut ring)
}

/// Publishes `archive` unchanged as `described`; `options.pack` is not read. Agents check the archive, and refuse one that
/// [`pack::build`] would not have made.
pub fn publish_archive(archive: &[u8], described: Pack, options: &PublishOptions) -> Result<Published, RepoError> {
    check(options)?;
    let archive = ArchiveFile::copy_of(archive, PackError::file("read", "the archive"))?;
    write(&BuiltPack::of(archive, described), None, options, &mut options.access().ring())
}

fn check(options: &PublishOptions) -> Result<(), RepoError> {
    if options.channels.is_empty() {
        return Err(RepoError::Release(ReleaseError::NoChannel));
    }
    options
        .percent
        .filter(|percent| *percent > 100)
        .map_or(Ok(()), |percent| Err(RepoError::Release(ReleaseError::Percent(percent))))
}

/// Returns an error if the pack could not be published whatever its files are: its version is reserved, the keys of its owner are
/// not here, or a channel refuses the version.
async fn check_release(
    state: &State,
    ring: &mut KeyRing,
    pack: &Pack,
    options: &PublishOptions,
) -> Result<(), RepoError> {
    refuse_reserved(pack)?;
    let Pack { name, version, .. } = pack;
    let owner = state.owner(name, options.team.as_ref())?;
    state.check_owner_keys(&owner, ring)?;
    for channel in &options.channels {
        if let Some(held) = state.channel(channel, name).await?.filter(|held| !options.keeps(held, version)) {
            refuse_offer(channel, &held, &options.rule(version), false)?;
        }
    }
    Ok(())
}

fn refuse_reserved(pack: &Pack) -> Result<(), RepoError> {
    if is_reserved(&pack.version) {
        let (pack, version) = (pack.name.clone(), pack.version.clone());
        return Err(RepoError::Release(ReleaseError::Reserved { pack, version }));
    }
    Ok(())
}

fn write(
    built: &BuiltPack,
    source: Option<Source>,
    options: &PublishOptions,
    ring: &mut KeyRing,
) -> Result<Published, RepoError> {
    refuse_reserved(&built.pack)?;
    let (name, version) = (&built.pack.name, &built.pack.version);
    let edit = async |state: &mut State, ring: &mut KeyRing| {
        let owner = state.owner(name, options.team.as_ref())?;
        let target = pack_target(name, version);
        let published = state.find(&target).map(|(_, target)| hex(&target.hashes.sha256));
        let new = match published {
            Some(published) if published != built.digest.as_str() => {
                return Err(RepoError::Release(ReleaseError::VersionTaken {
                    pack: name.clone(),
                    version: version.clone(),
                    published,
                }));
            }
            Some(_) => {
                // Restores the file, should it have been lost.
                state.supply(&target, built.archive.clone());
                false
            }
            None => {
                if let Some(removed) = state.removed_digest(name, version).await?
                    && removed != built.digest.as_str()
                {
                    return Err(RepoError::Release(ReleaseError::VersionRemoved {
                        pack: name.clone(),
                        version: version.clone(),
                        removed,
                    }));
                }
                let mut custom = published_now();
                custom.extend(source.as_ref().map(|source| ("source".to_owned(), json!(source))));
                state.set(&owner, &target, built.archive.clone(), custom)?;
                let mut entry = Entry::new(Change::Publish, name);
                (entry.version, entry.source) = (Some(version.clone()), source.clone());
                entry.by = By::here(state.signers(&owner, ring)?);
                journal::append(state, &owner, entry).await?;
                true
            }
        };
        let mut changes = Vec::new();
        for channel in &options.channels {
            let held = state.channel(channel, name).await?;
            if held.is_some_and(|held| options.keeps(&held, version)) {
                continue;
            }
            let entry = Entry::new(Change::Promote, name);
            changes.push(offer(state, ring, &owner, channel, Offer::new(options.rule(version)), entry).await?);
        }
        changes.retain(|change| change.changed);
        // Publishing the same again renews the signatures.
        state.touch(&owner);
        Ok((new, changes))
    };
    let ((new, changes), timestamp) = change_with(&options.access(), ring, edit)?;
    Ok(Published {
        pack: name.clone(),
        version: version.clone(),
        digest: built.digest.clone(),
        size_bytes: built.archive.size_bytes(),
        new,
        channels: options.channels.clone(),
        changes,
        timestamp_version: timestamp.unwrap_or_default(),
        source,
    })
}
