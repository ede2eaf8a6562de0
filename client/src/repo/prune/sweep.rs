//! Removes superseded metadata, and files that are named by no metadata which an agent may still be reading.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sha2::Digest as _;
use tough::schema::{Target, Targets};

use super::super::state::State;
use super::super::storage::{Storage, Stored};
use super::super::{RepoError, hex};
use super::Policy;

/// Result of a sweep: removed, or what would be removed.
#[derive(Debug, Default)]
pub(super) struct Swept {
    pub(super) files: BTreeSet<String>,
    pub(super) bytes: u64,
    pub(super) waiting: usize,
    /// Time from which on all files that wait may be removed, if nothing changes before then.
    pub(super) prunable_at_ms: Option<u64>,
}

/// Removes the files that nothing needs; in a dry run only lists them.
pub(super) fn sweep(state: &State, storage: &Storage, policy: &Policy, now_ms: u64) -> Result<Swept, RepoError> {
    let grace_ms = u64::try_from(policy.grace.as_millis()).unwrap_or(u64::MAX);
    let old_ms = now_ms.saturating_sub(grace_ms);
    let stored = storage.list()?;
    let newest = needed(state);
    let mut needed = newest.clone();
    let changed_ms = last_change_ms(&stored);
    let superseded = superseded(state, &stored, old_ms);
    // An agent in the middle of a poll may still read the metadata that stay, and the files that they name.
    for file in stored.iter().filter(|file| parse_metadata(&file.name).is_some()) {
        if superseded.contains(file.name.as_str()) || needed.contains(&file.name) {
            continue;
        }
        if let Some(bytes) = storage.read(&file.name)? {
            needed.extend(named_in(&bytes));
        }
        if parse_metadata(&file.name).is_some_and(|(version, role)| version <= current(state, role)) {
            needed.insert(file.name.clone());
        }
    }
    let mut swept = Swept::default();
    for file in stored.iter().filter(|file| is_ours(&file.name) && !newest.contains(&file.name)) {
        let is_young = !superseded.contains(file.name.as_str()) && file.modified_ms >= old_ms;
        if needed.contains(&file.name) || is_young {
            swept.waiting += 1;
            let at_ms = file.modified_ms.max(changed_ms).saturating_add(grace_ms).saturating_add(1);
            swept.prunable_at_ms = swept.prunable_at_ms.max(Some(at_ms));
            continue;
        }
        if !policy.dry_run {
            storage.remove(&file.name)?;
        }
        // A bucket may tell any length.
        swept.bytes = swept.bytes.saturating_add(file.bytes);
        swept.files.insert(file.name.clone());
    }
    Ok(swept)
}

/// Returns the files of the newest state, except roots.
pub(super) fn needed(state: &State) -> BTreeSet<String> {
    let snapshot = &state.repository().snapshot().signed;
    let mut needed = BTreeSet::from([format!("metadata/{}.snapshot.json", snapshot.version)]);
    needed.extend(snapshot.meta.iter().map(|(file, meta)| format!("metadata/{}.{file}", meta.version)));
    needed.extend(state.all().into_iter().map(|(name, _, target)| target_file(name, target)));
    // Targets that a role lists outside its paths are of no use to agents; this command leaves them alone.
    for owner in state.owners() {
        let listed: Option<&Targets> = state.listed(&owner);
        needed
            .extend(listed.into_iter().flat_map(|l| &l.targets).map(|(name, target)| target_file(name.raw(), target)));
    }
    needed
}

fn target_file(name: &str, target: &Target) -> String {
    format!("targets/{}.{name}", hex(&target.hashes.sha256))
}

/// Returns the version of a role in the newest state; 0 for a role that it does not have.
fn current(state: &State, role: &str) -> u64 {
    let snapshot = &state.repository().snapshot().signed;
    if role == "snapshot" {
        return snapshot.version.get();
    }
    snapshot.meta.get(&format!("{role}.json")).map_or(0, |meta| meta.version.get())
}

/// Returns the time of the repository's last change.
fn last_change_ms(stored: &[Stored]) -> u64 {
    let timestamp = stored.iter().find(|file| file.name == "metadata/timestamp.json");
    timestamp.map_or(u64::MAX, |timestamp| timestamp.modified_ms)
}

/// Returns metadata that no agent still reads: the repository has not changed for the grace period, or two later versions were
/// written, both longer ago than that. One is not enough: its publisher may have died before the timestamp, so that the version
/// before it was still the newest.
fn superseded<'a>(state: &State, stored: &'a [Stored], old_ms: u64) -> BTreeSet<&'a str> {
    let mut by_role: BTreeMap<&str, BTreeMap<u64, &Stored>> = BTreeMap::new();
    for file in stored {
        if let Some((version, role)) = parse_metadata(&file.name) {
            by_role.entry(role).or_default().insert(version, file);
        }
    }
    let is_settled = last_change_ms(stored) < old_ms;
    let mut superseded = BTreeSet::new();
    for (role, versions) in by_role {
        let current = current(state, role);
        for (version, file) in versions.range(..current) {
            let later = versions.range(version + 1..=current);
            if is_settled || later.filter(|(_, later)| later.modified_ms < old_ms).count() >= 2 {
                superseded.insert(file.name.as_str());
            }
        }
    }
    superseded
}

/// Returns version and role of a metadata file that is neither a root nor the timestamp.
fn parse_metadata(name: &str) -> Option<(u64, &str)> {
    let (version, role) = name.strip_prefix("metadata/")?.strip_suffix(".json")?.split_once('.')?;
    let version = version.parse().ok().filter(|_| version.bytes().all(|b| b.is_ascii_digit()))?;
    (role != "root" && !role.is_empty()).then_some((version, role))
}

/// True for a name that a publisher writes and that may be removed: everything else is left alone.
fn is_ours(name: &str) -> bool {
    if parse_metadata(name).is_some() {
        return true;
    }
    let file = name.rsplit('/').next().unwrap_or_default();
    if (name.starts_with("metadata/") || name.starts_with("targets/")) && file.starts_with(".tmp") {
        // Of a publisher that was killed while it wrote.
        return true;
    }
    let digest = name.strip_prefix("targets/").and_then(|name| name.split_once('.')).map(|(digest, _)| digest);
    digest.is_some_and(|digest| {
        digest.len() == 2 * sha2::Sha256::output_size() && digest.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

/// Returns the files that metadata name; none when these are not metadata.
fn named_in(bytes: &[u8]) -> Vec<String> {
    let metadata: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let targets = metadata["signed"]["targets"].as_object();
    let file =
        |(name, target): (&String, &Value)| Some(format!("targets/{}.{name}", target["hashes"]["sha256"].as_str()?));
    targets.into_iter().flatten().filter_map(file).collect()
}
