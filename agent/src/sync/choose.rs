//! Choice of the version of each pack for this instance, by its channel.

use packs_schema::agent::rest::{EmptyChannel, PushInfo, Rollout};
use packs_schema::base::name::{ChannelName, Digest, PackName, PackVersion};
use packs_schema::base::strict;
use packs_schema::delivery::channel::{
    Channel, Decision, MAX_CHANNEL_FILE, channel_target, pack_target, parse_channel_target,
};
use packs_schema::delivery::cohort::cohort_of;
use packs_schema::delivery::facts::Facts;
use tough::TargetName;
use tough::schema::DelegatedRole;

use super::error::{PackFailure, Step, chain};
use super::lookup::{Lookup, SignedTarget};
use super::metadata::Metadata;
use super::store::Active;

/// Version that this instance should have, and that is not active.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) pack: PackName,
    pub(super) version: PackVersion,
    /// Digest of the archive, as signed.
    pub(super) digest: Digest,
    /// Length of the archive, as signed.
    pub(super) length: u64,
    pub(super) target: TargetName,
    /// Set for a pushed version, which is not signed.
    pub(super) dev: Option<PushInfo>,
}

/// Decision of the channel for a pack on this instance.
#[derive(Debug)]
pub(super) enum Choice {
    /// Activate this version.
    Activate(Chosen),
    /// Keep the active version.
    Keep,
    /// Deactivate: the active version was withdrawn.
    Withdraw,
    /// The rollout has not reached this instance, or does not include it.
    NotHere,
}

/// Returns the packs of `channel`, sorted.
pub(super) fn packs(lookup: &Lookup<'_>, channel: &ChannelName) -> Vec<PackName> {
    let names = lookup.names();
    let channels = names.into_iter().filter_map(|name| parse_channel_target(name.raw()));
    let mut packs: Vec<PackName> = channels.filter(|(named, _)| named == channel).map(|(_, pack)| pack).collect();
    packs.sort();
    packs
}

/// Describes the channel if none of its packs is in `wanted` while the repository has other channels.
pub(super) fn empty_channel(lookup: &Lookup<'_>, channel: &ChannelName, wanted: &[PackName]) -> Option<EmptyChannel> {
    if !wanted.is_empty() {
        return None;
    }
    let names = lookup.names();
    let channels = names.into_iter().filter_map(|name| parse_channel_target(name.raw()));
    let mut others: Vec<ChannelName> = channels.map(|(named, _)| named).collect();
    others.sort();
    others.dedup();
    let more = others.len().saturating_sub(EmptyChannel::MAX_OTHERS) as u64;
    others.truncate(EmptyChannel::MAX_OTHERS);
    (!others.is_empty()).then(|| EmptyChannel { channel: channel.clone(), others, more })
}

/// Content of a channel besides its decision.
#[derive(Debug, Default)]
pub(super) struct OfChannel {
    /// Versions that it withdraws.
    pub(super) withdrawn: Vec<PackVersion>,
    /// Its newest version, and whether this instance is to have it; `None` if it holds none or cannot be read.
    pub(super) rollout: Option<Rollout>,
}

/// Decides for one pack, and fills in what else its channel says. A failure has the version as soon as it is known.
pub(super) async fn choose(
    metadata: &Metadata,
    named: &ChannelName,
    instance: &Facts,
    pack: &PackName,
    active: Option<&Active>,
    of_channel: &mut OfChannel,
) -> Result<Choice, (Option<PackVersion>, PackFailure)> {
    let fail = |message: String| (None, PackFailure::new(Step::Choose, message));
    let (channel, role) = read_channel(metadata, named, pack).await.map_err(fail)?;
    metadata.check_serial(named, pack, channel.serial, role).map_err(fail)?;
    of_channel.withdrawn.clone_from(&channel.withdrawn);
    let held = active.map(|active| &active.stored.pack.version);
    let decision = channel.decide(instance, cohort_of(&instance.id, pack), held);
    let newest = channel.newest();
    if !newest.is_nothing() {
        let given =
            matches!(decision, Decision::Take(version) | Decision::RollBack(version) if *version == newest.version);
        let rollout = Rollout { version: newest.version.clone(), reached: given || held == Some(&newest.version) };
        of_channel.rollout = Some(rollout);
    }
    let (version, back) = match decision {
        Decision::Take(version) => (version, false),
        Decision::RollBack(version) => (version, true),
        Decision::Keep => return Ok(Choice::Keep),
        Decision::Withdraw => return Ok(Choice::Withdraw),
        Decision::NotApplicable => return Ok(Choice::NotHere),
        Decision::KeepHigher(version) => {
            let held = held.map_or_else(String::new, ToString::to_string);
            let message = format!("{held} is active and newer; publish a version higher than it, or roll it back");
            return Err((Some(version.clone()), PackFailure::new(Step::Choose, message)));
        }
    };
    let fail = |message: String| (Some(version.clone()), PackFailure::new(Step::Choose, message));
    let name = pack_target(pack, version);
    let (name, SignedTarget { target, .. }) = find(metadata, &name).map_err(fail)?;
    let digest = hex(&target.hashes.sha256);
    let digest = Digest::new(digest).map_err(|_| fail(format!("target {} has no SHA-256", name.raw())))?;
    if let Some(active) = active {
        let held = &active.stored.pack.version;
        if held == version && active.stored.digest == digest {
            return Ok(Choice::Keep);
        }
        if held == version {
            return Err(fail(format!("{version} is active with another content; publish a higher version")));
        }
        if back {
            tracing::warn!(%pack, active = %held, %version, serial = channel.serial, "rolled back");
        }
    }
    let (pack, version) = (pack.clone(), version.clone());
    Ok(Choice::Activate(Chosen { pack, version, digest, length: target.length, target: name, dev: None }))
}

/// Reads the channel file of a pack, and returns the role that signed it.
async fn read_channel<'a>(
    metadata: &'a Metadata,
    channel: &ChannelName,
    pack: &PackName,
) -> Result<(Channel, Option<&'a DelegatedRole>), String> {
    let name = channel_target(channel, pack);
    let (target_name, SignedTarget { target, role }) = find(metadata, &name)?;
    if target.length > MAX_CHANNEL_FILE {
        return Err(format!("{name} has {} bytes; a channel file has at most {MAX_CHANNEL_FILE}", target.length));
    }
    let wrong = |error: &(dyn std::error::Error + 'static)| format!("cannot read {name}: {}", chain(error));
    let bytes = metadata.read(&target_name).await.map_err(|e| wrong(&*e))?;
    let bytes = bytes.ok_or_else(|| format!("target {name} no longer exists"))?;
    let value = strict::parse(&bytes).map_err(|e| wrong(&e))?;
    let channel: Channel = serde_json::from_value(value).map_err(|e| wrong(&e))?;
    if channel.pack != *pack {
        return Err(format!("{name} is about pack {}", channel.pack));
    }
    Ok((channel, role))
}

/// Reads the target `name` from the role that may sign it.
fn find<'a>(metadata: &'a Metadata, name: &str) -> Result<(TargetName, SignedTarget<'a>), String> {
    let target = TargetName::new(name).map_err(|e| e.to_string())?;
    let found = metadata.lookup().find(&target)?.ok_or_else(|| format!("the repository has no target {name}"))?;
    if let Some(role) = found.role {
        metadata.check_fresh(role)?;
    }
    Ok((target, found))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
