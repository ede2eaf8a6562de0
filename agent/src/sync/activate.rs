//! From staging to the version that runs: on the disk in full, then one rename of `current`.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use packs_schema::name::PackVersion;
use packs_schema::store::{self, CURRENT, MANIFEST, META};

use super::check::Checked;
use super::disk;
use super::error::{PackFailure, Step};
use super::store::{Store, parse_version_directory};

/// How many versions before the active one are kept.
const KEEP: usize = 2;

/// The version that runs from now on.
#[derive(Debug)]
pub(super) struct Activated {
    pub(super) version: PackVersion,
    pub(super) directory: PathBuf,
}

/// Makes a checked pack the active one.
pub(super) fn activate(store: &Store, checked: Checked) -> Result<Activated, PackFailure> {
    let Checked { chosen, directory } = checked;
    let pack = store.pack(&chosen.pack);
    let name = store::version_directory(&chosen.version, &chosen.digest);
    let fail = PackFailure::file(Step::Activate, "activate", pack.join(&name));
    move_in(store, &directory, &pack, &name).and_then(|()| point_to(&pack, &name)).map_err(fail)?;
    if let Err(error) = remove_old(store, &pack, &name) {
        // The new version is active: what could not be removed costs space, nothing else.
        tracing::warn!(pack = %chosen.pack, %error, "cannot remove old versions");
    }
    Ok(Activated { version: chosen.version, directory: pack.join(name) })
}

fn move_in(store: &Store, staged: &Path, pack: &Path, name: &str) -> io::Result<()> {
    disk::make_directory(pack, 0o755)?;
    disk::sync_tree(staged)?;
    let target = pack.join(name);
    if target.symlink_metadata().is_ok() {
        let manifest = |directory: &Path| fs::read(directory.join(META).join(MANIFEST));
        if manifest(&target).ok() == manifest(staged).ok() {
            // It was moved in before and then not pointed to, or is an earlier version that comes back.
            return fs::remove_dir_all(staged);
        }
        fs::rename(&target, store.staging().join(format!("replaced-{name}")))?;
    }
    fs::rename(staged, &target)?;
    disk::sync_directory(pack)
}

/// Replaces the link at once: a reader sees the old target or the new one.
fn point_to(pack: &Path, name: &str) -> io::Result<()> {
    let temporary = pack.join(".current.new");
    disk::remove_if_there(&temporary)?;
    symlink(name, &temporary)?;
    fs::rename(&temporary, pack.join(CURRENT))?;
    disk::sync_directory(pack)
}

/// Removes all but the active version and the highest of the others. They leave by one rename each, so that no
/// reader finds half a version.
fn remove_old(store: &Store, pack: &Path, active: &str) -> io::Result<()> {
    let mut others: Vec<(PackVersion, String)> = Vec::new();
    for entry in fs::read_dir(pack)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string()
            && name != active
            && entry.file_type()?.is_dir()
            && let Some(version) = parse_version_directory(&name)
        {
            others.push((version, name));
        }
    }
    others.sort();
    let surplus = others.len().saturating_sub(KEEP);
    for (_, name) in others.iter().take(surplus) {
        let grave = store.staging().join(format!("removed-{name}"));
        fs::rename(pack.join(name), &grave)?;
        fs::remove_dir_all(&grave)?;
    }
    Ok(())
}
