//! A fleet of real agents on this host: an authority, a signed repository, and agents on loopback addresses.
//!
//! ```text
//! <directory>/
//!     pki/                    a throw-away authority, and the certificates of callers
//!     keys/  repo/            keys and contents of the TUF repository
//!     agents/<id>/etc|state|packs|run|agent.log
//!     client.toml  inventory.toml
//! ```
//!
//! The demo and the end-to-end tests use it. Everything is as in production: the same binaries, TLS,
//! signatures and process split. As root the api and the sync run as accounts of their own
//! ([`Accounts`]); as an ordinary user everything is that user.

mod agent;
mod site;

use std::io;
use std::path::PathBuf;

use crate::programs;
pub use crate::repo::Published;
pub(crate) use agent::end_executions;
pub use agent::{AgentSpec, LocalAgent};
pub use site::{Caller, OPERATOR, Site};

/// Error returned when a fleet cannot be laid out or started.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A file could not be made or read.
    #[error("cannot {what} {}", crate::show::path(path))]
    File {
        /// The operation: `write`, `create`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// A binary of the agent is not where it should be.
    #[error("{} is not there; build it with: cargo build --release", crate::show::path(.0))]
    NoBinary(PathBuf),
    /// The authority failed.
    #[error("cannot make certificates")]
    Pki(#[from] crate::pki::PkiError),
    /// The repository failed.
    #[error("cannot make the repository")]
    Repo(#[from] crate::repo::RepoError),
    /// A pack failed.
    #[error("cannot build the pack")]
    Pack(#[from] crate::pack::PackError),
    /// An agent ended, or did not become ready in time.
    #[error("agent {id} {problem}; the end of its log:\n{log}")]
    Agent {
        /// Its instance id.
        id: String,
        /// Description of the failure.
        problem: String,
        /// The last lines of its log.
        log: String,
    },
}

fn file_error(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> LocalError {
    let path = path.into();
    move |source| LocalError::File { what, path, source }
}

/// Accounts of a fleet that root starts: unused user ids, so that nothing has to be set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accounts {
    /// The api's.
    pub api: u32,
    /// The sync's.
    pub sync: u32,
    /// Account of actions that name none, and in place of accounts that this host does not have.
    pub action: u32,
}

impl Accounts {
    /// The accounts to use, when the current user is root.
    pub fn detect() -> Option<Accounts> {
        nix::unistd::geteuid().is_root().then_some(Accounts { api: 64_100, sync: 64_101, action: 64_102 })
    }
}

/// Programs that a fleet of this host needs beside `bolt`.
pub const PROGRAMS: [&str; 3] = ["bolt-launch", "bolt-agent", "bolt-sync"];

/// The path of `bolt-agent` or `bolt-launch`: beside the running executable, one directory above it (where cargo puts tests), or
/// where the package installs it.
pub fn binary(name: &str) -> Result<PathBuf, LocalError> {
    let directories = programs::directories().map_err(file_error("find", "/proc/self/exe"))?;
    programs::find_in(name, &directories).ok_or_else(|| LocalError::NoBinary(directories[0].join(name)))
}
