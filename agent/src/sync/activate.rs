//! From staging to the version that runs: on the disk in full, then one rename of `current`.
//!
//! A pushed version goes over the signed one; a signed one that comes meanwhile stays beneath it (see [`shadow`]).

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
use super::{disk, pushed, shadow, withdrawn};

/// The version that runs from now on.
#[derive(Debug)]
pub(super) struct Activated {
    pub(super) version: PackVersion,
    pub(super) directory: PathBuf,
}

/// Makes a pack that was checked, and has what it needs, the active one, or the one beneath a pushed one.
pub(super) fn activate(store: &Store, equipped: Equipped) -> Result<Activated, PackFailure> {
    let Equipped { chosen, directory } = equipped;
    let pack = store.pack(&chosen.pack);
    let name = store::version_directory(&chosen.version, &chosen.digest);
    let fail = PackFailure::file(Step::Activate, "activate", pack.join(&name));
    let point = || if shadow::stay_beneath(&pack, &name)? { Ok(()) } else { point_to(&pack, &name) };
    move_in(store, &directory, &pack, &name).and_then(|()| point()).map_err(fail)?;
    Ok(Activated { version: chosen.version, directory: pack.join(name) })
}

/// Has no signed version of `pack` be active any more. Its files stay for the executions that run in it; a pushed version over
/// it stays for its time.
pub(super) fn withdraw(store: &Store, pack: &PackName) -> Result<(), PackFailure> {
    let home = store.pack(pack);
    let gone = || {
        if !shadow::nothing_beneath(&home)? {
            disk::remove_if_there(&home.join(CURRENT))?;
            disk::sync_directory(&home)?;
        }
        Ok(())
    };
    gone().map_err(PackFailure::file(Step::Activate, "withdraw", &home))?;
    tracing::warn!(%pack, "the active version was taken back, and the channel has no other for this instance: none is active");
    Ok(())
}

/// Puts a pack that was pushed, was checked and has what it needs over the signed one.
pub(super) fn push_over(store: &Store, equipped: Equipped, pushed: &PushedVersion) -> Result<Activated, PackFailure> {
    let Equipped { chosen, directory } = equipped;
    let pack = store.pack(&chosen.pack);
    let name = &pushed.directory;
    let fail = |e| PackFailure::file(Step::Activate, "activate", pack.join(name))(e);
    disk::make_directory(&pack, 0o755).map_err(fail)?;
    let before = shadow::begin(&pack, pushed).map_err(fail)?;
    let done = move_in(store, &directory, &pack, name).and_then(|()| point_to(&pack, name));
    if let Err(error) = done {
        shadow::take_back(store, &pack, &before, pushed).map_err(fail)?;
        return Err(fail(error));
    }
    shadow::finish(store, &pack, pushed).map_err(fail)?;
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

/// True if the version's files are there already, and perhaps used: it was moved in before and then not pointed to, is an
/// earlier version that comes back, or a pushed one that is pushed again or was signed.
fn is_same(pack: &Path, name: &str, staged: &Path) -> bool {
    // Of a version that was withdrawn they are set aside.
    let read = |directory: &Path, name| {
        fs::read(directory.join(META).join(name)).or_else(|_| fs::read(directory.join(WITHDRAWN).join(name))).ok()
    };
    let record = |directory: &Path| -> Option<StoredPack> { serde_json::from_slice(&read(directory, PACK)?).ok() };
    let manifest = |directory: &Path| read(directory, MANIFEST);
    let target = pack.join(name);
    let Some(new) = record(staged) else { return false };
    match record(&target) {
        // The name has twelve digits of it only.
        Some(old) => old.digest == new.digest && manifest(&target) == manifest(staged),
        None => pushed::read(pack)
            .is_ok_and(|shadow| shadow.ended.iter().any(|old| old.directory == name && old.digest == new.digest)),
    }
}

/// Takes over the records and the configuration of the staged version, for files that are the same, and removes the rest of
/// it. Its environment may be another by now, when the interpreter is.
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
