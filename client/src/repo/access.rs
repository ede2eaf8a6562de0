//! Access to a repository: its location, keys, trust files and signature lifetimes.

use std::path::PathBuf;

use packs_schema::base::name::TeamName;

use super::Expiry;
use super::change_reason::ChangeReason;
use super::keys::KeyRing;
use super::passphrase::Unlock;

/// Repository to change, and the keys to sign with.
#[derive(Debug, Clone)]
pub struct Access {
    /// The repository: a directory, `file:///` or `s3://bucket/prefix`.
    pub repository: PathBuf,
    /// The keys' directory.
    pub keys: PathBuf,
    /// Source of the passphrase of encrypted keys.
    pub unlock: Unlock,
    /// Directory of the pinned root and the versions seen; absent: the keys' directory.
    pub state: Option<PathBuf>,
    /// A trusted root to use instead of the pinned one.
    pub root: Option<PathBuf>,
    /// Team that must sign. Without it, a delegated pack is signed by its team as well; this refuses any other signer.
    pub team: Option<TeamName>,
    /// Lifetimes of signatures.
    pub expiry: Expiry,
    /// Reason of the change, for the journal.
    pub reason: Option<ChangeReason>,
}

impl Access {
    /// Returns access with plain keys and the default lifetimes.
    pub fn new(repository: impl Into<PathBuf>, keys: impl Into<PathBuf>) -> Access {
        let (repository, keys) = (repository.into(), keys.into());
        Access {
            repository,
            keys,
            unlock: Unlock::Never,
            state: None,
            root: None,
            team: None,
            expiry: Expiry::default(),
            reason: None,
        }
    }

    pub(super) fn ring(&self) -> KeyRing {
        KeyRing::new(&self.keys, &self.unlock)
    }
}
