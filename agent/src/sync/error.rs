//! What stops a poll, and what stops one pack.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use packs_schema::base::finding::Finding;

use crate::config_file::ConfigFileError;

/// Why a poll failed as a whole.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The wrong account.
    #[error("nothing that reads the network runs as root: start it as the account of `users.sync`")]
    Root,
    /// `agent.toml`.
    #[error(transparent)]
    Config(#[from] ConfigFileError),
    /// A file or directory of the store or the configuration.
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
    /// Another sync has the store.
    #[error("another sync is at work in {}", .0.display())]
    Busy(PathBuf),
    /// The repository's address.
    #[error("repository.url {0:?} is not one that this version reads: use file:///absolute/path or s3://bucket/prefix")]
    Url(String),
    /// Nothing was ever published there.
    #[error("there is no repository at {0}: metadata/timestamp.json is not there; look at repository.url")]
    NoRepository(String),
    /// A variable of the environment that reaches the repository or the metadata service.
    #[error(transparent)]
    Environment(#[from] bolt_aws::EnvironmentError),
    /// The repository's bucket does not answer, or refuses.
    #[error("cannot reach the repository")]
    Bucket(#[from] bolt_aws::BucketError),
    /// Nobody says who this is.
    #[error("cannot learn what this instance is")]
    Instance(#[from] bolt_aws::InstanceError),
    /// Neither the configuration nor the metadata say it.
    #[error("nothing says who this instance is: write instance.id in agent.toml")]
    Nameless,
    /// The signatures have ended.
    #[error(
        "the repository's {role} metadata have expired by this host's clock, which says {clock}: nothing new is activated until \
         somebody publishes again, or the clock is set if that is what is wrong"
    )]
    Expired {
        /// Whose.
        role: String,
        /// The time here.
        clock: Timestamp,
    },
    /// The clock cannot be right, so nothing can be said of what has expired.
    #[error(
        "this host's clock says {clock}, but {what} {known}: set the clock; nothing new is activated until it is right"
    )]
    Clock {
        /// The time here.
        clock: Timestamp,
        /// What speaks against it.
        what: &'static str,
        /// When that was.
        known: Timestamp,
    },
    /// The metadata are older than what was seen before.
    #[error(
        "the repository's {role} metadata are version {found}, but version {seen} was seen before: \
         somebody may be replaying an old state"
    )]
    Older {
        /// Whose.
        role: String,
        /// The version found.
        found: u64,
        /// The highest version seen.
        seen: u64,
    },
    /// A delegated role of which nothing is there.
    #[error("the snapshot says nothing of {role}, to which the targets delegate: somebody may be hiding what it holds")]
    Missing {
        /// The role.
        role: String,
    },
    /// A delegated role reaches for what is not its own.
    #[error(
        "a delegated role lists a target outside its delegation ({0}): nothing new is activated until its team signs without \
         it, or the delegation is taken back"
    )]
    Outside(String),
    /// More than is remembered.
    #[error("the repository has more than {most} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        most: usize,
    },
    /// The record of versions seen is damaged, so nothing protects from old metadata.
    #[error("{} is damaged: {problem}; remove it once you know that the repository is in order", path.display())]
    Marks {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The metadata could not be read or do not verify.
    #[error("cannot verify the repository's metadata")]
    Metadata(#[source] Box<tough::error::Error>),
    /// The runtime.
    #[error("cannot start the runtime")]
    Runtime(#[source] io::Error),
}

impl SyncError {
    pub(super) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> SyncError {
        let path = path.into();
        move |source| SyncError::File { what, path, source }
    }
}

/// A step of one pack's way, as `.status.json` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Choose,
    Fetch,
    Unpack,
    Check,
    /// The virtual environment.
    Environment,
    /// The virtual environment is on its way: nothing has failed.
    Building,
    Activate,
    /// The per-site configuration: of the active version, or of one that it keeps from being activated.
    Configure,
}

impl Step {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Step::Choose => "choose",
            Step::Fetch => "fetch",
            Step::Unpack => "unpack",
            Step::Check => "check",
            Step::Environment => "environment",
            Step::Building => packs_schema::agent::rest::BUILDING,
            Step::Activate => "activate",
            Step::Configure => "configure",
        }
    }
}

/// Why one pack's wanted version could not be activated.
#[derive(Debug)]
pub(super) struct PackFailure {
    pub(super) step: Step,
    pub(super) message: String,
    pub(super) findings: Vec<Finding>,
}

impl PackFailure {
    pub(super) fn new(step: Step, message: impl Into<String>) -> PackFailure {
        PackFailure { step, message: message.into(), findings: Vec::new() }
    }

    /// For `map_err`: `what` failed on `path`.
    pub(super) fn file(step: Step, what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| PackFailure::new(step, format!("cannot {what} {}: {error}", path.display()))
    }
}

/// What lies at the bottom of an error, in one line: the layers above it repeat each other and a long address.
pub(super) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string().replace('\n', " ")
}

/// An error and what lies behind it, in one line.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let said = inner.to_string();
        // Some libraries print their source themselves.
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = inner.source();
    }
    text.replace('\n', " ")
}
