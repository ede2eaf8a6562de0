//! `bolt repo status`: versions, channels, and expiry of roles.

use jiff::Timestamp;
use packs_schema::base::name::{ChannelName, PackName, PackVersion, TeamName};
use packs_schema::delivery::channel::{Rule, pack_target, parse_channel_target, parse_pack_target};
use serde::Serialize;
use tough::schema::{Role, RoleType};

use super::archives::{self, Archives};
use super::change::with_view;
use super::journal::{self, Entry};
use super::origin::Source;
use super::owner::Owner;
use super::state::{State, Viewed};
use super::trust::{View, fingerprint};
use super::{RepoError, hex, team};

/// Content of a repository.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// True if it was verified from a root that did not come from it.
    pub verified: bool,
    /// SHA-256 of the signed part of its newest root.
    pub root_fingerprint: String,
    /// The roles and their signatures.
    pub roles: Vec<RoleStatus>,
    /// Every published version.
    pub versions: Vec<VersionStatus>,
    /// Error that kept the archives from being checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archives_not_checked: Option<String>,
    /// Contents of the channels.
    pub channels: Vec<ChannelStatus>,
}

/// Role of a repository.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RoleStatus {
    /// `root`, `targets`, `snapshot` or `timestamp`, or a team's `team-<team>`.
    pub role: String,
    /// Version of its metadata.
    pub version: u64,
    /// Expiry of its signatures, RFC 3339.
    pub expires: String,
    /// True if they have expired: agents activate nothing new.
    pub expired: bool,
    /// Number of keys that must sign.
    pub threshold: u64,
    /// Ids of its keys.
    pub keys: Vec<String>,
    /// Packs that are delegated to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub packs: Vec<PackName>,
}

/// Version of a pack.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VersionStatus {
    /// The pack.
    pub pack: PackName,
    /// The version.
    pub version: PackVersion,
    /// SHA-256 of the archive.
    pub digest: String,
    /// Size of the archive, in bytes.
    pub size_bytes: u64,
    /// Problem of the archive that keeps instances from taking it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Time of publication, in milliseconds since 1970, when it is known.
    pub published_at_ms: Option<u64>,
    /// Team that signed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<TeamName>,
    /// Work tree that it was built in, when it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// Content of a channel for a pack.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChannelStatus {
    /// The channel.
    pub channel: ChannelName,
    /// The pack.
    pub pack: PackName,
    /// Newest version that it holds.
    pub version: PackVersion,
    /// Percentage of the instances that get it.
    pub percent: u8,
    /// Instances that get it.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// True if the rollout is paused.
    pub paused: bool,
    /// True if every version was withdrawn; then `version` and `rules` are placeholders.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub holds_nothing: bool,
    /// Its rules, highest version first: an instance takes the first that applies to it.
    pub rules: Vec<Rule>,
    /// Versions that were withdrawn.
    pub withdrawn: Vec<PackVersion>,
    /// Number of changes.
    pub serial: u64,
    /// Team that signs for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<TeamName>,
    /// The last change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_change: Option<Entry>,
}

/// Verifies the repository against `view` and describes it.
pub fn status(view: &View) -> Result<Status, RepoError> {
    with_view(view, async |state, storage| {
        let channels = channels(state).await?;
        let names = |channel: &ChannelStatus| {
            let versions = channel.rules.iter().map(|rule| pack_target(&channel.pack, &rule.version));
            versions.collect::<Vec<_>>()
        };
        let held = channels.iter().flat_map(names).collect();
        let archives = archives::compare(
            state.all().into_iter().map(|(name, _, target)| (name, target)),
            storage,
            &held,
            view.read_archives,
        )?;
        let root_fingerprint = fingerprint(state.repository().root())?;
        let verified = view.is_verified();
        Ok(Status {
            verified,
            root_fingerprint,
            roles: roles(state),
            versions: versions(state, &archives),
            archives_not_checked: archives.not_checked,
            channels,
        })
    })
}

/// Returns the verified journal, oldest first; of one pack and one channel when they are given.
pub fn log(view: &View, pack: Option<&PackName>, channel: Option<&ChannelName>) -> Result<Vec<Entry>, RepoError> {
    with_view(view, async |state, _| {
        let entries = journal::read(state).await?.into_iter().map(|(_, entry)| entry);
        let wanted = |entry: &Entry| {
            pack.is_none_or(|pack| entry.pack == *pack)
                && channel.is_none_or(|channel| entry.channel.as_ref() == Some(channel))
        };
        Ok(entries.filter(wanted).collect())
    })
}

fn roles(state: &State<Viewed>) -> Vec<RoleStatus> {
    let now = Timestamp::now();
    let root = &state.root;
    let one = |kind: RoleType, version: u64, expires: Timestamp| RoleStatus {
        role: kind.to_string(),
        version,
        expires: expires.to_string(),
        expired: expires < now,
        threshold: root.roles.get(&kind).map_or(0, |keys| keys.threshold.get()),
        keys: root.roles.get(&kind).map_or_else(Vec::new, |keys| keys.keyids.iter().map(|id| hex(id)).collect()),
        packs: Vec::new(),
    };
    let repository = state.repository();
    let (targets, snapshot) = (&repository.targets().signed, &repository.snapshot().signed);
    let timestamp = &repository.timestamp().signed;
    let teams = state.roles().filter_map(|role| {
        let metadata = &role.targets.as_ref()?.signed;
        Some(RoleStatus {
            role: role.name.clone(),
            version: metadata.version.get(),
            expires: metadata.expires.to_string(),
            expired: metadata.expires < now,
            threshold: role.threshold.get(),
            keys: role.keyids.iter().map(|id| hex(id)).collect(),
            packs: team::packs(role),
        })
    });
    let four = [
        one(RoleType::Root, root.version.get(), root.expires()),
        one(RoleType::Targets, targets.version.get(), targets.expires()),
        one(RoleType::Snapshot, snapshot.version.get(), snapshot.expires()),
        one(RoleType::Timestamp, timestamp.version.get(), timestamp.expires()),
    ];
    four.into_iter().chain(teams).collect()
}

fn versions(state: &State<Viewed>, archives: &Archives) -> Vec<VersionStatus> {
    let one = |(name, owner, target): (&str, Owner, &tough::schema::Target)| {
        let (pack, version) = parse_pack_target(name)?;
        let source = target.custom.get("source").cloned();
        Some(VersionStatus {
            pack,
            version,
            digest: hex(&target.hashes.sha256),
            size_bytes: target.length,
            problem: archives.problems.get(name).cloned(),
            published_at_ms: target.custom.get("published_at_ms").and_then(serde_json::Value::as_u64),
            team: owner.team().cloned(),
            source: source.and_then(|source| serde_json::from_value(source).ok()),
        })
    };
    let mut versions: Vec<VersionStatus> = state.all().into_iter().filter_map(one).collect();
    versions.sort_by(|a, b| (&a.pack, &a.version).cmp(&(&b.pack, &b.version)));
    versions
}

async fn channels(state: &State<Viewed>) -> Result<Vec<ChannelStatus>, RepoError> {
    let journal = journal::read(state).await?;
    let named = |(name, owner, _): (&str, Owner, _)| Some((parse_channel_target(name)?, owner));
    let names: Vec<_> = state.all().into_iter().filter_map(named).collect();
    let mut channels = Vec::new();
    for ((channel, pack), owner) in names {
        let Some(holds) = state.channel(&channel, &pack).await? else { continue };
        let (newest, holds_nothing) = (holds.newest().clone(), holds.holds_nothing());
        let last = journal.iter().rfind(|(_, e)| e.pack == pack && e.channel.as_ref() == Some(&channel));
        channels.push(ChannelStatus {
            channel,
            pack,
            version: newest.version,
            percent: newest.percent,
            filter: newest.filter.map(String::from),
            paused: newest.paused,
            holds_nothing,
            serial: holds.serial,
            rules: holds.rules,
            withdrawn: holds.withdrawn,
            team: owner.team().cloned(),
            last_change: last.map(|(_, entry)| entry.clone()),
        });
    }
    channels.sort_by(|a, b| (&a.channel, &a.pack).cmp(&(&b.channel, &b.pack)));
    Ok(channels)
}
