//! From staging to the version that runs: on the disk in full, then one rename of `current`.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use packs_schema::name::PackVersion;
use packs_schema::store::{self, CURRENT, MANIFEST, META, VENV};

use super::disk;
use super::error::{PackFailure, Step};
use super::store::Store;
use super::venv::Equipped;

/// The largest reference to a virtual environment, in bytes.
const MAX_LINK: u64 = 4 << 10;

/// The version that runs from now on.
#[derive(Debug)]
pub(super) struct Activated {
    pub(super) version: PackVersion,
    pub(super) directory: PathBuf,
}

/// Makes a pack that was checked, and has what it needs, the active one.
pub(super) fn activate(store: &Store, equipped: Equipped) -> Result<Activated, PackFailure> {
    let Equipped { chosen, directory } = equipped;
    let pack = store.pack(&chosen.pack);
    let name = store::version_directory(&chosen.version, &chosen.digest);
    let fail = PackFailure::file(Step::Activate, "activate", pack.join(&name));
    move_in(store, &directory, &pack, &name).and_then(|()| point_to(&pack, &name)).map_err(fail)?;
    Ok(Activated { version: chosen.version, directory: pack.join(name) })
}

fn move_in(store: &Store, staged: &Path, pack: &Path, name: &str) -> io::Result<()> {
    disk::make_directory(pack, 0o755)?;
    disk::sync_tree(staged)?;
    let target = pack.join(name);
    if target.symlink_metadata().is_ok() {
        let manifest = |directory: &Path| fs::read(directory.join(META).join(MANIFEST));
        if manifest(&target).ok() == manifest(staged).ok() {
            // It was moved in before and then not pointed to, or is an earlier version that comes back. Its environment may
            // be another by now, when the interpreter is.
            let link = Path::new(META).join(VENV);
            if let Some(venv) = disk::read_if_there(&staged.join(&link), MAX_LINK)? {
                disk::replace(&target.join(&link), &venv, 0o644)?;
            }
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
