//! The files of a publisher's trust: `root.json`, `marks.json`, and `accepted.json` while an older state is accepted.
//!
//! They are beside the keys, or in a directory of their own (`--state`) where the keys' directory cannot be written; the pin
//! beside the keys then is where that directory begins. Each file is replaced atomically and durably, under a lock.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use packs_schema::base::trust::{self, PathMetadata, Purpose, ReaderIds, TrustError};
use packs_schema::delivery::marks::{MAX_FILE, Marks};
use serde::{Deserialize, Serialize};
use tough::schema::{Root, Signed};

use super::{MAX_ROOT, RepoError};
use crate::files;
use crate::repo::PinError;

/// The largest `accepted.json`, in bytes.
const MAX_ACCEPTED: u64 = 4096;

/// Paths of a publisher's pin and marks.
#[derive(Debug, Clone)]
pub(in crate::repo) struct TrustFiles {
    directory: PathBuf,
    /// Second place to look for the pin.
    keys: PathBuf,
}

/// An older state of the repository that the publisher goes on from.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Accepted {
    /// The digest of its timestamp.
    timestamp_sha256: String,
}

impl TrustFiles {
    pub(in crate::repo) fn of(keys: &Path, state: Option<&Path>) -> TrustFiles {
        TrustFiles { directory: state.unwrap_or(keys).to_owned(), keys: keys.to_owned() }
    }

    pub(in crate::repo) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(in crate::repo) fn pin(&self) -> PathBuf {
        self.directory.join("root.json")
    }

    fn marks_file(&self) -> PathBuf {
        self.directory.join("marks.json")
    }

    fn accepted_file(&self) -> PathBuf {
        self.directory.join("accepted.json")
    }

    /// The pinned root, of a newer version where two are pinned; `None` when there is none.
    pub(in crate::repo) fn root(&self) -> Result<Option<Vec<u8>>, RepoError> {
        let read = |path: PathBuf| if path.symlink_metadata().is_ok() { read_root(&path).map(Some) } else { Ok(None) };
        let here = read(self.pin())?;
        if self.directory == self.keys {
            return Ok(here);
        }
        Ok(match (here, read(self.keys.join("root.json"))?) {
            (Some(here), Some(beside)) if version(&beside) > version(&here) => Some(beside),
            (here, beside) => here.or(beside),
        })
    }

    /// The versions seen before; `None` when nothing was ever seen. A damaged file is an error, never the same as none.
    pub(in crate::repo) fn marks(&self) -> Result<Option<Marks>, RepoError> {
        let path = self.marks_file();
        let Some(bytes) = read_if_there(&path, MAX_FILE)? else { return Ok(None) };
        Marks::read(&bytes).map(Some).map_err(|problem| RepoError::Trust(PinError::BadTrustFile { path, problem }))
    }

    /// True if the state with this timestamp is older than what was seen, and accepted.
    pub(in crate::repo) fn is_accepted(&self, timestamp_sha256: &str) -> bool {
        let bytes = read_if_there(&self.accepted_file(), MAX_ACCEPTED).ok().flatten();
        let accepted = bytes.and_then(|bytes| serde_json::from_slice::<Accepted>(&bytes).ok());
        accepted.is_some_and(|accepted| accepted.timestamp_sha256 == timestamp_sha256)
    }

    /// Accepts an older state for the next change.
    pub(in crate::repo) fn accept(&self, timestamp_sha256: String) -> Result<(), RepoError> {
        let _lock = self.lock()?;
        let bytes = serde_json::to_vec(&Accepted { timestamp_sha256 }).expect("it serialises");
        replace(&self.accepted_file(), &bytes)
    }

    pub(in crate::repo) fn forget_accepted(&self) -> Result<(), RepoError> {
        let path = self.accepted_file();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RepoError::file("remove", path)(error)),
            _ => Ok(()),
        }
    }

    /// Refuses a directory in which nothing can be kept, before anything is signed.
    pub(in crate::repo) fn check_writable(&self) -> Result<(), RepoError> {
        if self.directory != self.keys {
            files::create_dir(&self.directory)?;
        }
        self.lock().map(drop)
    }

    /// Advances the pin to `root` and the marks to `marks`, unless they are further already.
    pub(in crate::repo) fn keep(&self, root: Option<&Signed<Root>>, marks: &Marks) -> Result<(), RepoError> {
        let is_newer = |root: &Signed<Root>| {
            let pinned = read_if_there(&self.pin(), MAX_ROOT)?;
            Ok::<_, RepoError>(pinned.is_none_or(|pinned| version(&pinned) < root.signed.version.get()))
        };
        let root = match root {
            Some(root) if is_newer(root)? => Some(root),
            _ => None,
        };
        if root.is_none() && self.marks()?.as_ref() == Some(marks) {
            return Ok(());
        }
        let _lock = self.lock()?;
        if let Some(root) = root
            && is_newer(root)?
        {
            replace(&self.pin(), &to_bytes(root))?;
        }
        let marks = match self.marks()? {
            None => marks.clone(),
            // Another process may have come further meanwhile.
            Some(kept) => match kept.advance(marks) {
                Ok(marks) => marks,
                Err(_) => marks.advance(&kept).unwrap_or_else(|_| kept.highest(marks)),
            },
        };
        replace(&self.marks_file(), &marks.to_bytes())
    }

    fn lock(&self) -> Result<File, RepoError> {
        let path = self.directory.join(".trust.lock");
        let failed = |source| RepoError::Trust(PinError::NoState { directory: self.directory.clone(), source });
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        file.lock().map_err(failed)?;
        Ok(file)
    }
}

/// The content of a root's file.
fn to_bytes(root: &Signed<Root>) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(root).expect("a root serialises");
    bytes.push(b'\n');
    bytes
}

/// Pins a root in a directory that has none.
pub(in crate::repo) fn pin_unless_there(directory: &Path, root: &[u8]) -> Result<(), RepoError> {
    let path = directory.join("root.json");
    if path.symlink_metadata().is_ok() { Ok(()) } else { replace(&path, root) }
}

/// Reads a file with a trusted root, which only its owner may be able to write.
pub(in crate::repo) fn read_root(path: &Path) -> Result<Vec<u8>, RepoError> {
    let bytes = read_if_there(path, MAX_ROOT)?;
    let bytes = bytes.ok_or_else(|| RepoError::file("read", path)(io::Error::from_raw_os_error(nix::libc::ENOENT)))?;
    parse_root(path, &bytes)?;
    Ok(bytes)
}

/// Parses the file of a root.
pub(in crate::repo) fn parse_root(path: &Path, bytes: &[u8]) -> Result<Signed<Root>, RepoError> {
    serde_json::from_slice(bytes).map_err(|e| {
        RepoError::Trust(PinError::BadTrustFile {
            path: path.to_owned(),
            problem: format!("it is not a TUF root: {e}"),
        })
    })
}

fn version(root: &[u8]) -> u64 {
    serde_json::from_slice::<Signed<Root>>(root).map_or(0, |root| root.signed.version.get())
}

fn read_if_there(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, RepoError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(RepoError::file("read", path)(error)),
    };
    check_trust(path)?;
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, limit + 1), &mut bytes).map_err(RepoError::file("read", path))?;
    if bytes.len() as u64 > limit {
        let problem = format!("it is larger than {limit} bytes");
        return Err(RepoError::Trust(PinError::BadTrustFile { path: path.to_owned(), problem }));
    }
    Ok(Some(bytes))
}

/// Refuses a file that others could change, itself or by a directory or link on the way to it.
fn check_trust(path: &Path) -> Result<(), RepoError> {
    let path = std::path::absolute(path).map_err(RepoError::file("find", path))?;
    let (user, group) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let reader = ReaderIds { user, group, groups: Vec::new(), separated: false };
    match trust::check(&path, Purpose::Anchor, &reader, path_metadata) {
        Err(TrustError::Writable { path, mode }) => Err(RepoError::Trust(PinError::LaxTrustFile { path, mode })),
        Err(TrustError::Owner { path, owner }) => Err(RepoError::Trust(PinError::ForeignTrustFile { path, owner })),
        Err(TrustError::Links(path)) => Err(RepoError::file("follow", path)(io::Error::other("too many links"))),
        // A descriptor of this process (`--root <(…)`) has no path to examine.
        Err(TrustError::Metadata(..) | TrustError::Secret { .. }) | Ok(()) => Ok(()),
    }
}

fn path_metadata(path: &Path) -> io::Result<PathMetadata> {
    let meta = path.symlink_metadata()?;
    let link = if meta.is_symlink() { Some(path.read_link()?) } else { None };
    Ok(PathMetadata { owner: meta.uid(), group: meta.gid(), mode: meta.mode() & 0o7777, link })
}

/// Replaces a file atomically and durably.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), RepoError> {
    let failed = RepoError::file("write", path);
    let directory = path.parent().unwrap_or(path);
    let written = || {
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(bytes)?;
        file.as_file().set_permissions(Permissions::from_mode(0o644))?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        File::open(directory)?.sync_all()
    };
    written().map_err(failed)
}
