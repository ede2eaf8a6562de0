//! Slots for connections of callers whose certificate was verified: `api.max_connections` of them.
//!
//! Up to [`MAX_WAITING`] further callers wait for a slot, for [`MAX_WAIT`]; the others are closed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Maximum number of callers that wait for a slot.
const MAX_WAITING: usize = 64;
/// Maximum time that a caller waits.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Connection slots. Waiting callers hold a socket each, separate from handshakes, which other peers could evict.
#[derive(Debug, Clone)]
pub(super) struct ConnectionSlots {
    free: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl ConnectionSlots {
    pub(super) fn new(count: usize) -> ConnectionSlots {
        ConnectionSlots { free: Arc::new(Semaphore::new(count)), waiting: Arc::new(Semaphore::new(MAX_WAITING)) }
    }

    /// Acquires a slot, and waits for one if necessary. `None`: none was released in time, or too many callers wait already.
    pub(super) async fn acquire(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(slot) = self.free.clone().try_acquire_owned() {
            return Some(slot);
        }
        let _waits = self.waiting.try_acquire().ok()?;
        tokio::time::timeout(MAX_WAIT, self.free.clone().acquire_owned()).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn callers_wait_for_a_slot_up_to_a_bounded_number() {
        let slots = ConnectionSlots::new(1);
        let first = slots.acquire().await.unwrap();
        let mut waiting: Vec<_> =
            (0..MAX_WAITING).map(|_| slots.clone()).map(|p| tokio::spawn(async move { p.acquire().await })).collect();
        while slots.waiting.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(slots.acquire().await.is_none(), "one too many");
        drop(first);
        let second = waiting.remove(0).await.unwrap();
        assert!(second.is_some());
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
