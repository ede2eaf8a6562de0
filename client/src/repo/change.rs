//! Changes: load and verify the newest state, edit, sign and write; again from the start when another publisher was faster.

use std::path::PathBuf;

use packs_schema::base::name::TeamName;

use super::journal::ChangeReason;
use super::keys::KeyRing;
use super::passphrase::Unlock;
use super::place::Place;
use super::state::{State, Viewed};
use super::trust::{Pinned, View};
use super::{Expiry, RepoError, block_on};

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

/// Applies `edit` to the newest state and signs the changes. Returns the result of `edit` and the version of the new timestamp,
/// which is absent when nothing changed. `edit` is called again when another publisher was faster.
pub(super) fn change<T: Send>(
    access: &Access,
    edit: impl AsyncFn(&mut State, &mut KeyRing) -> Result<T, RepoError> + Sync,
) -> Result<(T, Option<u64>), RepoError> {
    change_with(access, &mut access.ring(), edit)
}

/// Does the same with a key ring whose keys may be open already.
pub(super) fn change_with<T: Send>(
    access: &Access,
    ring: &mut KeyRing,
    edit: impl AsyncFn(&mut State, &mut KeyRing) -> Result<T, RepoError> + Sync,
) -> Result<(T, Option<u64>), RepoError> {
    let place = Place::at(&access.repository)?;
    place.check_repository()?;
    let pinned = Pinned::open(access)?;
    place.attempt(|| {
        block_on(async || {
            let mut state = State::load(&place, &pinned).await?;
            state.reason.clone_from(&access.reason);
            let given = edit(&mut state, &mut *ring).await?;
            state.check_required(&place)?;
            let timestamp =
                if state.is_changed() { Some(state.commit(&place, &mut *ring, &access.expiry).await?) } else { None };
            Ok((given, timestamp))
        })
    })
}

/// Reads the newest state.
pub(super) fn look<T: Send>(
    view: &View,
    at: impl AsyncFnOnce(&State<Viewed>, &Place) -> Result<T, RepoError> + Send,
) -> Result<T, RepoError> {
    let place = Place::at(&view.repository)?;
    block_on(async || {
        let state = State::view(&place, view).await?;
        at(&state, &place).await
    })
}
