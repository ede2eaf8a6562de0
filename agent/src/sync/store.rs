//! Store of packs: its directories, its lock, and its active versions.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use packs_schema::agent::store::{self, StoredPack};
use packs_schema::base::name::{Digest, PackName, PackVersion};

use super::{SyncError, disk, pushed};

/// Maximum size of a record in the store, in bytes.
const MAX_RECORD: u64 = 1 << 20;

/// Store, locked against other writers while this exists.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    _lock: File,
}

/// Version of a pack that `current` points to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Active {
    pub(super) stored: StoredPack,
    pub(super) directory: PathBuf,
}

impl Store {
    /// Opens and locks the store, creates missing directories, and removes leftovers of an earlier sync.
    pub(super) fn open(directory: &Path) -> Result<Store, SyncError> {
        make_all(directory).map_err(SyncError::file("create", directory))?;
        let path = directory.join(".lock");
        let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = lock.map_err(SyncError::file("open", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SyncError::Busy(directory.to_owned())),
            Err(TryLockError::Error(source)) => return Err(SyncError::File { what: "lock", path, source }),
        }
        let store = Store { directory: directory.to_owned(), _lock: lock };
        for private in [store.staging(), store.tuf()] {
            disk::make_directory(&private, 0o700).map_err(SyncError::file("create", &private))?;
        }
        store.clear_staging();
        Ok(store)
    }

    /// Removes everything in staging; the next poll removes what cannot be removed now.
    pub(super) fn clear_staging(&self) {
        for entry in fs::read_dir(self.staging()).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let removed = if is_directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            if let Err(error) = removed {
                tracing::warn!(path = %path.display(), %error, "cannot clear staging");
            }
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn staging(&self) -> PathBuf {
        self.directory.join(".staging")
    }

    pub(super) fn venvs(&self) -> PathBuf {
        self.directory.join(store::VENVS)
    }

    pub(super) fn venv(&self, venv: &Digest) -> PathBuf {
        self.venvs().join(venv.as_str())
    }

    pub(super) fn tuf(&self) -> PathBuf {
        self.directory.join(".tuf")
    }

    pub(super) fn status(&self) -> PathBuf {
        self.directory.join(store::STATUS)
    }

    pub(super) fn facts(&self) -> PathBuf {
        self.directory.join(store::FACTS)
    }

    pub(super) fn pack(&self, pack: &PackName) -> PathBuf {
        self.directory.join(pack.as_str())
    }

    /// Returns the active version of `pack`, which may be a pushed one; `None` if there is none.
    pub(super) fn active(&self, pack: &PackName) -> io::Result<Option<Active>> {
        let directory = self.pack(pack);
        let link = match fs::read_link(directory.join(store::CURRENT)) {
            Ok(link) => link,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Self::at(directory.join(link)).map(Some)
    }

    /// Returns the signed version of `pack` that is active, or that becomes active when a pushed one ends.
    pub(super) fn signed(&self, pack: &PackName) -> io::Result<Option<Active>> {
        let home = self.pack(pack);
        pushed::signed(&home)?.map(|name| Self::at(home.join(name))).transpose()
    }

    fn at(directory: PathBuf) -> io::Result<Active> {
        let record = directory.join(store::META).join(store::PACK);
        let bytes = disk::read_if_there(&record, MAX_RECORD)?
            .ok_or_else(|| io::Error::other(format!("{} does not exist", record.display())))?;
        let stored = serde_json::from_slice(&bytes)?;
        Ok(Active { stored, directory })
    }

    /// Returns the packs that have a directory.
    pub(super) fn directories(&self) -> Vec<PackName> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut packs: Vec<PackName> =
            entries.filter_map(|entry| PackName::new(entry.file_name().to_str()?).ok()).collect();
        packs.sort();
        packs
    }

    /// Returns the packs that have an active version.
    pub(super) fn packs(&self) -> io::Result<Vec<PackName>> {
        let mut packs = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if let Some(pack) = entry.file_name().to_str().and_then(|name| PackName::new(name).ok())
                && entry.path().join(store::CURRENT).symlink_metadata().is_ok()
            {
                packs.push(pack);
            }
        }
        packs.sort();
        Ok(packs)
    }
}

/// Parses the version in the name of a version's directory, such as `1.4.2-0123456789ab`.
pub(super) fn parse_version_directory(name: &str) -> Option<PackVersion> {
    store::version_of(name)
}

/// Replaces the link to the active version atomically: a reader sees the old target or the new one.
pub(super) fn point_to(pack: &Path, name: &str) -> io::Result<()> {
    let temporary = pack.join(".current.new");
    disk::remove_if_there(&temporary)?;
    symlink(name, &temporary)?;
    fs::rename(&temporary, pack.join(store::CURRENT))?;
    disk::sync_directory(pack)
}

/// Creates the store and missing directories above it; existing ones keep their permissions.
fn make_all(directory: &Path) -> io::Result<()> {
    if let Some(parent) = directory.parent()
        && !parent.exists()
    {
        make_all(parent)?;
    }
    disk::make_directory(directory, 0o755)
}
