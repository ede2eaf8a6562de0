//! Publishing: a TUF repository in a directory or a bucket, its keys, and what its channels say.
//!
//! ```text
//!  init     keys ──▶ metadata/1.root.json, which agents are given out of band, and empty signed metadata
//!  publish  pack ──build──▶ targets/…tar.gz, targets/channels/… ──sign──▶ targets, snapshot, timestamp (last)
//!  status   what stands in it, and when which role expires
//! ```
//!
//! A reader that comes at any moment sees the old state or the new one: what the timestamp names was there before the
//! timestamp was. The functions block; call them from outside an asynchronous runtime or inside one.

mod init;
mod keys;
mod place;
mod publish;
mod status;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub use init::{InitOptions, Initialized, init};
pub use publish::{PublishOptions, Published, publish, publish_archive};
pub use status::{ChannelStatus, RoleStatus, Status, VersionStatus, status};

use jiff::Timestamp;
use packs_schema::name::{ChannelName, PackName, PackVersion};

use crate::files::FileError;
use crate::pack::PackError;

/// How long signatures are good for. Each publish renews all but the root's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// Of the root: which keys are trusted.
    pub root: Duration,
    /// Of the targets: which packs and channels there are.
    pub targets: Duration,
    /// Of the snapshot: which targets metadata belong together.
    pub snapshot: Duration,
    /// Of the timestamp: that this is the newest state.
    pub timestamp: Duration,
}

impl Default for Expiry {
    fn default() -> Expiry {
        let days = |n: u64| Duration::from_secs(n * 86_400);
        Expiry { root: days(365), targets: days(365), snapshot: days(30), timestamp: days(30) }
    }
}

/// Why a repository could not be made, read or changed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RepoError {
    /// Not an address of a repository.
    #[error(
        "{0:?} is not a repository that can be written: give a directory, file:///absolute/path or s3://bucket/prefix"
    )]
    Location(String),
    /// An address of a bucket that is none.
    #[error("{location:?} names no bucket: {problem}")]
    Address {
        /// What was given.
        location: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The bucket refuses, or does not answer.
    #[error("the repository cannot be reached")]
    Bucket(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Others were first, each time.
    #[error("others change the repository at {} all the time; nothing was changed, try again", .0.display())]
    Raced(PathBuf),
    /// There is none.
    #[error("{} is no repository (it has no metadata); make one with `bolt repo init`", .0.display())]
    NoRepository(PathBuf),
    /// There is one.
    #[error("{} holds something already; choose another directory", .0.display())]
    Exists(PathBuf),
    /// A file or directory of the repository.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A key.
    #[error("cannot use the repository's keys")]
    Key(#[from] FileError),
    /// A key file without a key.
    #[error("{} holds no Ed25519 key in PKCS #8 PEM", .0.display())]
    NotAKey(PathBuf),
    /// A key could not be made.
    #[error("cannot make a key")]
    Generate(#[source] rcgen::Error),
    /// Bounds of the root's keys.
    #[error("{threshold} of {keys} root keys must sign: use 1 to 16 keys, and a threshold of 1 up to their number")]
    Threshold {
        /// The keys.
        keys: u8,
        /// How many must sign.
        threshold: u8,
    },
    /// Another one is at work.
    #[error("another publisher is at work in {}; try again when it is done", .0.display())]
    Busy(PathBuf),
    /// The metadata do not verify, or could not be signed.
    #[error("cannot {what}: {error}")]
    Tuf {
        /// What was tried.
        what: &'static str,
        /// Why not. It tells its causes itself, so it is no source.
        error: Box<tough::error::Error>,
    },
    /// The keys of another repository.
    #[error("the keys in {} may not sign for this repository: give the directory that `bolt repo init` made with it", .0.display())]
    OtherKeys(PathBuf),
    /// Nobody would take what is published.
    #[error(
        "the repository's root metadata have expired at {0}: agents take nothing new until a new root is signed with the root \
         keys, so nothing is published"
    )]
    RootExpired(Timestamp),
    /// The pack.
    #[error("cannot publish the pack")]
    Pack(#[from] PackError),
    /// A version's contents never change.
    #[error(
        "{pack} {version} is published already with another content (digest {published}); raise the version in pack.yaml"
    )]
    VersionTaken {
        /// The pack.
        pack: PackName,
        /// The version.
        version: PackVersion,
        /// The digest that it has.
        published: String,
    },
    /// Channels only go forward.
    #[error("channel {channel} holds {pack} {}, which is newer than {}; publish a higher version", versions.0, versions.1)]
    Lower {
        /// The channel.
        channel: ChannelName,
        /// The pack.
        pack: PackName,
        /// The version that it holds, and the one that was to be published.
        versions: Box<(PackVersion, PackVersion)>,
    },
    /// No channel was named.
    #[error("name the channel that the pack is for: --channel dev")]
    NoChannel,
    /// Not a percentage.
    #[error("{0} is not a percentage: use 0 to 100")]
    Percent(u8),
    /// A channel file that is none.
    #[error("channel file {name} cannot be read: {problem}")]
    Channel {
        /// The target's name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The threads or timers of the runtime.
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
}

impl RepoError {
    fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> RepoError {
        let path = path.into();
        move |source| RepoError::File { what, path, source }
    }

    fn tuf(what: &'static str) -> impl FnOnce(tough::error::Error) -> RepoError {
        move |error| RepoError::Tuf { what, error: Box::new(error) }
    }
}

/// Runs `future` on a thread and runtime of its own, so that callers may be asynchronous themselves.
fn block_on<T: Send>(future: impl Future<Output = Result<T, RepoError>> + Send) -> Result<T, RepoError> {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RepoError::Runtime)?;
            runtime.block_on(future)
        });
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests;
