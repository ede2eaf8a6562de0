//! Where a repository is: where things are in it, how it is read, and how a new state appears at once.
//!
//! ```text
//!  Place ─┬─ Directory   one publisher at a time, by a lock; files are renamed into place
//!         └─ Bucket      any number at a time: each object is written only where nobody else was first, and the timestamp
//!                        only over the one that the change was made from; who comes second begins again
//! ```
//!
//! Readers see the old state or the new one: what the timestamp names is there before the timestamp is. To write a change:
//! [`Place::attempt`] around everything from [`Place::load`] on, with [`Place::next`] for the versions.

mod directory;
#[cfg(feature = "s3")]
mod s3;

use std::fs::File;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tough::Repository;

use super::RepoError;
use super::content::Content;
use crate::hashing::Hashed;
use directory::Directory;

/// How often a change is begun again because somebody else was first.
const MAX_ATTEMPTS: u32 = 40;
/// The pause before it is begun again is drawn below this, longer with each attempt …
const PAUSE: Duration = Duration::from_millis(50);
/// … up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Where a repository is.
#[derive(Debug)]
pub(super) enum Place {
    Directory(Directory),
    #[cfg(feature = "s3")]
    Bucket(Box<s3::InBucket>),
}

/// A file or object of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    /// Its name in the repository: `metadata/timestamp.json`.
    pub(super) name: String,
    /// Its length.
    pub(super) bytes: u64,
    /// When it was written, in milliseconds since 1970.
    pub(super) modified_ms: u64,
}

/// What was read of a target's file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is none.
    Missing,
    /// It has more bytes than were to be read.
    Longer,
    /// This.
    File(Hashed),
}

/// Keeps other publishers out for as long as it is held, where that can be.
#[derive(Debug)]
pub(super) struct Guard {
    _lock: Option<File>,
}

impl Place {
    /// `location` is a directory, a `file:///` address of one, or `s3://bucket/prefix`, after a `?` with `region`,
    /// `endpoint`, `path_style`, `profile` and `allow_http`, where they differ from what the environment says.
    pub(super) fn at(location: &Path) -> Result<Place, RepoError> {
        #[cfg(feature = "s3")]
        if let Some(text) = location.to_str().filter(|text| text.starts_with("s3:")) {
            return Ok(Place::Bucket(Box::new(s3::InBucket::at(text)?)));
        }
        Ok(Place::Directory(Directory::at(location)?))
    }

    /// The address of a root's file, to be shown.
    pub(super) fn root(&self, version: u64) -> PathBuf {
        match self {
            Place::Directory(directory) => directory.root(version),
            #[cfg(feature = "s3")]
            Place::Bucket(bucket) => bucket.root(version),
        }
    }

    /// The address of the repository, to be shown.
    pub(super) fn name(&self) -> PathBuf {
        match self {
            Place::Directory(directory) => directory.name(),
            #[cfg(feature = "s3")]
            Place::Bucket(bucket) => bucket.name(),
        }
    }

    /// The first root that the repository itself holds. Nobody vouches for it: only for a look that says that it verifies nothing.
    pub(super) async fn first_root(&self) -> Result<Vec<u8>, RepoError> {
        match self {
            Place::Directory(directory) => directory.first_root(),
            #[cfg(feature = "s3")]
            Place::Bucket(bucket) => bucket.first_root().await,
        }
    }

    /// True for a directory, whose files are cheap to read.
    pub(super) fn is_directory(&self) -> bool {
        matches!(self, Place::Directory(_))
    }

    /// Reads the file of a target, at most `max` bytes of it, and computes its digest without keeping it.
    pub(super) fn digest_of_target(&self, name: &str, digest: &str, max: u64) -> Result<Found, RepoError> {
        match self {
            Place::Directory(directory) => directory.digest_of_target(name, digest, max),
            #[cfg(feature = "s3")]
            Place::Bucket(bucket) => bucket.digest_of_target(name, digest, max),
        }
    }

    /// Refuses a place that holds something.
    pub(super) fn check_vacant(&self) -> Result<(), RepoError> {
        match self {
            Place::Directory(directory) => directory.check_vacant(),
            #[cfg(feature = "s3")]
            Place::Bucket(bucket) => bucket.check_vacant(),
        }
    }

    /// Makes what a repository stands in.
    pub(super) fn create(&self) -> Result<(), RepoError> {
        match self {
            Place::Directory(directory) => directory.create(),
            #[cfg(feature = "s3")]
            Place::Bucket(_) => Ok(()),
        }
    }

    /// Refuses a place without a repository.
    pub(super) fn check_repository(&self) -> Result<(), RepoError> {
        match self {
            Place::Directory(directory) => directory.check_repository(),
            #[cfg(feature = "s3")]
            Place::Bucket(bucket) => bucket.check_repository(),
        }
    }

    /// Keeps other publishers out of a directory. In a bucket nobody can be kept out; who is second is refused.
    pub(super) fn lock(&self) -> Result<Guard, RepoError> {
        let lock = match self {
            Place::Directory(directory) => Some(directory.lock()?),
            #[cfg(feature = "s3")]
            Place::Bucket(_) => None,
        };
        Ok(Guard { _lock: lock })
    }

    /// Makes a change: `work` loads, edits, signs and writes. It is called again when somebody else was first.
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

    /// Verifies what stands in the repository, from the trusted root on. Which root that is, is for `trust` to say: one that the
    /// repository itself holds proves nothing. Expired metadata are read: to publish renews them.
    /// In a bucket `newest` is the version of the last root that is looked at, when not all are; a directory is locked, so that
    /// nobody can have written under another one.
    #[cfg_attr(not(feature = "s3"), expect(unused_variables, reason = "for buckets"))]
    pub(super) async fn load(&self, root: &[u8], newest: Option<u64>) -> Result<Repository, RepoError> {
        match self {
            Place::Directory(directory) => directory.load(root).await,
            #[cfg(feature = "s3")]
            Place::Bucket(bucket) => bucket.load(root, newest).await,
        }
    }

    /// The version that comes after `version` of what was loaded: the next, or one further when a publisher that never came to
    /// its end has left a file of the next.
    pub(super) fn next(&self, version: NonZeroU64) -> NonZeroU64 {
        let skipped = match self {
            Place::Directory(_) => 0,
            #[cfg(feature = "s3")]
            Place::Bucket(bucket) => bucket.skipped(),
        };
        version.saturating_add(1 + skipped)
    }

    /// Writes a new root. One that is there already is never replaced: agents may have taken it.
    pub(super) fn write_root(&self, version: u64, bytes: &[u8]) -> Result<(), RepoError> {
        match self {
            Place::Directory(directory) => directory.write_root(version, bytes),
            #[cfg(feature = "s3")]
            Place::Bucket(bucket) => bucket.write_root(version, bytes),
        }
    }

    /// Puts a target's file where a client of consistent snapshots looks for it.
    pub(super) fn write_target(&self, name: &str, content: &Content) -> Result<(), RepoError> {
        match self {
            Place::Directory(directory) => directory.write_target(name, content),
            #[cfg(feature = "s3")]
            Place::Bucket(bucket) => bucket.write_target(name, content),
        }
    }

    /// Every file or object of the repository.
    pub(super) fn list(&self) -> Result<Vec<Stored>, RepoError> {
        match self {
            Place::Directory(directory) => directory.list(),
            #[cfg(feature = "s3")]
            Place::Bucket(bucket) => bucket.list(),
        }
    }

    /// The bytes of a file or object that [`Place::list`] named, unverified; `None` when it is gone.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, RepoError> {
        match self {
            Place::Directory(directory) => directory.read(name),
            #[cfg(feature = "s3")]
            Place::Bucket(bucket) => bucket.read(name),
        }
    }

    /// Removes a file or object that [`Place::list`] named.
    pub(super) fn remove(&self, name: &str) -> Result<(), RepoError> {
        match self {
            Place::Directory(directory) => directory.remove(name),
            #[cfg(feature = "s3")]
            Place::Bucket(bucket) => bucket.remove(name),
        }
    }

    /// Writes new metadata in this order, the timestamp, which makes them count, as the last.
    pub(super) fn write_metadata(&self, files: &[(String, Vec<u8>)]) -> Result<(), RepoError> {
        let (timestamp, others): (Vec<_>, Vec<_>) = files.iter().partition(|(name, _)| name == TIMESTAMP);
        for (name, bytes) in others.into_iter().chain(timestamp) {
            match self {
                Place::Directory(directory) => directory.write_metadata(name, bytes)?,
                #[cfg(feature = "s3")]
                Place::Bucket(bucket) => bucket.write_metadata(name, bytes)?,
            }
        }
        Ok(())
    }
}

/// The file that makes a state count.
const TIMESTAMP: &str = "timestamp.json";

fn pause(attempt: u32) -> Duration {
    use std::hash::{BuildHasher as _, RandomState};
    let most = PAUSE.saturating_mul(attempt).min(LONGEST_PAUSE);
    most.saturating_mul(u32::try_from(RandomState::new().hash_one(attempt) % 1001).unwrap_or(1000)) / 1000
}
