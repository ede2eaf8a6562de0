//! Which version of which pack this instance should have: what its channel says, if it applies here.

use packs_schema::channel::{Channel, MAX_CHANNEL_FILE, channel_target, pack_target, parse_channel_target};
use packs_schema::config::Config;
use packs_schema::facts::Facts;
use packs_schema::name::{ChannelName, Digest, InstanceId, PackName, PackVersion};
use packs_schema::rest::Dev;
use packs_schema::strict;
use sha2::{Digest as _, Sha256};
use tough::schema::Target;
use tough::{IntoVec, Repository, TargetName};

use super::error::{PackFailure, Step, chain};
use super::metadata::Metadata;
use super::store::Active;

/// A version that this instance should have and has not.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) pack: PackName,
    pub(super) version: PackVersion,
    /// The archive's digest, as signed.
    pub(super) digest: Digest,
    /// The archive's length, as signed.
    pub(super) length: u64,
    pub(super) target: TargetName,
    /// Set when it was pushed onto this instance, and nobody signed it.
    pub(super) dev: Option<Dev>,
}

/// What the channel comes to for a pack here.
#[derive(Debug)]
pub(super) enum Choice {
    /// This version, which is not active.
    Activate(Chosen),
    /// The version that is active.
    Keep,
    /// The rollout has not come to this instance, or is not meant for it.
    NotHere,
}

/// The packs of which `channel` says something, sorted.
pub(super) fn packs(metadata: &Metadata, channel: &ChannelName) -> Vec<PackName> {
    let targets = metadata.repository().targets();
    let mut packs: Vec<PackName> = targets
        .signed
        .targets
        .keys()
        .filter(|name| name.raw() == name.resolved())
        .filter_map(|name| parse_channel_target(name.raw()))
        .filter(|(named, _)| named == channel)
        .map(|(_, pack)| pack)
        .collect();
    packs.sort();
    packs
}

/// Decides for one pack. The version is given with a failure as soon as it is known.
pub(super) async fn choose(
    metadata: &Metadata,
    config: &Config,
    pack: &PackName,
    active: Option<&Active>,
) -> Result<Choice, (Option<PackVersion>, PackFailure)> {
    let fail = |message: String| (None, PackFailure::new(Step::Choose, message));
    let repository = metadata.repository();
    let channel = read_channel(repository, &config.repository.channel, pack).await.map_err(fail)?;
    if !applies(&channel, &config.instance) {
        return Ok(Choice::NotHere);
    }
    let Channel { version, .. } = channel;
    let fail = |message: String| (Some(version.clone()), PackFailure::new(Step::Choose, message));
    let name = pack_target(pack, &version);
    let (name, target) = find(repository, &name).ok_or_else(|| fail(format!("the repository has no target {name}")))?;
    let digest = hex(&target.hashes.sha256);
    let digest = Digest::new(digest).map_err(|_| fail(format!("target {} has no SHA-256", name.raw())))?;
    if let Some(active) = active {
        let held = &active.stored.pack.version;
        if *held == version && active.stored.digest == digest {
            return Ok(Choice::Keep);
        }
        if *held == version {
            return Err(fail(format!("{version} is active with another content; publish a higher version")));
        }
        if *held > version {
            return Err(fail(format!("{held} is active and newer; publish a version higher than it")));
        }
    }
    Ok(Choice::Activate(Chosen { pack: pack.clone(), version, digest, length: target.length, target: name, dev: None }))
}

/// Whether `channel` applies to the instance.
fn applies(channel: &Channel, instance: &Facts) -> bool {
    bucket(&instance.id, &channel.pack) < channel.percent
        && channel.filter.as_ref().is_none_or(|filter| filter.matches(instance))
}

/// 0 to 99, evenly and always the same for an instance and a pack: raising the percentage only adds instances.
fn bucket(instance: &InstanceId, pack: &PackName) -> u8 {
    let hash = Sha256::new().chain_update(instance.as_str()).chain_update([0]).chain_update(pack.as_str()).finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    (u64::from_be_bytes(first) % 100) as u8
}

async fn read_channel(repository: &Repository, channel: &ChannelName, pack: &PackName) -> Result<Channel, String> {
    let name = channel_target(channel, pack);
    let (target_name, target) = find(repository, &name).ok_or_else(|| format!("target {name} is gone"))?;
    if target.length > MAX_CHANNEL_FILE {
        return Err(format!("{name} has {} bytes; a channel file has at most {MAX_CHANNEL_FILE}", target.length));
    }
    let wrong = |error: &(dyn std::error::Error + 'static)| format!("cannot read {name}: {}", chain(error));
    let stream = repository.read_target(&target_name).await.map_err(|e| wrong(&e))?;
    let stream = stream.ok_or_else(|| format!("target {name} is gone"))?;
    let bytes = stream.into_vec().await.map_err(|e| wrong(&e))?;
    let value = strict::parse(&bytes).map_err(|e| wrong(&e))?;
    let channel: Channel = serde_json::from_value(value).map_err(|e| wrong(&e))?;
    if channel.pack != *pack {
        return Err(format!("{name} speaks of pack {}", channel.pack));
    }
    Ok(channel)
}

/// What the top-level targets say of `name`.
fn find<'a>(repository: &'a Repository, name: &str) -> Option<(TargetName, &'a Target)> {
    let name = TargetName::new(name).ok()?;
    let target = repository.targets().signed.targets.get(&name)?;
    Some((name, target))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_stable_and_even() {
        let pack = PackName::new("linux").unwrap();
        let id = |n| InstanceId::new(format!("i-{n:08}")).unwrap();
        assert_eq!(bucket(&id(1), &pack), bucket(&id(1), &pack));
        let other = PackName::new("cassandra").unwrap();
        assert!((0..100).any(|n| bucket(&id(n), &pack) != bucket(&id(n), &other)), "packs roll out independently");
        let below = |percent| (0..10_000).filter(|n| bucket(&id(*n), &pack) < percent).count();
        assert_eq!((below(0), below(100)), (0, 10_000));
        assert!((800..1200).contains(&below(10)), "{}", below(10));
    }

    #[test]
    fn a_channel_applies_by_percentage_and_expression() {
        let facts = Facts { app: "web".into(), ..Facts::of(InstanceId::new("i-1").unwrap()) };
        let channel = |percent, filter: Option<&str>| Channel {
            pack: PackName::new("linux").unwrap(),
            version: PackVersion::new("1.0.0").unwrap(),
            percent,
            filter: filter.map(|text| packs_schema::filter::Filter::new(text).unwrap()),
        };
        assert!(applies(&channel(100, None), &facts));
        assert!(!applies(&channel(0, None), &facts));
        assert!(applies(&channel(100, Some("app == 'web'")), &facts));
        assert!(!applies(&channel(100, Some("app == 'db'")), &facts));
    }
}
