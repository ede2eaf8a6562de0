//! Places among the connections, for callers whose certificate was verified.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Maximum number of callers that wait for a place.
const WAITING: usize = 64;
/// Time that one waits.
const PATIENCE: Duration = Duration::from_secs(30);

/// The places. Waiting ones hold a socket each, apart from handshakes, which others could evict.
#[derive(Debug, Clone)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Places {
    pub(super) fn new(count: usize) -> Places {
        Places { free: Arc::new(Semaphore::new(count)), waiting: Arc::new(Semaphore::new(WAITING)) }
    }

    /// Takes a place, and waits for one if need be. `None`: none came free in time, or too many wait already.
    pub(super) async fn take(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = self.free.clone().try_acquire_owned() {
            return Some(place);
        }
        let _waits = self.waiting.try_acquire().ok()?;
        tokio::time::timeout(PATIENCE, self.free.clone().acquire_owned()).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn callers_wait_for_a_place_and_no_more_than_a_bounded_number() {
        let places = Places::new(1);
        let first = places.take().await.unwrap();
        let mut waiting: Vec<_> =
            (0..WAITING).map(|_| places.clone()).map(|p| tokio::spawn(async move { p.take().await })).collect();
        while places.waiting.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(places.take().await.is_none(), "one too many");
        drop(first);
        let second = waiting.remove(0).await.unwrap();
        assert!(second.is_some());
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
