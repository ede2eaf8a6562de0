//! Chooses the versions and the parts of the journal to remove.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use packs_schema::base::name::{ChannelName, PackName, PackVersion};
use packs_schema::delivery::channel::{Channel, pack_target, parse_pack_target};

use super::super::RepoError;
use super::super::journal::{self, Change, Entry};
use super::super::keys::KeyRing;
use super::super::origin::By;
use super::super::owner::Owner;
use super::super::state::State;
use super::super::state::retired::published_at_ms;
use super::{KeptVersion, Policy, Pruned, PrunedVersion, Reason};

/// A published version.
struct Version {
    owner: Owner,
    pack: PackName,
    version: PackVersion,
    size_bytes: u64,
    published_at_ms: u64,
}

/// Takes what `policy` allows out of `state`, and records it in the journal. In a dry run `state` stays as it is.
pub(super) async fn choose(
    state: &mut State,
    ring: &mut KeyRing,
    policy: &Policy,
    now_ms: u64,
) -> Result<Pruned, RepoError> {
    let mut pruned = Pruned::default();
    let mut owners = Vec::new();
    for owner in state.owners() {
        if state.signers(&owner, ring)?.is_empty() {
            pruned.unsigned.push(owner.role());
        } else {
            owners.push(owner);
        }
    }
    let journal = journal::read(state).await?;
    let mut held = BTreeSet::new();
    for owner in state.owners() {
        held.extend(state.held_by(&owner).await?);
    }
    let all = versions(state);
    let rollback = needed_by_rollbacks(state, &journal, &all, policy.keep_versions).await?;
    let gone = unneeded(&all, &journal, policy, now_ms, |version| {
        let name = pack_target(&version.pack, &version.version);
        let key = (version.pack.clone(), version.version.clone());
        match () {
            () if held.contains(&name) => Some(Reason::Held),
            () if rollback.contains(&key) => Some(Reason::Rollback),
            () if policy.running.contains(&key) => Some(Reason::Running),
            () => None,
        }
    });
    pruned.kept = gone.kept;
    let mut by_owner: BTreeMap<Owner, BTreeMap<PackName, Vec<PackVersion>>> = BTreeMap::new();
    for version in gone.versions.into_iter().filter(|version| owners.contains(&version.owner)) {
        let Version { owner, pack, version, size_bytes, .. } = version;
        by_owner.entry(owner.clone()).or_default().entry(pack.clone()).or_default().push(version.clone());
        pruned.versions.push(PrunedVersion { pack, version, size_bytes });
    }
    let left: BTreeSet<(PackName, PackVersion)> = all
        .iter()
        .map(|version| (version.pack.clone(), version.version.clone()))
        .filter(|(pack, version)| !pruned.versions.iter().any(|gone| gone.pack == *pack && gone.version == *version))
        .collect();
    for owner in owners {
        let packs = by_owner.remove(&owner).unwrap_or_default();
        let names: BTreeSet<String> =
            packs.iter().flat_map(|(pack, versions)| versions.iter().map(|v| pack_target(pack, v))).collect();
        let parts = match policy.journal_older_than {
            Some(older_than) => old_parts(state, &owner, &left, before(now_ms, older_than)).await?,
            None => OldParts::default(),
        };
        pruned.journal.extend(parts.names.iter().cloned());
        if policy.dry_run || (names.is_empty() && parts.names.is_empty()) {
            continue;
        }
        if !names.is_empty() {
            state.drop_targets(&owner, &owner, |name| names.contains(name.raw())).await?;
        }
        for name in &parts.names {
            state.unset(&owner, name)?;
        }
        let by = By::here(state.signers(&owner, ring)?);
        for (pack, versions) in packs {
            let entry = Entry { versions, by: by.clone(), ..Entry::new(Change::Prune, &pack) };
            journal::append(state, &owner, entry).await?;
        }
        if let Some((pack, line)) = parts.last {
            let entry = Entry { dropped: Some(line), by, ..Entry::new(Change::Prune, &pack) };
            journal::append(state, &owner, entry).await?;
        }
    }
    Ok(pruned)
}

fn before(now_ms: u64, age: Duration) -> u64 {
    now_ms.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}

fn versions(state: &State) -> Vec<Version> {
    let version = |(name, owner, target): (&str, Owner, &tough::schema::Target)| {
        let (pack, version) = parse_pack_target(name)?;
        Some(Version { owner, pack, version, size_bytes: target.length, published_at_ms: published_at_ms(target) })
    };
    state.all().into_iter().filter_map(version).collect()
}

/// Versions to remove, and those that stay although they are old.
struct Unneeded {
    versions: Vec<Version>,
    kept: Vec<KeptVersion>,
}

fn unneeded(
    all: &[Version],
    journal: &[(Owner, Entry)],
    policy: &Policy,
    now_ms: u64,
    needed: impl Fn(&Version) -> Option<Reason>,
) -> Unneeded {
    let old = before(now_ms, policy.older_than);
    let mut last: BTreeMap<(&PackName, PackVersion), u64> = BTreeMap::new();
    for (_, entry) in journal {
        for version in entry.channels().into_iter().flat_map(|file| file.rules).map(|rule| rule.version) {
            let at = last.entry((&entry.pack, version)).or_default();
            *at = entry.at_ms.max(*at);
        }
    }
    let mut by_pack: BTreeMap<&PackName, Vec<&Version>> = BTreeMap::new();
    for version in all {
        by_pack.entry(&version.pack).or_default().push(version);
    }
    let mut unneeded = Unneeded { versions: Vec::new(), kept: Vec::new() };
    for (pack, mut versions) in by_pack {
        versions.sort_by(|a, b| b.version.cmp(&a.version));
        for version in versions.into_iter().skip(policy.keep_versions) {
            let held_at = last.get(&(pack, version.version.clone())).copied().unwrap_or(0);
            if version.published_at_ms.max(held_at) >= old {
                continue;
            }
            let Version { owner, pack, version: number, size_bytes, published_at_ms } = version;
            let (pack, number) = (pack.clone(), number.clone());
            match needed(version) {
                Some(reason) => unneeded.kept.push(KeptVersion { pack, version: number, reason }),
                None => unneeded.versions.push(Version {
                    owner: owner.clone(),
                    pack,
                    version: number,
                    size_bytes: *size_bytes,
                    published_at_ms: *published_at_ms,
                }),
            }
        }
    }
    unneeded
}

/// Contents of each channel, in the order of the journal.
type Histories = BTreeMap<(ChannelName, PackName), Vec<Channel>>;

/// Returns the versions that a rollback of some channel may need: the last `keep` before the newest (one at least), and the
/// rules beside each of them when it was the newest.
async fn needed_by_rollbacks(
    state: &State,
    journal: &[(Owner, Entry)],
    all: &[Version],
    keep: usize,
) -> Result<BTreeSet<(PackName, PackVersion)>, RepoError> {
    let mut histories = Histories::new();
    for (_, entry) in journal {
        if let Some(channel) = &entry.channel {
            histories.entry((channel.clone(), entry.pack.clone())).or_default().extend(entry.channels());
        }
    }
    let mut needed = BTreeSet::new();
    for ((channel, pack), then) in histories {
        let Some(held) = state.channel(&channel, &pack).await? else { continue };
        let newest = &held.newest().version;
        let ever: BTreeSet<&PackVersion> = then.iter().flat_map(|file| &file.rules).map(|rule| &rule.version).collect();
        let published = |version: &PackVersion| all.iter().any(|other| other.pack == pack && other.version == *version);
        let back = ever.into_iter().rev().filter(|version| *version < newest && !held.withdrawn.contains(version));
        for version in back.filter(|version| published(version)).take(keep.max(1)) {
            needed.insert((pack.clone(), version.clone()));
            let beside = then.iter().rfind(|then| then.newest().version == *version);
            let rules = beside.into_iter().flat_map(|file| &file.rules);
            needed.extend(rules.map(|rule| (pack.clone(), rule.version.clone())));
        }
    }
    Ok(needed)
}

/// Parts at the beginning of a log that may be removed.
#[derive(Default)]
struct OldParts {
    names: Vec<String>,
    /// The pack and the SHA-256 of the last line.
    last: Option<(PackName, String)>,
}

/// Returns the parts at the beginning of a log whose lines are all older than `old_ms`. A part stays, and all after it, when
/// only it records the rules of a channel beside a version that is still published: a rollback reads them.
async fn old_parts(
    state: &State,
    owner: &Owner,
    published: &BTreeSet<(PackName, PackVersion)>,
    old_ms: u64,
) -> Result<OldParts, RepoError> {
    let parts = journal::parts(state, owner).await?;
    let mut old = OldParts::default();
    // The last two may still be written again.
    let closed = parts.len().saturating_sub(2);
    for (index, part) in parts.iter().take(closed).enumerate() {
        let later: Vec<&Entry> = parts[index + 1..].iter().flat_map(|part| &part.entries).collect();
        let is_needed =
            |entry: &Entry| entry.channels().iter().any(|file| !is_recorded_later(entry, file, &later, published));
        let is_old = part.entries.iter().all(|entry| entry.at_ms < old_ms);
        let Some(last) = part.entries.last().filter(|_| is_old && !part.entries.iter().any(is_needed)) else { break };
        old.names.push(part.name.clone());
        old.last = Some((last.pack.clone(), part.last_line.clone()));
    }
    Ok(old)
}

/// True if `later` lines record for every published version in `file` that the channel held it, and for the newest also the
/// rules beside it.
fn is_recorded_later(
    entry: &Entry,
    file: &Channel,
    later: &[&Entry],
    published: &BTreeSet<(PackName, PackVersion)>,
) -> bool {
    let same = later.iter().filter(|other| other.pack == entry.pack && other.channel == entry.channel);
    let later: Vec<Channel> = same.flat_map(|other| other.channels()).collect();
    let is_published = |version: &PackVersion| published.contains(&(entry.pack.clone(), version.clone()));
    let newest = &file.newest().version;
    let of_newest = !is_published(newest) || later.iter().any(|other| other.newest().version == *newest);
    of_newest
        && file
            .rules
            .iter()
            .filter(|rule| is_published(&rule.version))
            .all(|rule| later.iter().flat_map(|other| &other.rules).any(|other| other.version == rule.version))
}
