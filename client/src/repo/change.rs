//! How a change is made: from what stands in the repository, verified, to what all readers see next; and once more from there
//! when another publisher was first.

use std::path::PathBuf;

use packs_schema::base::name::TeamName;

use super::keys::KeyRing;
use super::passphrase::Unlock;
use super::place::Place;
use super::state::{State, Viewed};
use super::trust::{Pinned, View};
use super::{Expiry, RepoError, block_on};

/// Which repository is changed, with which keys.
#[derive(Debug, Clone)]
pub struct Access {
    /// The repository: a directory, `file:///` or `s3://bucket/prefix`.
    pub repository: PathBuf,
    /// The keys' directory.
    pub keys: PathBuf,
    /// How encrypted keys are opened.
    pub unlock: Unlock,
    /// Where the pinned root and the versions seen are kept; absent: in the keys' directory.
    pub state: Option<PathBuf>,
    /// A trusted root to use instead of the pinned one.
    pub root: Option<PathBuf>,
    /// The team that signs. A pack that is delegated is signed for by its team also when none is given; this only makes sure.
    pub team: Option<TeamName>,
    /// How long signatures are good for.
    pub expiry: Expiry,
}

impl Access {
    /// With plain keys and the usual expiry.
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
        }
    }

    pub(super) fn ring(&self) -> KeyRing {
        KeyRing::new(&self.keys, &self.unlock)
    }
}

/// Applies `edit` to the newest state and signs what it changed; gives what `edit` gave, and the version of the new
/// timestamp, or none when nothing was changed. `edit` is called again when another publisher was first.
pub(super) fn change<T: Send>(
    access: &Access,
    edit: impl AsyncFn(&mut State, &mut KeyRing) -> Result<T, RepoError> + Sync,
) -> Result<(T, Option<u64>), RepoError> {
    change_with(access, &mut access.ring(), edit)
}

/// The same with keys that may have been opened before.
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
            let given = edit(&mut state, &mut *ring).await?;
            state.check_required(&place)?;
            let timestamp =
                if state.is_changed() { Some(state.commit(&place, &mut *ring, &access.expiry).await?) } else { None };
            Ok((given, timestamp))
        })
    })
}

/// Looks at the newest state.
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
