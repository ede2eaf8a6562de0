//! Changes: load and verify the newest state, edit, sign and write; again from the start when another publisher was faster.

use super::access::Access;
use super::keys::KeyRing;
use super::place::Place;
use super::state::{State, Viewed};
use super::trust::{Pinned, View};
use super::{RepoError, block_on};

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
