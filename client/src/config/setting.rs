//! The settings of the client: their names in `client.toml`, their flags, and their environment variables.

use std::fmt;
use std::path::{Path, PathBuf};

/// A setting that a flag, an environment variable or `client.toml` can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Setting {
    /// The client's certificate, PEM.
    Certificate,
    /// The key of the certificate, PEM, readable by its owner only.
    Key,
    /// The authority that signed the agents' certificates, PEM.
    Ca,
    /// The list of instances.
    Inventory,
    /// The repository: a directory, `file:///` or `s3://bucket/prefix`.
    Repository,
    /// The directory of the repository's keys.
    RepositoryKeys,
    /// The directory of the pinned root and the versions seen.
    RepositoryState,
    /// A trusted root, for commands that only read the repository.
    RepositoryRoot,
    /// The file with the passphrase of the repository's keys.
    PassphraseFile,
    /// The record of runs: a directory or `s3://bucket/prefix`.
    RunStore,
}

impl Setting {
    /// Every setting, in the order of `bolt config show`.
    pub const ALL: [Setting; 10] = [
        Setting::Certificate,
        Setting::Key,
        Setting::Ca,
        Setting::Inventory,
        Setting::Repository,
        Setting::RepositoryKeys,
        Setting::RepositoryState,
        Setting::RepositoryRoot,
        Setting::PassphraseFile,
        Setting::RunStore,
    ];

    /// Returns the key in `client.toml`; a dot separates the table from the key.
    pub fn name(self) -> &'static str {
        match self {
            Setting::Certificate => "certificate",
            Setting::Key => "key",
            Setting::Ca => "ca",
            Setting::Inventory => "inventory",
            Setting::Repository => "repository.url",
            Setting::RepositoryKeys => "repository.keys",
            Setting::RepositoryState => "repository.state",
            Setting::RepositoryRoot => "repository.root",
            Setting::PassphraseFile => "repository.passphrase_file",
            Setting::RunStore => "runs.store",
        }
    }

    /// Returns the flag on the command line.
    pub fn flag(self) -> &'static str {
        match self {
            Setting::Certificate => "--cert",
            Setting::Key => "--key",
            Setting::Ca => "--ca",
            Setting::Inventory => "--inventory",
            Setting::Repository => "--repo",
            Setting::RepositoryKeys => "--keys",
            Setting::RepositoryState => "--state",
            Setting::RepositoryRoot => "--root",
            Setting::PassphraseFile => "--passphrase-file",
            Setting::RunStore => "--run-store",
        }
    }

    /// Returns the environment variable.
    pub fn variable(self) -> &'static str {
        match self {
            Setting::Certificate => "BOLT_CERT",
            Setting::Key => "BOLT_KEY",
            Setting::Ca => "BOLT_CA",
            Setting::Inventory => "BOLT_INVENTORY",
            Setting::Repository => "BOLT_REPO",
            Setting::RepositoryKeys => "BOLT_REPO_KEYS",
            Setting::RepositoryState => "BOLT_REPO_STATE",
            Setting::RepositoryRoot => "BOLT_REPO_ROOT",
            Setting::PassphraseFile => "BOLT_KEY_PASSPHRASE_FILE",
            Setting::RunStore => "BOLT_RUN_STORE",
        }
    }

    /// Describes the setting in an error: "no client certificate is configured".
    pub fn noun(self) -> &'static str {
        match self {
            Setting::Certificate => "client certificate",
            Setting::Key => "key of the client certificate",
            Setting::Ca => "certificate authority",
            Setting::Inventory => "inventory",
            Setting::Repository => "repository",
            Setting::RepositoryKeys => "directory of repository keys",
            Setting::RepositoryState => "directory of the pinned root",
            Setting::RepositoryRoot => "trusted root",
            Setting::PassphraseFile => "passphrase file",
            Setting::RunStore => "record of runs",
        }
    }

    /// True for the settings that talking to instances needs.
    pub fn is_needed_for_instances(self) -> bool {
        matches!(self, Setting::Certificate | Setting::Key | Setting::Ca | Setting::Inventory)
    }

    /// True for the settings that belong to one repository, and not to another that a flag or variable names.
    pub(super) fn belongs_to_repository(self) -> bool {
        matches!(
            self,
            Setting::RepositoryKeys | Setting::RepositoryState | Setting::RepositoryRoot | Setting::PassphraseFile
        )
    }
}

/// Source of a setting's value, the strongest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag on the command line.
    Flag(&'static str),
    /// An environment variable.
    Variable(&'static str),
    /// A line of `client.toml`.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(flag) => f.write_str(flag),
            Origin::Variable(name) => write!(f, "${name}"),
            Origin::File { path, line } => write!(f, "{}:{line}", crate::show::path(path)),
        }
    }
}

/// The value of a setting and its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sourced {
    /// The value: a path, or the address of a repository.
    pub value: PathBuf,
    /// Source of the value.
    pub origin: Origin,
}

/// True for an address (`s3://…`, `file:///…`, also a mistyped `s3:…`), which is not relative to the configuration file.
pub(super) fn is_address(value: &Path) -> bool {
    value.to_str().is_some_and(|text| text.contains("://") || text.starts_with("s3:"))
}
