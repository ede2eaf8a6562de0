//! A repository in a directory: one publisher at a time, by a lock.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use nix::fcntl::OFlag;
use tough::{
    ExpirationEnforcement, FilesystemTransport, Repository, RepositoryLoader, Transport, TransportError,
    TransportErrorKind, TransportStream,
};
use url::Url;

use super::super::RepoError;
use super::super::content::Content;
use super::{Stored, StoredFile};
use crate::hashing::Hashing;

/// Number of attempts to take a lock that another process holds, and the pause between.
const LOCK_ATTEMPTS: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The largest file that is read whole, in bytes: parts of the journal, roots, channels.
const MAX_READ: u64 = 64 << 20;

/// A repository's directory.
#[derive(Debug)]
pub(in crate::repo) struct Directory {
    directory: PathBuf,
}

impl Directory {
    /// `location` is a directory or a `file:///` address of one.
    pub(super) fn at(location: &Path) -> Result<Directory, RepoError> {
        let text = location.to_string_lossy();
        let wrong = || RepoError::Location(text.chars().take(200).collect());
        let directory = match text.split_once("://") {
            None => location.to_owned(),
            Some(("file", _)) => Url::parse(&text).ok().and_then(|url| url.to_file_path().ok()).ok_or_else(wrong)?,
            Some(_) => return Err(wrong()),
        };
        Ok(Directory { directory: std::path::absolute(&directory).map_err(RepoError::file("find", &directory))? })
    }

    fn metadata(&self) -> PathBuf {
        self.directory.join("metadata")
    }

    fn targets(&self) -> PathBuf {
        self.directory.join("targets")
    }

    pub(super) fn root(&self, version: u64) -> PathBuf {
        self.metadata().join(format!("{version}.root.json"))
    }

    pub(super) fn name(&self) -> PathBuf {
        self.directory.clone()
    }

    pub(super) fn first_root(&self) -> Result<Vec<u8>, RepoError> {
        self.check_repository()?;
        let path = self.root(1);
        read_regular(&path).map_err(RepoError::file("read", &path))
    }

    /// Keeps other publishers out for as long as it is held.
    pub(super) fn lock(&self) -> Result<File, RepoError> {
        let path = self.directory.join(".lock");
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(RepoError::file("open", &path))?;
        // A process that this one is just making (git, for one) holds its descriptors, and with them a lock, for a moment.
        for _ in 0..LOCK_ATTEMPTS {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(source)) => return Err(RepoError::File { what: "lock", path, source }),
            }
        }
        Err(RepoError::Busy(self.directory.clone()))
    }

    /// Loads and verifies the repository from the trusted root. Expired metadata are accepted, because publishing renews them.
    pub(super) async fn load(&self, root: &[u8]) -> Result<Repository, RepoError> {
        self.check_repository()?;
        let url = |path: PathBuf| {
            Url::from_directory_path(&path).map_err(|()| RepoError::Location(path.to_string_lossy().into_owned()))
        };
        RepositoryLoader::new(&root, url(self.metadata())?, url(self.targets())?)
            .transport(RegularFiles)
            .expiration_enforcement(ExpirationEnforcement::Unsafe)
            .load()
            .await
            .map_err(RepoError::tuf("verify the repository's metadata"))
    }

    /// Puts a target's file where a client of consistent snapshots looks for it.
    pub(super) fn write_target(&self, name: &str, content: &Content) -> Result<(), RepoError> {
        let path = self.targets().join(format!("{}.{name}", content.sha256()));
        let parent = path.parent().unwrap_or(&path).to_owned();
        make_directories(&self.targets(), &parent)?;
        self.put(&path, content.reader())
    }

    pub(super) fn copy_target(
        &self,
        name: &str,
        digest: &str,
        max: u64,
        out: impl Write,
    ) -> Result<StoredFile, RepoError> {
        let path = self.targets().join(format!("{digest}.{name}"));
        let file = match open_regular(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(StoredFile::Missing),
            Err(source) => return Err(RepoError::File { what: "read", path, source }),
        };
        let mut hashing = Hashing::new(out);
        let read = std::io::copy(&mut file.take(max.saturating_add(1)), &mut hashing);
        let bytes = read.map_err(RepoError::file("read", &path))?;
        Ok(if bytes > max { StoredFile::Longer } else { StoredFile::File(hashing.finish().1) })
    }

    pub(super) fn check_vacant(&self) -> Result<(), RepoError> {
        let occupied = fs::read_dir(&self.directory).is_ok_and(|mut entries| entries.next().is_some());
        if occupied { Err(RepoError::Exists(self.directory.clone())) } else { Ok(()) }
    }

    pub(super) fn create(&self) -> Result<(), RepoError> {
        make_directories(&self.directory, &self.metadata())?;
        make_directories(&self.directory, &self.targets())
    }

    pub(super) fn check_repository(&self) -> Result<(), RepoError> {
        if self.root(1).exists() { Ok(()) } else { Err(RepoError::NoRepository(self.directory.clone())) }
    }

    pub(super) fn write_root(&self, version: u64, bytes: &[u8]) -> Result<(), RepoError> {
        let path = self.root(version);
        if path.exists() {
            return Err(RepoError::Exists(path));
        }
        self.put(&path, bytes)
    }

    pub(super) fn write_metadata(&self, name: &str, bytes: &[u8]) -> Result<(), RepoError> {
        self.put(&self.metadata().join(name), bytes)
    }

    pub(super) fn list(&self) -> Result<Vec<Stored>, RepoError> {
        let mut found = Vec::new();
        let mut left = vec![self.metadata(), self.targets()];
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(&directory).map_err(RepoError::file("read", &directory))? {
                let path = entry.map_err(RepoError::file("read", &directory))?.path();
                let meta = path.symlink_metadata().map_err(RepoError::file("read", &path))?;
                if meta.is_dir() {
                    left.push(path);
                } else if let (true, Some(name)) = (meta.is_file(), self.name_of(&path)) {
                    let modified = meta.modified().map_err(RepoError::file("read", &path))?;
                    let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
                    let modified_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
                    found.push(Stored { name, bytes: meta.len(), modified_ms });
                }
            }
        }
        Ok(found)
    }

    fn name_of(&self, path: &Path) -> Option<String> {
        Some(path.strip_prefix(&self.directory).ok()?.to_str()?.to_owned())
    }

    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, RepoError> {
        let path = self.directory.join(name);
        match read_regular(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(RepoError::File { what: "read", path, source }),
        }
    }

    pub(super) fn remove(&self, name: &str) -> Result<(), RepoError> {
        let path = self.directory.join(name);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(RepoError::File { what: "remove", path, source });
            }
            _ => {}
        }
        // Each target has directories of its own. One that is not empty stays.
        let above = path.ancestors().skip(1).take_while(|above| *above != self.targets() && *above != self.metadata());
        for directory in above.take_while(|above| above.starts_with(&self.directory)) {
            if fs::remove_dir(directory).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Writes a file atomically and durably.
    fn put(&self, path: &Path, mut content: impl Read) -> Result<(), RepoError> {
        let parent = path.parent().unwrap_or(&self.directory).to_owned();
        let mut file = tempfile::NamedTempFile::new_in(&parent).map_err(RepoError::file("write", &parent))?;
        std::io::copy(&mut content, &mut file)
            .and_then(|_| file.as_file().set_permissions(Permissions::from_mode(0o644)))
            .and_then(|()| file.as_file().sync_all())
            .map_err(RepoError::file("write", path))?;
        file.persist(path).map_err(|e| RepoError::File { what: "write", path: path.to_owned(), source: e.error })?;
        sync_directory(&parent)
    }
}

/// Makes `directory` and what is missing between it and `top`, readable for all.
fn make_directories(top: &Path, directory: &Path) -> Result<(), RepoError> {
    fs::create_dir_all(directory).map_err(RepoError::file("create", directory))?;
    for made in directory.ancestors().take_while(|path| path.starts_with(top)) {
        fs::set_permissions(made, Permissions::from_mode(0o755)).map_err(RepoError::file("open", made))?;
    }
    Ok(())
}

fn sync_directory(path: &Path) -> Result<(), RepoError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(RepoError::file("sync", path))
}

/// Opens a regular file. To open a FIFO would wait for whoever owns the storage.
fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

/// Reads a regular file of bounded size.
fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.take(MAX_READ + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_READ {
        return Err(io::Error::other(format!("it is larger than {MAX_READ} bytes")));
    }
    Ok(bytes)
}

/// Reads the regular files of a directory, and nothing else.
#[derive(Debug, Clone, Copy)]
struct RegularFiles;

#[async_trait]
impl Transport for RegularFiles {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let path = url.to_file_path().unwrap_or_default();
        match open_regular(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(TransportError::new_with_cause(TransportErrorKind::Other, url.as_str(), error))
            }
            _ => FilesystemTransport.fetch(url).await,
        }
    }
}
