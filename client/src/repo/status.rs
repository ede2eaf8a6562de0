//! `bolt repo status`: what stands in a repository, and when which role expires.

use std::path::Path;

use jiff::Timestamp;
use packs_schema::channel::parse_channel_target;
use packs_schema::name::{ChannelName, PackName, PackVersion};
use serde::Serialize;
use tough::Repository;
use tough::schema::{Role, RoleType};

use super::place::Place;
use super::publish::{hex, read_channel};
use super::{RepoError, block_on};

/// What stands in a repository.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// The roles and their signatures.
    pub roles: Vec<RoleStatus>,
    /// Every published version.
    pub versions: Vec<VersionStatus>,
    /// What each channel holds.
    pub channels: Vec<ChannelStatus>,
}

/// One role.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RoleStatus {
    /// `root`, `targets`, `snapshot` or `timestamp`.
    pub role: String,
    /// The version of its metadata.
    pub version: u64,
    /// When its signatures end, RFC 3339.
    pub expires: String,
    /// They have ended: agents activate nothing new.
    pub expired: bool,
    /// So many keys must sign …
    pub threshold: u64,
    /// … of these.
    pub keys: Vec<String>,
}

/// One version of a pack.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionStatus {
    /// The pack.
    pub pack: PackName,
    /// The version.
    pub version: PackVersion,
    /// SHA-256 of the archive.
    pub digest: String,
    /// Bytes of the archive.
    pub size_bytes: u64,
    /// When it was published, in milliseconds since 1970, when that is known.
    pub published_at_ms: Option<u64>,
}

/// What a channel holds of a pack.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChannelStatus {
    /// The channel.
    pub channel: ChannelName,
    /// The pack.
    pub pack: PackName,
    /// The version.
    pub version: PackVersion,
    /// To how many of the instances.
    pub percent: u8,
    /// To which of them.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// Verifies the repository from `root` on (its own first root when absent) and lists what stands in it.
pub fn status(repository: &Path, root: Option<&Path>) -> Result<Status, RepoError> {
    let place = Place::at(repository)?;
    block_on(async {
        let repository = place.load(root).await?;
        let channels = channels(&repository).await?;
        Ok(Status { roles: roles(&repository), versions: versions(&repository), channels })
    })
}

fn roles(repository: &Repository) -> Vec<RoleStatus> {
    let now = Timestamp::now();
    let root = &repository.root().signed;
    let one = |kind: RoleType, version: u64, expires: Timestamp| RoleStatus {
        role: kind.to_string(),
        version,
        expires: expires.to_string(),
        expired: expires < now,
        threshold: root.roles.get(&kind).map_or(0, |keys| keys.threshold.get()),
        keys: root.roles.get(&kind).map_or_else(Vec::new, |keys| keys.keyids.iter().map(|id| hex(id)).collect()),
    };
    let (targets, snapshot) = (&repository.targets().signed, &repository.snapshot().signed);
    let timestamp = &repository.timestamp().signed;
    vec![
        one(RoleType::Root, root.version.get(), root.expires()),
        one(RoleType::Targets, targets.version.get(), targets.expires()),
        one(RoleType::Snapshot, snapshot.version.get(), snapshot.expires()),
        one(RoleType::Timestamp, timestamp.version.get(), timestamp.expires()),
    ]
}

fn versions(repository: &Repository) -> Vec<VersionStatus> {
    let mut versions: Vec<VersionStatus> = repository
        .all_targets()
        .filter_map(|(name, target)| {
            let (pack, file) = name.raw().strip_prefix("packs/")?.split_once('/')?;
            Some(VersionStatus {
                pack: PackName::new(pack).ok()?,
                version: PackVersion::new(file.strip_suffix(".tar.gz")?).ok()?,
                digest: hex(&target.hashes.sha256),
                size_bytes: target.length,
                published_at_ms: target.custom.get("published_at_ms").and_then(serde_json::Value::as_u64),
            })
        })
        .collect();
    versions.sort_by(|a, b| (&a.pack, &a.version).cmp(&(&b.pack, &b.version)));
    versions
}

async fn channels(repository: &Repository) -> Result<Vec<ChannelStatus>, RepoError> {
    let names: Vec<(ChannelName, PackName)> =
        repository.all_targets().filter_map(|(name, _)| parse_channel_target(name.raw())).collect();
    let mut channels = Vec::new();
    for (channel, pack) in names {
        if let Some(holds) = read_channel(repository, &channel, &pack).await? {
            let filter = holds.filter.map(String::from);
            channels.push(ChannelStatus { channel, pack, version: holds.version, percent: holds.percent, filter });
        }
    }
    channels.sort_by(|a, b| (&a.channel, &a.pack).cmp(&(&b.channel, &b.pack)));
    Ok(channels)
}
