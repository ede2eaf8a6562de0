//! Locations of repositories: the layout, reading, and atomic publication of a new state.
//!
//! ```text
//!  Storage ─┬─ Directory   one publisher at a time, by a lock; files are renamed into place
//!         └─ Bucket      any number at a time: objects are only created, never overwritten, and the timestamp replaces
//!                        only the one that the change was made from; the slower publisher begins again
//! ```
//!
//! Readers see the old state or the new one: what the timestamp names is there before the timestamp is. To write a change:
//! [`Storage::attempt`] around everything from [`Storage::load`] on, with [`Storage::next`] for the versions.

mod directory;
#[cfg(feature = "s3")]
mod s3;

use std::fs::File;
use std::io::Write;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tough::Repository;

use super::RepoError;
use super::content::Content;
use crate::hashing::Hashed;
use directory::Directory;

/// Maximum number of attempts at a change when other publishers are faster.
const MAX_ATTEMPTS: u32 = 40;
/// Upper bound of the random pause before the second attempt; it grows with each attempt.
const PAUSE: Duration = Duration::from_millis(50);
/// Upper bound of the random pause before any attempt.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Location of a repository.
#[derive(Debug)]
pub(super) enum Storage {
    Directory(Directory),
    #[cfg(feature = "s3")]
    Bucket(Box<s3::InBucket>),
}

/// File or object of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    /// Name in the repository: `metadata/timestamp.json`.
    pub(super) name: String,
    /// Length in bytes.
    pub(super) bytes: u64,
    /// Time of the last write, in milliseconds since 1970.
    pub(super) modified_ms: u64,
}

/// Result of reading a target's file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StoredFile {
    /// The file does not exist.
    Missing,
    /// The file is longer than the limit.
    Longer,
    /// Length and digest of the file.
    File(Hashed),
}

/// Guard that keeps other publishers out of a directory while it is held.
#[derive(Debug)]
pub(super) struct Guard {
    _lock: Option<File>,
}

impl Storage {
    /// Parses a location: a directory, a `file:///` address of one, or `s3://bucket/prefix`, after a `?` with `region`,
    /// `endpoint`, `path_style`, `profile` and `allow_http`, where they differ from what the environment says.
    pub(super) fn at(location: &Path) -> Result<Storage, RepoError> {
        #[cfg(feature = "s3")]
        if let Some(text) = location.to_str().filter(|text| text.starts_with("s3:")) {
            return Ok(Storage::Bucket(Box::new(s3::InBucket::at(text)?)));
        }
        Ok(Storage::Directory(Directory::at(location)?))
    }

    /// Returns the address of a root's file, for messages.
    pub(super) fn root(&self, version: u64) -> PathBuf {
        match self {
            Storage::Directory(directory) => directory.root(version),
            #[cfg(feature = "s3")]
            Storage::Bucket(bucket) => bucket.root(version),
        }
    }

    /// Returns the address of the repository, for messages.
    pub(super) fn name(&self) -> PathBuf {
        match self {
            Storage::Directory(directory) => directory.name(),
            #[cfg(feature = "s3")]
            Storage::Bucket(bucket) => bucket.name(),
        }
    }

    /// Reads the first root that the repository itself holds. It proves nothing: only for views that warn that they verify nothing.
    pub(super) async fn first_root(&self) -> Result<Vec<u8>, RepoError> {
        match self {
            Storage::Directory(directory) => directory.first_root(),
            #[cfg(feature = "s3")]
            Storage::Bucket(bucket) => bucket.first_root().await,
        }
    }

    /// True for a directory, whose files are cheap to read.
    pub(super) fn is_directory(&self) -> bool {
        matches!(self, Storage::Directory(_))
    }

    /// Reads the file of a target, at most `max` bytes of it, and computes its digest without keeping it.
    pub(super) fn digest_of_target(&self, name: &str, digest: &str, max: u64) -> Result<StoredFile, RepoError> {
        self.copy_target(name, digest, max, &mut std::io::sink())
    }

    /// Copies the file of a target, at most `max` bytes of it, to `out`, piece by piece, and computes its digest. Nothing is
    /// verified.
    pub(super) fn copy_target(
        &self,
        name: &str,
        digest: &str,
        max: u64,
        out: &mut (impl Write + Send),
    ) -> Result<StoredFile, RepoError> {
        match self {
            Storage::Directory(directory) => directory.copy_target(name, digest, max, out),
            #[cfg(feature = "s3")]
            Storage::Bucket(bucket) => bucket.copy_target(name, digest, max, out),
        }
    }

    /// Returns an error if the location is not empty.
    pub(super) fn check_vacant(&self) -> Result<(), RepoError> {
        match self {
            Storage::Directory(directory) => directory.check_vacant(),
            #[cfg(feature = "s3")]
            Storage::Bucket(bucket) => bucket.check_vacant(),
        }
    }

    /// Makes the directory of a new repository.
    pub(super) fn create(&self) -> Result<(), RepoError> {
        match self {
            Storage::Directory(directory) => directory.create(),
            #[cfg(feature = "s3")]
            Storage::Bucket(_) => Ok(()),
        }
    }

    /// Returns an error if there is no repository.
    pub(super) fn check_repository(&self) -> Result<(), RepoError> {
        match self {
            Storage::Directory(directory) => directory.check_repository(),
            #[cfg(feature = "s3")]
            Storage::Bucket(bucket) => bucket.check_repository(),
        }
    }

    /// Keeps other publishers out of a directory. A bucket has no lock; there the slower publisher is refused.
    pub(super) fn lock(&self) -> Result<Guard, RepoError> {
        let lock = match self {
            Storage::Directory(directory) => Some(directory.lock()?),
            #[cfg(feature = "s3")]
            Storage::Bucket(_) => None,
        };
        Ok(Guard { _lock: lock })
    }

    /// Makes a change: `work` loads, edits, signs and writes. It is called again when another publisher was faster.
    pub(super) fn attempt<T>(&self, mut work: impl FnMut() -> Result<T, RepoError>) -> Result<T, RepoError> {
        let _lock = self.lock()?;
        let mut last = None;
        for attempt in 0..MAX_ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(pause(attempt));
            }
            match work() {
                Err(error @ RepoError::Raced(_)) => last = Some(error),
                done => return done,
            }
        }
        Err(last.unwrap_or_else(|| RepoError::Raced(self.root(1))))
    }

    /// Loads and verifies the repository from a trusted root, which `trust` chooses: one that the repository itself holds proves
    /// nothing. Expired metadata are accepted, because publishing renews them. In a bucket, `newest` is the version of the last
    /// root to follow, when not all are followed; a directory is locked, so that no other publisher can have written under
    /// another root.
    #[cfg_attr(not(feature = "s3"), expect(unused_variables, reason = "for buckets"))]
    pub(super) async fn load(&self, root: &[u8], newest: Option<u64>) -> Result<Repository, RepoError> {
        match self {
            Storage::Directory(directory) => directory.load(root).await,
            #[cfg(feature = "s3")]
            Storage::Bucket(bucket) => bucket.load(root, newest).await,
        }
    }

    /// Returns the version after the loaded `version`: the next, or a later one when a publisher that was interrupted has left a
    /// file of the next.
    pub(super) fn next(&self, version: NonZeroU64) -> NonZeroU64 {
        let skipped = match self {
            Storage::Directory(_) => 0,
            #[cfg(feature = "s3")]
            Storage::Bucket(bucket) => bucket.skipped(),
        };
        version.saturating_add(1 + skipped)
    }

    /// Writes a new root. An existing one is never replaced: agents may have taken it.
    pub(super) fn write_root(&self, version: u64, bytes: &[u8]) -> Result<(), RepoError> {
        match self {
            Storage::Directory(directory) => directory.write_root(version, bytes),
            #[cfg(feature = "s3")]
            Storage::Bucket(bucket) => bucket.write_root(version, bytes),
        }
    }

    /// Writes a target's file under the name that consistent snapshots use.
    pub(super) fn write_target(&self, name: &str, content: &Content) -> Result<(), RepoError> {
        match self {
            Storage::Directory(directory) => directory.write_target(name, content),
            #[cfg(feature = "s3")]
            Storage::Bucket(bucket) => bucket.write_target(name, content),
        }
    }

    /// Lists every file or object of the repository.
    pub(super) fn list(&self) -> Result<Vec<Stored>, RepoError> {
        match self {
            Storage::Directory(directory) => directory.list(),
            #[cfg(feature = "s3")]
            Storage::Bucket(bucket) => bucket.list(),
        }
    }

    /// Reads a file or object that [`Storage::list`] named, unverified; `None` when it is gone.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, RepoError> {
        match self {
            Storage::Directory(directory) => directory.read(name),
            #[cfg(feature = "s3")]
            Storage::Bucket(bucket) => bucket.read(name),
        }
    }

    /// Removes a file or object that [`Storage::list`] named.
    pub(super) fn remove(&self, name: &str) -> Result<(), RepoError> {
        match self {
            Storage::Directory(directory) => directory.remove(name),
            #[cfg(feature = "s3")]
            Storage::Bucket(bucket) => bucket.remove(name),
        }
    }

    /// Writes new metadata in this order, and the timestamp, which activates them, last.
    pub(super) fn write_metadata(&self, files: &[(String, Vec<u8>)]) -> Result<(), RepoError> {
        let (timestamp, others): (Vec<_>, Vec<_>) = files.iter().partition(|(name, _)| name == TIMESTAMP);
        for (name, bytes) in others.into_iter().chain(timestamp) {
            match self {
                Storage::Directory(directory) => directory.write_metadata(name, bytes)?,
                #[cfg(feature = "s3")]
                Storage::Bucket(bucket) => bucket.write_metadata(name, bytes)?,
            }
        }
        Ok(())
    }
}

/// File that activates a state.
const TIMESTAMP: &str = "timestamp.json";

fn pause(attempt: u32) -> Duration {
    use std::hash::{BuildHasher as _, RandomState};
    let most = PAUSE.saturating_mul(attempt).min(LONGEST_PAUSE);
    most.saturating_mul(u32::try_from(RandomState::new().hash_one(attempt) % 1001).unwrap_or(1000)) / 1000
}
