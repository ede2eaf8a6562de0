//! Pushed versions in the store: over the signed one while their time lasts, and then gone.
//!
//! ```text
//!                   over                             end: its time, a signed version of the same archive,
//!  current ─▶ signed ──▶ current ─▶ pushed                another push, unpush, [dev] push = false, a reboot
//!                        beneath ─▶ signed ──end──▶ current ─▶ signed; of the pushed one the files, until no
//!                                                   execution can run in it, and no definitions: nothing starts
//! ```
//!
//! It goes by the record in [`pushed`](super::pushed), also when this process ends between any two steps: [`settle`], at the start
//! of each poll, goes on from there.

use std::fs;
use std::io;
use std::path::Path;

use packs_schema::agent::store::{self, CURRENT, META, PUSH_OVERLAY, PushOverlay, PushedVersion};
use packs_schema::base::name::PackName;

use super::clock::Clock;
use super::pushed::{active, ended, link, pushed_directories, read, signed, write};
use super::store::{Store, point_to};
use super::{disk, prune};

/// Before a pushed version is moved in: from here on it is known for what it is. Gives what stood before.
pub(super) fn begin(home: &Path, pushed: &PushedVersion) -> io::Result<PushOverlay> {
    let before = read(home)?;
    let beneath = signed(home)?;
    let mut after = PushOverlay { active: Some(pushed.clone()), signed: beneath, ..before.clone() };
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
pub(super) fn take_back(store: &Store, home: &Path, before: &PushOverlay, pushed: &PushedVersion) -> io::Result<()> {
    if !pushed_directories(before).contains(pushed.directory.as_str()) {
        disk::remove_atomically(&home.join(&pushed.directory), &store.staging())?;
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
    shadow.signed = beneath.then(|| name.to_owned());
    if !beneath {
        shadow.active = None;
    }
    write(home, &shadow)?;
    Ok(beneath)
}

/// No signed version is there any more. True: a pushed one stays, with nothing beneath it.
pub(super) fn nothing_beneath(home: &Path) -> io::Result<bool> {
    if active(home)?.is_none() {
        return Ok(false);
    }
    write(home, &PushOverlay { signed: None, ..read(home)? })?;
    Ok(true)
}

/// Brings every pack to where its pushed version should be by now: ends what is over, or all when none are `allowed`, finishes
/// what was broken off, and removes files that nothing can be using.
pub(super) fn settle(store: &Store, clock: &Clock, allowed: bool) {
    for pack in store.directories() {
        let home = store.pack(&pack);
        if home.join(PUSH_OVERLAY).symlink_metadata().is_err() {
            continue;
        }
        if let Err(error) = settle_pack(store, &pack, clock, allowed) {
            tracing::warn!(%pack, %error, "a pushed version cannot be looked after; the next poll tries again");
        }
    }
}

/// Why the time of a pushed version is over, if it is. The time is that of the boot, which nobody sets.
fn over(pushed: &PushedVersion, clock: &Clock) -> Option<&'static str> {
    if pushed.boot != clock.boot {
        Some("the host was restarted")
    } else if clock.boot_ms >= pushed.until_boot_ms {
        Some("its time to live is over")
    } else {
        None
    }
}

fn settle_pack(store: &Store, pack: &PackName, clock: &Clock, allowed: bool) -> io::Result<()> {
    let home = store.pack(pack);
    if let Some(pushed) = read(&home)?.active {
        let why = match active(&home)? {
            None => Some("it was not activated"),
            Some(_) if !allowed => Some("[dev] push is no longer true"),
            Some(_) => over(&pushed, clock),
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
    shadow.signed = None;
    shadow.ended.retain(|other| other.directory != pushed.directory);
    shadow.ended.push(ended);
    write(&home, &shadow)?;
    let now = was_signed.unwrap_or_else(|| "none".to_owned());
    tracing::info!(%pack, pushed = pushed.directory, active = now, why, "pushed version ended");
    Ok(())
}

/// Takes a version's definitions away at once: the launcher starts nothing without them.
fn strip(store: &Store, directory: &Path) -> io::Result<()> {
    disk::remove_atomically(&directory.join(META), &store.staging())
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
            disk::remove_atomically(&directory, &store.staging())?;
            shadow.ended.retain(|other| other != old);
        }
    }
    if shadow != before {
        write(&home, &shadow)?;
    }
    if shadow.active.is_none() && shadow.ended.is_empty() && link(&home)?.is_none() {
        for name in [store::CONFIG, store::CONFIG_SECRETS, prune::RECORD] {
            disk::remove_if_there(&home.join(name))?;
        }
        // Not empty: there are signed versions of before.
        let _ = fs::remove_dir(&home);
    }
    Ok(())
}
