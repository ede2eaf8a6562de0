//! Errors of a poll, and failures of one pack.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use packs_schema::base::finding::Finding;

use crate::config_file::ConfigFileError;

/// Error returned when a poll fails as a whole.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The process is root.
    #[error("nothing that reads the network runs as root: start it as the account of `users.sync`")]
    Root,
    /// `agent.toml`.
    #[error(transparent)]
    Config(#[from] ConfigFileError),
    /// A file or directory of the store or the configuration.
    #[error("cannot {what} {}", path.display())]
    File {
        /// Operation.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Another sync uses the store.
    #[error("another sync uses {}", .0.display())]
    Busy(PathBuf),
    /// The repository's address.
    #[error("repository.url {0:?} is not supported: use file:///absolute/path or s3://bucket/prefix")]
    Url(String),
    /// Nothing has been published there.
    #[error(
        "there is no repository at {0}: metadata/timestamp.json does not exist; check repository.url, or publish there first"
    )]
    NoRepository(String),
    /// The repository's directory does not exist.
    #[error("there is no directory {}, which repository.url names: correct the address, or mount the directory", .0.display())]
    NoDirectory(PathBuf),
    /// The repository's directory cannot be read.
    #[error(
        "cannot read the repository: {}: {source}; this account (users.sync) needs to read everything below {}",
        path.display(), directory.display()
    )]
    Unreadable {
        /// The repository's directory.
        directory: PathBuf,
        /// The file, or the directory itself.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A file that signed metadata name is not there.
    #[error(
        "the repository is incomplete: {0} does not exist; its signatures are not in doubt: copy the repository whole, or sign \
         it again with `bolt repo refresh`"
    )]
    Incomplete(String),
    /// A variable of the environment that reaches the repository or the metadata service.
    #[error(transparent)]
    Environment(#[from] bolt_aws::EnvironmentError),
    /// The repository's bucket does not answer, or refuses.
    #[error("cannot reach the repository")]
    Bucket(#[from] bolt_aws::BucketError),
    /// The metadata service failed, and the identity is not known otherwise.
    #[error("cannot determine the identity of this instance")]
    Instance(#[from] bolt_aws::InstanceError),
    /// Neither the configuration nor the metadata service has the identity.
    #[error("the identity of this instance is unknown: set instance.id in agent.toml")]
    Nameless,
    /// Metadata have expired.
    #[error(
        "the repository's {role} metadata have expired by this host's clock, which says {clock}: nothing new is activated until \
         the repository is signed again (`bolt repo refresh`), or the clock is set if it is wrong"
    )]
    Expired {
        /// Role.
        role: String,
        /// Time by this host's clock.
        clock: Timestamp,
    },
    /// The clock cannot be right, so expiry cannot be checked.
    #[error(
        "this host's clock says {clock}, but {what} {known}: set the clock; nothing new is activated until it is right"
    )]
    Clock {
        /// Time by this host's clock.
        clock: Timestamp,
        /// Evidence against the clock.
        what: &'static str,
        /// Time of the evidence.
        known: Timestamp,
    },
    /// The metadata are older than the high-water mark.
    #[error(
        "the repository's {role} metadata are version {found}, but version {seen} was seen before: \
         an attacker may be replaying an old state"
    )]
    Older {
        /// Role.
        role: String,
        /// Version found.
        found: u64,
        /// High-water mark.
        seen: u64,
    },
    /// The snapshot does not list a delegated role.
    #[error("the snapshot does not list {role}, to which the targets delegate: an attacker may be hiding its content")]
    Missing {
        /// The role.
        role: String,
    },
    /// A delegated role lists a target outside its delegation.
    #[error(
        "a delegated role lists a target outside its delegation ({0}): nothing new is activated until its team signs without \
         it, or the delegation is taken back"
    )]
    Outside(String),
    /// The repository exceeds a limit of the marks.
    #[error("the repository has more than {most} {what}")]
    TooMany {
        /// Kind of item.
        what: &'static str,
        /// The limit.
        most: usize,
    },
    /// The high-water marks are damaged, so nothing protects from old metadata.
    #[error("{} is damaged: {problem}; verify that the repository is in order, then remove the file", path.display())]
    Marks {
        /// The file.
        path: PathBuf,
        /// Problem.
        problem: String,
    },
    /// The metadata cannot be read or verified.
    #[error(
        "cannot verify the repository's metadata; nothing new is activated: it was not signed with the keys that root.json trusts, or \
         was changed afterwards; compare repository.root with the publisher's root.json"
    )]
    Metadata(#[source] Box<tough::error::Error>),
    /// The async runtime cannot be started.
    #[error("cannot start the async runtime")]
    Runtime(#[source] io::Error),
}

impl SyncError {
    /// Returns the step of a poll that failed, for the metrics: before the repository was asked, while it was read, or while
    /// its content was verified.
    pub(super) fn step(&self) -> &'static str {
        match self {
            SyncError::Root
            | SyncError::Config(_)
            | SyncError::File { .. }
            | SyncError::Busy(_)
            | SyncError::Url(_)
            | SyncError::Environment(_)
            | SyncError::Instance(_)
            | SyncError::Nameless
            | SyncError::Marks { .. }
            | SyncError::Runtime(_) => "prepare",
            SyncError::NoRepository(_)
            | SyncError::NoDirectory(_)
            | SyncError::Unreadable { .. }
            | SyncError::Incomplete(_)
            | SyncError::Bucket(_) => "reach",
            SyncError::Expired { .. }
            | SyncError::Clock { .. }
            | SyncError::Older { .. }
            | SyncError::Missing { .. }
            | SyncError::Outside(_)
            | SyncError::TooMany { .. }
            | SyncError::Metadata(_) => "verify",
        }
    }

    pub(super) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> SyncError {
        let path = path.into();
        move |source| SyncError::File { what, path, source }
    }
}

/// Step of a pack's activation, as `.status.json` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Choose,
    Fetch,
    Unpack,
    Check,
    /// The virtual environment.
    Environment,
    /// The virtual environment is being built: nothing has failed.
    Building,
    Activate,
    /// The site configuration, of the active version or of one that is to be activated.
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

/// Failure that prevents the activation of one pack's version.
#[derive(Debug)]
pub(super) struct PackFailure {
    pub(super) step: Step,
    pub(super) message: String,
    pub(super) findings: Vec<Finding>,
}

/// Maximum length of a failure's message, in characters.
const MAX_MESSAGE: usize = 1000;
/// Maximum number of findings of a failure.
const MAX_FINDINGS: usize = 100;
/// Maximum length of the place and of the message of a finding, in characters.
const MAX_FINDING: usize = 300;

impl PackFailure {
    /// Returns the failure of a pack with these findings, which quote what its author wrote, of any length: the gravest are
    /// kept where there are too many, and texts are shortened, so that the api can read the record of them.
    pub(super) fn with_findings(step: Step, message: &str, mut findings: Vec<Finding>) -> PackFailure {
        if findings.len() > MAX_FINDINGS {
            findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
            findings.truncate(MAX_FINDINGS);
        }
        for finding in &mut findings {
            finding.at = shorten(&finding.at, MAX_FINDING);
            finding.message = shorten(&finding.message, MAX_FINDING);
        }
        PackFailure { step, message: shorten(message, MAX_MESSAGE), findings }
    }

    pub(super) fn new(step: Step, message: impl Into<String>) -> PackFailure {
        PackFailure { step, message: message.into(), findings: Vec::new() }
    }

    /// Returns a converter for `map_err`: `what` failed on `path`.
    pub(super) fn file(step: Step, what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| PackFailure::new(step, format!("cannot {what} {}: {error}", path.display()))
    }
}

/// Shortens to one line of at most [`MAX_MESSAGE`] characters, without control characters.
pub(super) fn shorten_message(message: &str) -> String {
    shorten(message, MAX_MESSAGE)
}

fn shorten(text: &str, most: usize) -> String {
    text.chars().take(most).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Returns the root cause of an error, in one line: the layers above it repeat each other and a long address.
pub(super) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string().replace('\n', " ")
}

/// Formats an error and its sources in one line.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let said = inner.to_string();
        // Some libraries repeat their source.
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = inner.source();
    }
    text.replace('\n', " ")
}
