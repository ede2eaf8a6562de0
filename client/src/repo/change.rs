//! Changes: load and verify the newest state, edit, sign and write; again from the start when another publisher was faster.

use super::access::Access;
use super::keys::KeyRing;
use super::state::{State, Viewed};
use super::storage::Storage;
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
    let storage = Storage::at(&access.repository)?;
    storage.check_repository()?;
    let pinned = Pinned::open(access)?;
    storage.attempt(|| {
        block_on(async || {
            let mut state = State::load(&storage, &pinned).await?;
            state.reason.clone_from(&access.reason);
            let given = edit(&mut state, &mut *ring).await?;
            state.check_required(&storage)?;
            let timestamp =
                if state.is_changed() { Some(state.commit(&storage, &mut *ring, &access.expiry).await?) } else { None };
            Ok((given, timestamp))
        })
    })
}

/// Reads the newest state.
pub(super) fn with_view<T: Send>(
    view: &View,
    at: impl AsyncFnOnce(&State<Viewed>, &Storage) -> Result<T, RepoError> + Send,
) -> Result<T, RepoError> {
    let storage = Storage::at(&view.repository)?;
    block_on(async || {
        let state = State::view(&storage, view).await?;
        at(&state, &storage).await
    })
}
