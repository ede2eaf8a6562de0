//! Pushed versions in the store: over the signed one while their time lasts, and then gone.
//!
//! ```text
//!                   over                             end: its time, a signed version of the same archive,
//!  current ─▶ signed ──▶ current ─▶ pushed                another push, unpush, [dev] push = false, a reboot
//!                        beneath ─▶ signed ──end──▶ current ─▶ signed; of the pushed one the files, until no
//!                                                   execution can run in it, and no definitions: nothing starts
//! ```
//!
//! What a signed version is said to be goes by the record and never by `current` alone, so that a pushed version cannot pass
//! for one, also when this process ends between any two steps: [`settle`], at the start of each poll, goes on from there.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::time::{ClockId, clock_gettime};
use packs_schema::action::Action;
use packs_schema::name::PackName;
use packs_schema::store::{self, CURRENT, EndedVersion, META, PACK, PushedVersion, SHADOW, Shadow, StoredPack};

use super::activate::point_to;
use super::disk;
use super::poll::now_ms;
use super::store::Store;

/// The largest record, in bytes.
const MAX_RECORD: u64 = 1 << 20;
/// How long the end of an execution may take beyond its time-out and its grace, in milliseconds.
const SLACK_MS: u64 = 10_000;

/// The time: of the wall, which may be set, and of the boot, which may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clock {
    pub(super) wall_ms: u64,
    pub(super) boot_ms: u64,
    pub(super) boot: String,
}

impl Clock {
    pub(super) fn read() -> io::Result<Clock> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        let since = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
        let ms = since.tv_sec().saturating_mul(1000).saturating_add(since.tv_nsec() / 1_000_000);
        Ok(Clock { wall_ms: now_ms(), boot_ms: u64::try_from(ms).unwrap_or_default(), boot })
    }

    /// Why the time of a pushed version is over, if it is.
    fn ends(&self, pushed: &PushedVersion) -> Option<&'static str> {
        if pushed.boot != self.boot {
            Some("the host was restarted")
        } else if self.boot_ms >= pushed.until_boot_ms || self.wall_ms >= pushed.until_ms {
            Some("its time to live is over")
        } else {
            None
        }
    }
}

/// What stands of pushed versions in a pack's directory; the empty record when nothing does.
pub(super) fn read(home: &Path) -> io::Result<Shadow> {
    match disk::read_if_there(&home.join(SHADOW), MAX_RECORD)? {
        Some(bytes) => serde_json::from_slice(&bytes).or_else(|_| of_what_is_there(home)),
        None => Ok(Shadow::default()),
    }
}

/// In the place of a damaged record: every version that says of itself that it was pushed, all of them over.
fn of_what_is_there(home: &Path) -> io::Result<Shadow> {
    let mut shadow = Shadow::default();
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

fn write(home: &Path, shadow: &Shadow) -> io::Result<()> {
    if shadow.active.is_none() && shadow.ended.is_empty() {
        return disk::remove_if_there(&home.join(SHADOW));
    }
    let shadow = Shadow { format: store::FORMAT, ..shadow.clone() };
    disk::replace(&home.join(SHADOW), &serde_json::to_vec(&shadow)?, 0o644)
}

/// What `current` names.
fn link(home: &Path) -> io::Result<Option<String>> {
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
pub(super) fn pushed_directories(shadow: &Shadow) -> BTreeSet<&str> {
    let ended = shadow.ended.iter().map(|ended| ended.directory.as_str());
    shadow.active.iter().map(|active| active.directory.as_str()).chain(ended).collect()
}

/// The directory of the signed version: what is active, or is again when the pushed one has gone.
pub(super) fn signed(home: &Path) -> io::Result<Option<String>> {
    let shadow = read(home)?;
    let Some(current) = link(home)? else { return Ok(None) };
    let is_pushed = pushed_directories(&shadow).contains(current.as_str())
        || stored(&home.join(&current)).is_some_and(|stored| stored.dev.is_some());
    let beneath = shadow.beneath.filter(|name| home.join(name).join(META).is_dir());
    Ok(if is_pushed { beneath } else { Some(current) })
}

/// The pushed version that is active.
pub(super) fn active(home: &Path) -> io::Result<Option<PushedVersion>> {
    let current = link(home)?;
    Ok(read(home)?.active.filter(|active| Some(&active.directory) == current.as_ref()))
}

/// Before a pushed version is moved in: from here on it is known for what it is. Gives what stood before.
pub(super) fn begin(home: &Path, pushed: &PushedVersion) -> io::Result<Shadow> {
    let before = read(home)?;
    let beneath = signed(home)?;
    let mut after = Shadow { active: Some(pushed.clone()), beneath, ..before.clone() };
    if let Some(old) = active(home)?.filter(|old| old.directory != pushed.directory) {
        let ended = ended(home, &old);
        after.ended.push(ended);
    }
    write(home, &after)?;
    Ok(before)
}

/// After it was pointed to.
pub(super) fn finish(store: &Store, home: &Path, pushed: &PushedVersion) -> io::Result<()> {
    let mut shadow = read(home)?;
    shadow.ended.retain(|ended| ended.directory != pushed.directory);
    for ended in &shadow.ended {
        strip(store, &home.join(&ended.directory))?;
    }
    write(home, &shadow)
}

/// It could not be moved in or pointed to: what stood before stands again, and nothing of it stays.
pub(super) fn take_back(store: &Store, home: &Path, before: &Shadow, pushed: &PushedVersion) -> io::Result<()> {
    if !pushed_directories(before).contains(pushed.directory.as_str()) {
        bury(store, &home.join(&pushed.directory), &format!("failed-{}", pushed.directory))?;
    }
    write(home, before)
}

/// A signed version is there. True: it stays beneath a pushed one; false: it is to be pointed to.
pub(super) fn stay_beneath(home: &Path, name: &str) -> io::Result<bool> {
    let mut shadow = read(home)?;
    let active = active(home)?;
    shadow.ended.retain(|ended| ended.directory != name);
    let beneath = match active {
        // What was pushed has been signed: the push ends here, and nothing changes for those who run it.
        Some(active) if active.directory == name => false,
        other => other.is_some(),
    };
    shadow.beneath = beneath.then(|| name.to_owned());
    if !beneath {
        shadow.active = None;
    }
    write(home, &shadow)?;
    Ok(beneath)
}

/// Brings every pack to where its pushed version should be by now: ends what is over, or all when none are `allowed`, finishes
/// what was broken off, and removes files that nothing can be using.
pub(super) fn settle(store: &Store, clock: &Clock, allowed: bool) {
    for pack in store.directories() {
        let home = store.pack(&pack);
        if home.join(SHADOW).symlink_metadata().is_err() {
            continue;
        }
        if let Err(error) = settle_pack(store, &pack, clock, allowed) {
            tracing::warn!(%pack, %error, "a pushed version cannot be looked after; the next poll tries again");
        }
    }
}

fn settle_pack(store: &Store, pack: &PackName, clock: &Clock, allowed: bool) -> io::Result<()> {
    let home = store.pack(pack);
    if let Some(pushed) = read(&home)?.active {
        let why = match active(&home)? {
            None => Some("it was not activated"),
            Some(_) if !allowed => Some("[dev] push is no longer true"),
            Some(_) => clock.ends(&pushed),
        };
        if let Some(why) = why {
            end(store, pack, why)?;
        }
    }
    sweep(store, pack, clock)
}

/// Ends the pushed version of a pack: the signed one is active again, or none.
pub(super) fn end(store: &Store, pack: &PackName, why: &str) -> io::Result<()> {
    let home = store.pack(pack);
    let mut shadow = read(&home)?;
    let Some(pushed) = shadow.active.take() else { return Ok(()) };
    let ended = ended(&home, &pushed);
    let was_signed = signed(&home)?;
    match &was_signed {
        Some(name) if link(&home)?.as_ref() == Some(name) => {}
        Some(name) => point_to(&home, name)?,
        None => {
            disk::remove_if_there(&home.join(CURRENT))?;
            disk::sync_directory(&home)?;
        }
    }
    strip(store, &home.join(&pushed.directory))?;
    shadow.beneath = None;
    shadow.ended.retain(|other| other.directory != pushed.directory);
    shadow.ended.push(ended);
    write(&home, &shadow)?;
    let now = was_signed.unwrap_or_else(|| "none".to_owned());
    tracing::info!(%pack, pushed = pushed.directory, active = now, why, "pushed version ended");
    Ok(())
}

/// What is to be known of a version when its definitions have gone: until when something may run in it.
fn ended(home: &Path, pushed: &PushedVersion) -> EndedVersion {
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

/// Takes a version's definitions away at once: the launcher starts nothing without them.
fn strip(store: &Store, directory: &Path) -> io::Result<()> {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    bury(store, &directory.join(META), &format!("definitions-{name}"))
}

/// Removes files of pushed versions that are over, and of a pack of which nothing is left.
fn sweep(store: &Store, pack: &PackName, clock: &Clock) -> io::Result<()> {
    let home = store.pack(pack);
    let before = read(&home)?;
    let mut shadow = before.clone();
    for old in &before.ended {
        let directory = home.join(&old.directory);
        strip(store, &directory)?;
        if old.boot != clock.boot || clock.boot_ms >= old.in_use_until_boot_ms {
            bury(store, &directory, &format!("ended-{}", old.directory))?;
            shadow.ended.retain(|other| other != old);
        }
    }
    if shadow != before {
        write(&home, &shadow)?;
    }
    if shadow.active.is_none() && shadow.ended.is_empty() && link(&home)?.is_none() {
        for name in [store::CONFIG, store::CONFIG_SECRETS, super::prune::RECORD] {
            disk::remove_if_there(&home.join(name))?;
        }
        // Not empty: there are signed versions of before.
        let _ = fs::remove_dir(&home);
    }
    Ok(())
}

/// Removes a directory by one rename, so that nobody finds half of it.
fn bury(store: &Store, directory: &Path, name: &str) -> io::Result<()> {
    let grave: PathBuf = store.staging().join(name);
    if grave.symlink_metadata().is_ok() {
        fs::remove_dir_all(&grave)?;
    }
    match fs::rename(directory, &grave) {
        Ok(()) => fs::remove_dir_all(&grave),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
