//! Pushed versions in the store: each covers the signed version until it ends.
//!
//! ```text
//!                    push                             end: time to live, a signed version of the same archive,
//!  current ─▶ signed ──▶ current ─▶ pushed                 another push, unpush, [dev] push = false, a reboot
//!                        covered ─▶ signed ──end──▶ current ─▶ signed; the pushed version keeps its files until no
//!                                                   execution can run in it, and has no definitions: nothing starts
//! ```
//!
//! The record in [`pushed`](super::pushed) (`.dev.json`) is written before `current` changes, and removed after: if this process
//! ends between any two steps, no pushed version can be taken for a signed one, and [`reconcile`], at the start of each poll,
//! continues from there.
//!
//! A signed version that arrives meanwhile waits, covered, until the pushed one ends; the same archive, once signed, only loses
//! its mark. Pushed versions do not count among the two previous versions that are kept. The time to live is measured by the
//! boot clock, which cannot be set. When a pushed version ends, its definitions are removed at once, so that the launcher starts
//! nothing in it; its files are removed when the longest of its actions must have ended. Queued executions of it then end as
//! `error`.

use std::fs;
use std::io;
use std::path::Path;

use packs_schema::agent::store::{self, CURRENT, META, PUSH_OVERLAY, PushOverlay, PushedVersion};
use packs_schema::base::name::PackName;

use super::clock::Clock;
use super::pushed::{active, current, ended, pushed_directories, read, signed, write};
use super::store::{Store, point_to};
use super::{disk, prune};

/// Records a pushed version before it is moved in. Returns the previous record.
pub(super) fn begin(home: &Path, pushed: &PushedVersion) -> io::Result<PushOverlay> {
    let before = read(home)?;
    let covered = signed(home)?;
    let mut after = PushOverlay { active: Some(pushed.clone()), signed: covered, ..before.clone() };
    if let Some(old) = active(home)?.filter(|old| old.directory != pushed.directory) {
        let ended = ended(home, &old);
        after.ended.push(ended);
    }
    write(home, &after)?;
    Ok(before)
}

/// Completes a push after `current` points to the version.
pub(super) fn finish(store: &Store, home: &Path, pushed: &PushedVersion) -> io::Result<()> {
    let mut overlay = read(home)?;
    overlay.ended.retain(|ended| ended.directory != pushed.directory);
    for ended in &overlay.ended {
        remove_definitions(store, &home.join(&ended.directory))?;
    }
    write(home, &overlay)
}

/// Rolls a push back that failed: restores the previous record and removes the version.
pub(super) fn roll_back(store: &Store, home: &Path, before: &PushOverlay, pushed: &PushedVersion) -> io::Result<()> {
    if !pushed_directories(before).contains(pushed.directory.as_str()) {
        disk::remove_atomically(&home.join(&pushed.directory), &store.staging())?;
    }
    write(home, before)
}

/// Records a signed version that has arrived. Returns true if a pushed version covers it; false if it is to be activated.
pub(super) fn cover_signed(home: &Path, name: &str) -> io::Result<bool> {
    let mut overlay = read(home)?;
    let active = active(home)?;
    overlay.ended.retain(|ended| ended.directory != name);
    let covered = match active {
        // The pushed version has been signed: the push ends, and nothing else changes.
        Some(active) if active.directory == name => false,
        other => other.is_some(),
    };
    overlay.signed = covered.then(|| name.to_owned());
    if !covered {
        overlay.active = None;
    }
    write(home, &overlay)?;
    Ok(covered)
}

/// Records that there is no signed version. Returns true if a pushed version remains active, covering none.
pub(super) fn clear_signed(home: &Path) -> io::Result<bool> {
    if active(home)?.is_none() {
        return Ok(false);
    }
    write(home, &PushOverlay { signed: None, ..read(home)? })?;
    Ok(true)
}

/// Reconciles every pack with its record: ends pushed versions that have expired, or all if none are `allowed`, completes
/// interrupted changes, and removes files that no execution can be using.
pub(super) fn reconcile(store: &Store, clock: &Clock, allowed: bool) {
    for pack in store.directories() {
        let home = store.pack(&pack);
        if home.join(PUSH_OVERLAY).symlink_metadata().is_err() {
            continue;
        }
        if let Err(error) = reconcile_pack(store, &pack, clock, allowed) {
            tracing::warn!(%pack, %error, "cannot reconcile a pushed version; the next poll retries");
        }
    }
}

/// Returns the reason why a pushed version has expired, if it has. The time is that of the boot clock, which cannot be set.
fn expiry_reason(pushed: &PushedVersion, clock: &Clock) -> Option<&'static str> {
    if pushed.boot != clock.boot {
        Some("the host was restarted")
    } else if clock.boot_ms >= pushed.until_boot_ms {
        Some("its time to live has passed")
    } else {
        None
    }
}

fn reconcile_pack(store: &Store, pack: &PackName, clock: &Clock, allowed: bool) -> io::Result<()> {
    let home = store.pack(pack);
    if let Some(pushed) = read(&home)?.active {
        let why = match active(&home)? {
            None => Some("it was not activated"),
            Some(_) if !allowed => Some("[dev] push is no longer true"),
            Some(_) => expiry_reason(&pushed, clock),
        };
        if let Some(why) = why {
            end(store, pack, why)?;
        }
    }
    prune_ended(store, pack, clock)
}

/// Ends the pushed version of a pack: the signed one becomes active again, or none.
pub(super) fn end(store: &Store, pack: &PackName, why: &str) -> io::Result<()> {
    let home = store.pack(pack);
    let mut overlay = read(&home)?;
    let Some(pushed) = overlay.active.take() else { return Ok(()) };
    let ended = ended(&home, &pushed);
    let was_signed = signed(&home)?;
    match &was_signed {
        Some(name) if current(&home)?.as_ref() == Some(name) => {}
        Some(name) => point_to(&home, name)?,
        None => {
            disk::remove_if_there(&home.join(CURRENT))?;
            disk::sync_directory(&home)?;
        }
    }
    remove_definitions(store, &home.join(&pushed.directory))?;
    overlay.signed = None;
    overlay.ended.retain(|other| other.directory != pushed.directory);
    overlay.ended.push(ended);
    write(&home, &overlay)?;
    let now = was_signed.unwrap_or_else(|| "none".to_owned());
    tracing::info!(%pack, pushed = pushed.directory, active = now, why, "pushed version ended");
    Ok(())
}

/// Removes a version's definitions atomically: the launcher starts nothing without them.
fn remove_definitions(store: &Store, directory: &Path) -> io::Result<()> {
    disk::remove_atomically(&directory.join(META), &store.staging())
}

/// Removes files of ended pushed versions, and the directory of a pack without versions.
fn prune_ended(store: &Store, pack: &PackName, clock: &Clock) -> io::Result<()> {
    let home = store.pack(pack);
    let before = read(&home)?;
    let mut overlay = before.clone();
    for old in &before.ended {
        let directory = home.join(&old.directory);
        remove_definitions(store, &directory)?;
        if old.boot != clock.boot || clock.boot_ms >= old.in_use_until_boot_ms {
            disk::remove_atomically(&directory, &store.staging())?;
            overlay.ended.retain(|other| other != old);
        }
    }
    if overlay != before {
        write(&home, &overlay)?;
    }
    if overlay.active.is_none() && overlay.ended.is_empty() && current(&home)?.is_none() {
        for name in [store::CONFIG, store::CONFIG_SECRETS, prune::RECORD] {
            disk::remove_if_there(&home.join(name))?;
        }
        // Fails if the directory is not empty: there are previous signed versions.
        let _ = fs::remove_dir(&home);
    }
    Ok(())
}
