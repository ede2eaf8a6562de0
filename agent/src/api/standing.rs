//! Access that is checked again while a request goes on: a wait or a stream ends when its grant is revoked.
//!
//! Each piece of a stream is preceded by a check, which is cheap while the grants have not changed; a change of the grants
//! wakes whoever waits.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt as _;
use futures_util::stream;
use packs_schema::name::ActionRef;

use super::App;
use super::body::{Body, Failure};
use super::handlers::covers;
use crate::access::Caller;

/// Error returned when the caller has lost the grant that the request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the grant for this request was revoked")]
pub(super) struct Revoked;

/// What a request's access rests on.
pub(super) struct Standing {
    app: Arc<App>,
    state: Mutex<State>,
}

struct State {
    caller: Caller,
    /// The action that a grant must cover, once it is known.
    action: Option<ActionRef>,
    /// The generation of the grants that were checked.
    checked: u64,
}

impl Standing {
    /// Begins with a caller who was just admitted.
    pub(super) fn new(app: Arc<App>, caller: Caller) -> Standing {
        let checked = caller.generation();
        Standing { app, state: Mutex::new(State { caller, action: None, checked }) }
    }

    /// From now on a grant must cover `action`.
    pub(super) fn require(&self, action: &ActionRef) {
        self.lock().action = Some(action.clone());
    }

    /// The caller, with the grants that were checked last.
    pub(super) fn caller(&self) -> Caller {
        self.lock().caller.clone()
    }

    fn check(&self) -> Result<(), Revoked> {
        let generation = self.app.access.generation();
        let mut state = self.lock();
        if state.checked == generation {
            return Ok(());
        }
        let caller = self.app.access.renew(&state.caller).ok_or(Revoked)?;
        if let Some(action) = &state.action
            && !covers(&self.app, &caller, action)
        {
            return Err(Revoked);
        }
        state.checked = caller.generation();
        state.caller = caller;
        Ok(())
    }

    /// Waits for `work` as long as access stands.
    pub(super) async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, Revoked> {
        let mut changed = self.app.access.changed();
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

    /// A body that breaks off when access ends, so that nobody takes the part for the whole.
    pub(super) fn guard(self: Arc<Self>, body: Body) -> Body {
        let Body::Stream(chunks, length) = body else { return body };
        let guarded = stream::try_unfold((chunks, self), |(mut chunks, standing)| async move {
            match standing.run(chunks.next()).await? {
                Some(chunk) => chunk.map(|chunk| Some((chunk, (chunks, standing)))),
                None => Ok::<_, Failure>(None),
            }
        });
        Body::Stream(Box::pin(guarded), length)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
