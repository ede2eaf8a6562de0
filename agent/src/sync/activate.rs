//! Activation: the staged version is made durable, then one rename of `current` activates it.
//!
//! A pushed version covers the signed one; a signed version that arrives meanwhile becomes active when the pushed one has ended
//! (see [`push_overlay`]).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use packs_schema::agent::store::{
    self, CONFIG, CONFIG_SECRETS, CURRENT, MANIFEST, META, PACK, PushedVersion, StoredPack, VENV, WITHDRAWN,
};
use packs_schema::base::name::{PackName, PackVersion};

use super::error::{PackFailure, Step};
use super::store::{Store, point_to};
use super::venv::Equipped;
use super::{disk, push_overlay, pushed, withdrawn};

/// Version that was activated.
#[derive(Debug)]
pub(super) struct Activated {
    pub(super) version: PackVersion,
    pub(super) directory: PathBuf,
}

/// Activates a pack that was checked and has its environment; while a pushed version is active, it becomes the covered one.
pub(super) fn activate(store: &Store, equipped: Equipped) -> Result<Activated, PackFailure> {
    let Equipped { chosen, directory } = equipped;
    let pack = store.pack(&chosen.pack);
    let name = store::version_directory(&chosen.version, &chosen.digest);
    let fail = PackFailure::file(Step::Activate, "activate", pack.join(&name));
    let point = || if push_overlay::cover_signed(&pack, &name)? { Ok(()) } else { point_to(&pack, &name) };
    move_in(store, &directory, &pack, &name).and_then(|()| point()).map_err(fail)?;
    Ok(Activated { version: chosen.version, directory: pack.join(name) })
}

/// Deactivates the signed version of `pack`. Its files remain for the executions that run in it; a pushed version that covers it
/// remains until it ends.
pub(super) fn withdraw(store: &Store, pack: &PackName) -> Result<(), PackFailure> {
    let home = store.pack(pack);
    let gone = || {
        if !push_overlay::clear_signed(&home)? {
            disk::remove_if_there(&home.join(CURRENT))?;
            disk::sync_directory(&home)?;
        }
        Ok(())
    };
    gone().map_err(PackFailure::file(Step::Activate, "withdraw", &home))?;
    tracing::warn!(%pack, "the active version was withdrawn, and the channel has no other for this instance: none is active");
    Ok(())
}

/// Activates a pushed pack that was checked and has its environment; it covers the signed version.
pub(super) fn push_over(store: &Store, equipped: Equipped, pushed: &PushedVersion) -> Result<Activated, PackFailure> {
    let Equipped { chosen, directory } = equipped;
    let pack = store.pack(&chosen.pack);
    let name = &pushed.directory;
    let fail = |e| PackFailure::file(Step::Activate, "activate", pack.join(name))(e);
    disk::make_directory(&pack, 0o755).map_err(fail)?;
    let before = push_overlay::begin(&pack, pushed).map_err(fail)?;
    let done = move_in(store, &directory, &pack, name).and_then(|()| point_to(&pack, name));
    if let Err(error) = done {
        push_overlay::roll_back(store, &pack, &before, pushed).map_err(fail)?;
        return Err(fail(error));
    }
    push_overlay::finish(store, &pack, pushed).map_err(fail)?;
    Ok(Activated { version: chosen.version, directory: pack.join(name) })
}

fn move_in(store: &Store, staged: &Path, pack: &Path, name: &str) -> io::Result<()> {
    disk::make_directory(pack, 0o755)?;
    disk::sync_tree(staged)?;
    let target = pack.join(name);
    if target.symlink_metadata().is_ok() {
        if is_same(pack, name, staged) {
            return take_records(staged, &target);
        }
        fs::rename(&target, store.staging().join(format!("replaced-{name}")))?;
    }
    fs::rename(staged, &target)?;
    disk::sync_directory(pack)
}

/// True if the version's files exist already, and may be in use: the version was moved in and not activated, is an earlier
/// version that is activated again, or a pushed one that is pushed again or has been signed.
fn is_same(pack: &Path, name: &str, staged: &Path) -> bool {
    // Definitions of a withdrawn version were set aside.
    let read = |directory: &Path, name| {
        fs::read(directory.join(META).join(name)).or_else(|_| fs::read(directory.join(WITHDRAWN).join(name))).ok()
    };
    let record = |directory: &Path| -> Option<StoredPack> { serde_json::from_slice(&read(directory, PACK)?).ok() };
    let manifest = |directory: &Path| read(directory, MANIFEST);
    let target = pack.join(name);
    let Some(new) = record(staged) else { return false };
    match record(&target) {
        // The name has only twelve digits of the digest.
        Some(old) => old.digest == new.digest && manifest(&target) == manifest(staged),
        None => pushed::read(pack).is_ok_and(|push_overlay| {
            push_overlay.ended.iter().any(|old| old.directory == name && old.digest == new.digest)
        }),
    }
}

/// Moves the records and the configuration of the staged version to the existing files, which are the same, and removes the
/// rest of it. Its environment may differ if the interpreter has changed.
fn take_records(staged: &Path, target: &Path) -> io::Result<()> {
    let (from, to) = (staged.join(META), target.join(META));
    if to.symlink_metadata().is_ok() {
        for record in [VENV, CONFIG, CONFIG_SECRETS, PACK] {
            if from.join(record).symlink_metadata().is_ok() {
                fs::rename(from.join(record), to.join(record))?;
            } else if record == CONFIG_SECRETS {
                disk::remove_if_there(&to.join(record))?;
            }
        }
        disk::sync_directory(&to)?;
    } else {
        fs::rename(from, &to)?;
        withdrawn::discard(target)?;
        disk::sync_directory(target)?;
    }
    fs::remove_dir_all(staged)
}
