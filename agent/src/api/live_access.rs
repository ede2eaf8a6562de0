//! Access that is checked again while a request is in progress: a wait or a stream ends when its grant is revoked.
//!
//! Each chunk of a stream is preceded by a check, which is cheap while the grants have not changed; a change of the grants
//! wakes requests that wait.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt as _;
use futures_util::stream;
use packs_schema::base::name::ActionRef;

use super::body::{Body, Failure};
use super::visibility::covers;
use crate::access::{Access, Caller};
use crate::registry::Registry;

/// Error returned when the caller has lost the grant that the request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the grant for this request was revoked")]
pub(super) struct Revoked;

/// Access of a request in progress.
pub(super) struct LiveAccess {
    access: Arc<Access>,
    registry: Arc<Registry>,
    state: Mutex<State>,
}

struct State {
    caller: Caller,
    /// Action that a grant must cover, once it is known.
    action: Option<ActionRef>,
    /// Generation of the grants of the last check.
    checked: u64,
}

impl LiveAccess {
    /// Begins with a caller that was just admitted.
    pub(super) fn new(access: Arc<Access>, registry: Arc<Registry>, caller: Caller) -> LiveAccess {
        let checked = caller.generation();
        LiveAccess { access, registry, state: Mutex::new(State { caller, action: None, checked }) }
    }

    /// Requires a grant for `action` from now on.
    pub(super) fn require(&self, action: &ActionRef) {
        self.lock().action = Some(action.clone());
    }

    /// Returns the caller with the grants of the last check.
    pub(super) fn caller(&self) -> Caller {
        self.lock().caller.clone()
    }

    fn check(&self) -> Result<(), Revoked> {
        let generation = self.access.generation();
        let mut state = self.lock();
        if state.checked == generation {
            return Ok(());
        }
        let caller = self.access.renew(&state.caller).ok_or(Revoked)?;
        if let Some(action) = &state.action
            && !covers(&self.registry, &caller, action)
        {
            return Err(Revoked);
        }
        state.checked = caller.generation();
        state.caller = caller;
        Ok(())
    }

    /// Runs `work` for as long as access is granted.
    pub(super) async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, Revoked> {
        let mut changed = self.access.changed();
        self.check()?;
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                Ok(()) = changed.changed() => self.check()?,
                done = work.as_mut() => return Ok(done),
            }
        }
    }

    /// Cuts the body when access ends, so that no caller takes the part for the whole.
    pub(super) fn guard(self: Arc<Self>, body: Body) -> Body {
        let Body::Stream(chunks, length) = body else { return body };
        let guarded = stream::try_unfold((chunks, self), |(mut chunks, live_access)| async move {
            match live_access.run(chunks.next()).await? {
                Some(chunk) => chunk.map(|chunk| Some((chunk, (chunks, live_access)))),
                None => Ok::<_, Failure>(None),
            }
        });
        Body::Stream(Box::pin(guarded), length)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use packs_schema::agent::grants::Verb;
    use packs_schema::base::name::Principal;

    use super::*;
    use crate::health::Health;

    /// Returns grants.toml with the verb read on some actions.
    fn grants(actions: &str) -> String {
        format!("[[grant]]\nprincipal = \"spiffe://x/ann\"\nverbs = [\"read\"]\nactions = [{actions:?}]\n")
    }

    /// Changes the grants after the first chunk of a stream; returns the second one, which is ready by then, or the error.
    async fn second_piece_after(change: &str) -> Result<Bytes, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("grants.toml");
        std::fs::write(&path, grants("linux.*")).unwrap();
        let access = Arc::new(Access::load(&path, Arc::new(Health::default())).unwrap());
        let registry = Arc::new(Registry::new(dir.path().join("packs")));
        let caller = access.enter(Principal::new("spiffe://x/ann").unwrap(), &[Verb::Read]).unwrap();
        let live_access = Arc::new(LiveAccess::new(access.clone(), registry, caller));
        live_access.require(&ActionRef::new("linux.disk").unwrap());
        let pieces = stream::iter(["one", "two"].map(|piece| Ok::<_, Failure>(Bytes::from(piece))));
        let Body::Stream(mut pieces, _) = live_access.guard(Body::stream(pieces, None)) else {
            panic!("it is a stream")
        };
        assert_eq!(pieces.next().await.unwrap().unwrap(), "one");
        crate::site_file::replace(&path, change);
        access.check_for_changes();
        pieces.next().await.unwrap().map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_grant_that_changes_between_two_pieces_ends_the_stream() {
        let revoked = Err(Revoked.to_string());
        assert_eq!(second_piece_after(&grants("linux.memory")).await, revoked);
        assert_eq!(second_piece_after("# none\n").await, revoked);
        assert_eq!(second_piece_after(&grants("linux.d*")).await, Ok(Bytes::from("two")), "it still covers the action");
    }
}
