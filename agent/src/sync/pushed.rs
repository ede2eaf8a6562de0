//! Record of pushed versions in a pack's directory, `.dev.json`.
//!
//! The record decides which version counts as signed, never `current` alone, so that a pushed version cannot be taken for a
//! signed one. Its changes are in [`push_overlay`](super::push_overlay).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use packs_schema::agent::store::{
    self, CURRENT, EndedVersion, META, PACK, PUSH_OVERLAY, PushOverlay, PushedVersion, StoredPack,
};
use packs_schema::pack::action::Action;

use super::clock::Clock;
use super::disk;

/// Maximum size of the record, in bytes.
const MAX_RECORD: u64 = 1 << 20;
/// Maximum time for the end of an execution beyond its time-out and its grace period, in milliseconds.
const SLACK_MS: u64 = 10_000;

/// Reads the record; an empty one if there is none.
pub(super) fn read(home: &Path) -> io::Result<PushOverlay> {
    match disk::read_if_there(&home.join(PUSH_OVERLAY), MAX_RECORD)? {
        Some(bytes) => serde_json::from_slice(&bytes).or_else(|_| rebuild(home)),
        None => Ok(PushOverlay::default()),
    }
}

/// Rebuilds a damaged record: every version whose own record says that it was pushed, all of them ended.
fn rebuild(home: &Path) -> io::Result<PushOverlay> {
    let mut overlay = PushOverlay::default();
    let current = current(home)?;
    for entry in fs::read_dir(home)? {
        let directory = entry?.file_name().to_string_lossy().into_owned();
        let Some(stored) = stored(&home.join(&directory)).filter(|stored| stored.dev.is_some()) else { continue };
        let (digest, size_bytes, boot) = (stored.digest, 0, String::new());
        let over = PushedVersion { directory, digest, size_bytes, until_ms: 0, until_boot_ms: 0, boot };
        if current.as_ref() == Some(&over.directory) {
            overlay.active = Some(over);
        } else {
            let ended = ended(home, &over);
            overlay.ended.push(ended);
        }
    }
    Ok(overlay)
}

/// Writes the record, or removes it if it is empty.
pub(super) fn write(home: &Path, overlay: &PushOverlay) -> io::Result<()> {
    if overlay.active.is_none() && overlay.ended.is_empty() {
        return disk::remove_if_there(&home.join(PUSH_OVERLAY));
    }
    let overlay = PushOverlay { format: store::FORMAT, ..overlay.clone() };
    disk::replace(&home.join(PUSH_OVERLAY), &serde_json::to_vec(&overlay)?, 0o644)
}

/// Returns the target of `current`.
pub(super) fn current(home: &Path) -> io::Result<Option<String>> {
    match fs::read_link(home.join(CURRENT)) {
        Ok(target) => Ok(Some(target.to_string_lossy().into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn stored(directory: &Path) -> Option<StoredPack> {
    let bytes = disk::read_if_there(&directory.join(META).join(PACK), MAX_RECORD).ok().flatten()?;
    serde_json::from_slice(&bytes).ok()
}

/// Returns the directories of all recorded pushed versions.
pub(super) fn pushed_directories(overlay: &PushOverlay) -> BTreeSet<&str> {
    let ended = overlay.ended.iter().map(|ended| ended.directory.as_str());
    overlay.active.iter().map(|active| active.directory.as_str()).chain(ended).collect()
}

/// Returns the directory of the signed version: the active one, or the one that is activated when the pushed one ends.
pub(super) fn signed(home: &Path) -> io::Result<Option<String>> {
    let overlay = read(home)?;
    let Some(current) = current(home)? else { return Ok(None) };
    let is_pushed = pushed_directories(&overlay).contains(current.as_str())
        || stored(&home.join(&current)).is_some_and(|stored| stored.dev.is_some());
    let covered = overlay.signed.filter(|name| home.join(name).join(META).is_dir());
    Ok(if is_pushed { covered } else { Some(current) })
}

/// Returns the pushed version that is active.
pub(super) fn active(home: &Path) -> io::Result<Option<PushedVersion>> {
    let current = current(home)?;
    Ok(read(home)?.active.filter(|active| Some(&active.directory) == current.as_ref()))
}

/// Builds the record of a version that ends: until when an execution may still run in it.
pub(super) fn ended(home: &Path, pushed: &PushedVersion) -> EndedVersion {
    let actions = home.join(&pushed.directory).join(META).join(store::ACTIONS);
    let longest = fs::read_dir(actions).into_iter().flatten().flatten().filter_map(|entry| {
        let bytes = disk::read_if_there(&entry.path(), MAX_RECORD).ok().flatten()?;
        let action: Action = serde_json::from_slice(&bytes).ok()?;
        Some(action.timeout.0.saturating_add(action.grace.0))
    });
    let longest_ms = longest.max().map_or(0, |longest| u64::try_from(longest.as_millis()).unwrap_or(u64::MAX));
    // A version with unreadable definitions may be in use for the maximum time.
    let (now, boot) = Clock::read().map_or((u64::MAX, String::new()), |clock| (clock.boot_ms, clock.boot));
    // Another boot has ended every execution of it.
    let boot = if pushed.boot.is_empty() { boot } else { pushed.boot.clone() };
    EndedVersion {
        directory: pushed.directory.clone(),
        digest: pushed.digest.clone(),
        size_bytes: pushed.size_bytes,
        in_use_until_boot_ms: now.saturating_add(longest_ms).saturating_add(SLACK_MS),
        boot,
    }
}
