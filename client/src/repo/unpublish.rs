//! `bolt repo unpublish`: takes a version out of the signed metadata, so that no channel can be given it.
//!
//! The archive stays in the repository until `bolt repo prune` removes it; instances that still run the version keep it. Its digest
//! is remembered, so that the version is never published with other content.

use packs_schema::base::name::{ChannelName, PackName, PackVersion};
use packs_schema::delivery::channel::{pack_target, parse_channel_target};
use serde::Serialize;

use super::access::Access;
use super::change::change;
use super::channels::published;
use super::journal::{self, Change, Entry};
use super::keys::KeyRing;
use super::origin::By;
use super::prune::Policy;
use super::state::State;
use super::{RepoError, now_ms};
use crate::repo::ReleaseError;

/// Result of [`unpublish`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unpublished {
    /// The pack.
    pub pack: PackName,
    /// The version.
    pub version: PackVersion,
    /// SHA-256 of its archive.
    pub digest: String,
    /// Size of its archive, in bytes.
    pub size_bytes: u64,
    /// Time from which on `prune` with the default grace period removes the archive, in milliseconds since 1970, unless the
    /// repository changes before then.
    pub prunable_at_ms: u64,
}

/// Takes a published version that no channel holds out of the signed metadata.
pub fn unpublish(access: &Access, pack: &PackName, version: &PackVersion) -> Result<Unpublished, RepoError> {
    let edit = async |state: &mut State, ring: &mut KeyRing| {
        let owner = state.owner(pack, access.team.as_ref())?;
        published(state, pack, version)?;
        let channels = holders(state, pack, version).await?;
        if !channels.is_empty() {
            return Err(RepoError::Release(ReleaseError::StillHeld {
                pack: pack.clone(),
                version: version.clone(),
                channels,
            }));
        }
        let name = pack_target(pack, version);
        let (_, target) = state.find(&name).expect("it is published");
        let (digest, size_bytes) = (super::hex(&target.hashes.sha256), target.length);
        state.drop_targets(&owner, &owner, |target| target.raw() == name).await?;
        let mut entry = Entry::new(Change::Unpublish, pack);
        entry.version = Some(version.clone());
        entry.by = By::here(state.signers(&owner, ring)?);
        journal::append(state, &owner, entry).await?;
        let grace_ms = u64::try_from(Policy::default().grace.as_millis()).unwrap_or(u64::MAX);
        let prunable_at_ms = now_ms().saturating_add(grace_ms);
        Ok(Unpublished { pack: pack.clone(), version: version.clone(), digest, size_bytes, prunable_at_ms })
    };
    change(access, edit).map(|(unpublished, _)| unpublished)
}

/// Returns the channels that hold a version.
async fn holders(state: &State, pack: &PackName, version: &PackVersion) -> Result<Vec<ChannelName>, RepoError> {
    let names: Vec<_> = state.all().into_iter().filter_map(|(name, ..)| parse_channel_target(name)).collect();
    let mut holders = Vec::new();
    for (channel, _) in names.into_iter().filter(|(_, of)| of == pack) {
        let held = state.channel(&channel, pack).await?;
        if held.is_some_and(|held| held.rules.iter().any(|rule| !rule.is_nothing() && rule.version == *version)) {
            holders.push(channel);
        }
    }
    Ok(holders)
}
