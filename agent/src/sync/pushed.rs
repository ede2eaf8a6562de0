//! What is recorded of pushed versions in a pack's directory, and so which version counts as signed.
//!
//! What a signed version is said to be goes by the record and never by `current` alone, so that a pushed version cannot pass for
//! one. What is done with it stands in [`shadow`](super::shadow).

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

/// The largest record, in bytes.
const MAX_RECORD: u64 = 1 << 20;
/// How long the end of an execution may take beyond its time-out and its grace, in milliseconds.
const SLACK_MS: u64 = 10_000;

/// What stands of pushed versions in a pack's directory; the empty record when nothing does.
pub(super) fn read(home: &Path) -> io::Result<PushOverlay> {
    match disk::read_if_there(&home.join(PUSH_OVERLAY), MAX_RECORD)? {
        Some(bytes) => serde_json::from_slice(&bytes).or_else(|_| of_what_is_there(home)),
        None => Ok(PushOverlay::default()),
    }
}

/// In the place of a damaged record: every version that says of itself that it was pushed, all of them over.
fn of_what_is_there(home: &Path) -> io::Result<PushOverlay> {
    let mut shadow = PushOverlay::default();
    let current = link(home)?;
    for entry in fs::read_dir(home)? {
        let directory = entry?.file_name().to_string_lossy().into_owned();
        let Some(stored) = stored(&home.join(&directory)).filter(|stored| stored.dev.is_some()) else { continue };
        let (digest, size_bytes, boot) = (stored.digest, 0, String::new());
        let over = PushedVersion { directory, digest, size_bytes, until_ms: 0, until_boot_ms: 0, boot };
        if current.as_ref() == Some(&over.directory) {
            shadow.active = Some(over);
        } else {
            let ended = ended(home, &over);
            shadow.ended.push(ended);
        }
    }
    Ok(shadow)
}

/// Writes the record, or removes it when nothing stands in it.
pub(super) fn write(home: &Path, shadow: &PushOverlay) -> io::Result<()> {
    if shadow.active.is_none() && shadow.ended.is_empty() {
        return disk::remove_if_there(&home.join(PUSH_OVERLAY));
    }
    let shadow = PushOverlay { format: store::FORMAT, ..shadow.clone() };
    disk::replace(&home.join(PUSH_OVERLAY), &serde_json::to_vec(&shadow)?, 0o644)
}

/// What `current` names.
pub(super) fn link(home: &Path) -> io::Result<Option<String>> {
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

/// The directories of pushed versions, as far as any are known.
pub(super) fn pushed_directories(shadow: &PushOverlay) -> BTreeSet<&str> {
    let ended = shadow.ended.iter().map(|ended| ended.directory.as_str());
    shadow.active.iter().map(|active| active.directory.as_str()).chain(ended).collect()
}

/// The directory of the signed version: what is active, or is again when the pushed one has gone.
pub(super) fn signed(home: &Path) -> io::Result<Option<String>> {
    let shadow = read(home)?;
    let Some(current) = link(home)? else { return Ok(None) };
    let is_pushed = pushed_directories(&shadow).contains(current.as_str())
        || stored(&home.join(&current)).is_some_and(|stored| stored.dev.is_some());
    let beneath = shadow.signed.filter(|name| home.join(name).join(META).is_dir());
    Ok(if is_pushed { beneath } else { Some(current) })
}

/// The pushed version that is active.
pub(super) fn active(home: &Path) -> io::Result<Option<PushedVersion>> {
    let current = link(home)?;
    Ok(read(home)?.active.filter(|active| Some(&active.directory) == current.as_ref()))
}

/// What is to be known of a version when its definitions have gone: until when something may run in it.
pub(super) fn ended(home: &Path, pushed: &PushedVersion) -> EndedVersion {
    let actions = home.join(&pushed.directory).join(META).join(store::ACTIONS);
    let longest = fs::read_dir(actions).into_iter().flatten().flatten().filter_map(|entry| {
        let bytes = disk::read_if_there(&entry.path(), MAX_RECORD).ok().flatten()?;
        let action: Action = serde_json::from_slice(&bytes).ok()?;
        Some(action.timeout.0.saturating_add(action.grace.0))
    });
    let longest_ms = longest.max().map_or(0, |longest| u64::try_from(longest.as_millis()).unwrap_or(u64::MAX));
    // What cannot be told may be in use.
    let (now, boot) = Clock::read().map_or((u64::MAX, String::new()), |clock| (clock.boot_ms, clock.boot));
    // Another boot ended every execution of it.
    let boot = if pushed.boot.is_empty() { boot } else { pushed.boot.clone() };
    EndedVersion {
        directory: pushed.directory.clone(),
        digest: pushed.digest.clone(),
        size_bytes: pushed.size_bytes,
        in_use_until_boot_ms: now.saturating_add(longest_ms).saturating_add(SLACK_MS),
        boot,
    }
}
