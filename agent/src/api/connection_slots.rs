//! Slots for connections of callers whose certificate was verified: `api.max_connections` of them.
//!
//! One principal has at most three quarters of them, so that a caller who opens connections and is slow on all of them keeps
//! no other caller out. Up to [`MAX_WAITING`] further callers wait for a slot, for [`MAX_WAIT`]; the others are closed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use packs_schema::base::name::Principal;
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
    /// Slots that each principal with a connection may still take; certificates without one are together.
    shares: Arc<Mutex<BTreeMap<Option<Principal>, Weak<Semaphore>>>>,
    /// Maximum number of slots of one principal.
    share: usize,
}

/// Slot of a connection, until this is dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    _share: OwnedSemaphorePermit,
    _free: OwnedSemaphorePermit,
}

impl ConnectionSlots {
    pub(super) fn new(count: usize) -> ConnectionSlots {
        ConnectionSlots {
            free: Arc::new(Semaphore::new(count)),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            shares: Arc::default(),
            share: count - count / 4,
        }
    }

    /// Acquires a slot, and waits for one if necessary. `None`: none was released in time, or too many callers wait already.
    pub(super) async fn acquire(&self, principal: Option<&Principal>) -> Option<ConnectionSlot> {
        let share = self.share_of(principal);
        if let Ok(own) = share.clone().try_acquire_owned()
            && let Ok(slot) = self.free.clone().try_acquire_owned()
        {
            return Some(ConnectionSlot { _share: own, _free: slot });
        }
        let _waits = self.waiting.try_acquire().ok()?;
        let both = async {
            let own = share.acquire_owned().await.ok()?;
            Some(ConnectionSlot { _share: own, _free: self.free.clone().acquire_owned().await.ok()? })
        };
        tokio::time::timeout(MAX_WAIT, both).await.ok()?
    }

    /// Returns the share of a principal; it lives as long as a connection, or a caller who waits, has a part of it.
    fn share_of(&self, principal: Option<&Principal>) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let key = principal.cloned();
        if let Some(share) = shares.get(&key).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(self.share));
        shares.insert(key, Arc::downgrade(&share));
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_principal_leaves_slots_for_the_others() {
        let slots = ConnectionSlots::new(8);
        let [ann, bob] = ["spiffe://x/ann", "spiffe://x/bob"].map(|uri| Principal::new(uri).unwrap());
        let mut taken = Vec::new();
        for _ in 0..6 {
            taken.push(slots.acquire(Some(&ann)).await.unwrap());
        }
        let (again, ann_again) = (slots.clone(), ann.clone());
        let waits = tokio::spawn(async move { again.acquire(Some(&ann_again)).await });
        while slots.waiting.available_permits() == MAX_WAITING {
            assert!(!waits.is_finished(), "it has a seventh slot");
            tokio::task::yield_now().await;
        }
        assert_eq!(slots.free.available_permits(), 2);
        let other = slots.acquire(Some(&bob)).await.unwrap();
        taken.pop();
        let seventh = waits.await.unwrap().unwrap();
        drop((taken, seventh, other));
        // Nothing is kept of principals without a connection.
        let _nobody = slots.acquire(None).await.unwrap();
        assert_eq!(slots.shares.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn callers_wait_for_a_slot_up_to_a_bounded_number() {
        let slots = ConnectionSlots::new(1);
        let first = slots.acquire(None).await.unwrap();
        let mut waiting: Vec<_> = (0..MAX_WAITING)
            .map(|_| slots.clone())
            .map(|p| tokio::spawn(async move { p.acquire(None).await }))
            .collect();
        while slots.waiting.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(slots.acquire(None).await.is_none(), "one too many");
        drop(first);
        let second = waiting.remove(0).await.unwrap();
        assert!(second.is_some());
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
