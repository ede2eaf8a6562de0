//! Errors of repositories: [`RepoError`], with an enum of its own for trust, keys, teams and releases.

mod keys;
mod release;
mod team;
mod trust;

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use packs_schema::base::pem::PemError;

use crate::files::FileError;
use crate::pack::PackError;

pub use keys::KeyError;
pub use release::ReleaseError;
pub use team::TeamError;
pub use trust::PinError;

/// Error returned when a repository could not be made, read or changed. Nothing was changed, unless the message says so.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// A pinned root or high-water mark.
    #[error(transparent)]
    Trust(#[from] PinError),
    /// A signing key or its passphrase.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// A delegation.
    #[error(transparent)]
    Team(#[from] TeamError),
    /// A version or a channel.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// The location is not the address of a repository.
    #[error(
        "{0:?} is not a repository that can be written: give a directory, file:///absolute/path or s3://bucket/prefix"
    )]
    Location(String),
    /// The address names no bucket.
    #[error("{location:?} names no bucket: {problem}")]
    Address {
        /// The given text.
        location: String,
        /// The problem.
        problem: String,
    },
    /// An environment variable for the bucket or the key service is not understood.
    #[error(transparent)]
    Environment(#[from] bolt_aws::EnvironmentError),
    /// The bucket refuses, or does not answer.
    #[error("the repository cannot be reached")]
    Bucket(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Other publishers were faster, each time.
    #[error("others change the repository at {} all the time; nothing was changed, try again", crate::show::path(.0))]
    Raced(PathBuf),
    /// A rotation stopped half-way: a root lists new keys beside the old ones, which are still valid.
    #[error(
        "root version {version} lists the new keys beside the old ones, which are still valid, because not everything could be signed \
         with the new: rotate again, with another directory for --new-keys"
    )]
    HalfRotated {
        /// Version of that root.
        version: u64,
        /// Error that stopped the rotation.
        source: Box<RepoError>,
    },
    /// There is no repository.
    #[error("{} is not a repository (it has no metadata): check the location and that it is mounted; `bolt repo init` makes a new one", crate::show::path(.0))]
    NoRepository(PathBuf),
    /// The location is not empty.
    #[error("{} holds something already; choose another directory", crate::show::path(.0))]
    Exists(PathBuf),
    /// A file or directory of the repository cannot be used.
    #[error("cannot {what} {}", crate::show::path(path))]
    File {
        /// The operation, such as `read`.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// Error of the operating system or library.
        #[source]
        source: io::Error,
    },
    /// A key file cannot be read or written.
    #[error("cannot use the repository's keys")]
    Key(#[from] FileError),
    /// A key file holds no key.
    #[error(transparent)]
    NotAKey(#[from] PemError),
    /// Another publisher holds the lock.
    #[error("another publisher is changing {}; try again when it is done", crate::show::path(.0))]
    Busy(PathBuf),
    /// The metadata do not verify, or could not be signed.
    #[error("cannot {what}: {error}")]
    Tuf {
        /// The operation, such as `read`.
        what: &'static str,
        /// The error and its causes.
        error: String,
    },
    /// The metadata of a delegated role are missing.
    #[error(
        "the repository's metadata name role {0}, and its own metadata are missing: an attacker may be hiding its targets"
    )]
    Hidden(String),
    /// The root has expired: agents would take nothing that is published.
    #[error(
        "the repository's root metadata have expired at {0}: agents take nothing new until a new root is signed with the root \
         keys, so nothing is published"
    )]
    RootExpired(Timestamp),
    /// The pack cannot be built or read.
    #[error("cannot publish the pack")]
    Pack(#[from] PackError),
    /// A target cannot be read.
    #[error("{name} in the repository cannot be read: {problem}")]
    Unreadable {
        /// Its name.
        name: String,
        /// The problem.
        problem: String,
    },
    /// Another publisher needs a file that was just pruned.
    #[error("{0} was removed while another publisher began to use it: publish the same again, which writes it again")]
    PrunedInUse(String),
    /// The runtime could not be started.
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
}

impl RepoError {
    pub(super) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> RepoError {
        let path = path.into();
        move |source| RepoError::File { what, path, source }
    }

    pub(super) fn tuf<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> RepoError {
        move |error| RepoError::Tuf { what, error: error.to_string() }
    }
}
