//! Scheduler of the expensive steps of a handshake: key exchange and signature, and the check of a certificate.
//!
//! A few hundred bytes from any host cause the first one. All work of the api shares one thread, so steps are done one at a
//! time, and between two of them everything else that is ready runs. The next turn goes to the source of the lowest class (see
//! `table`), among equals to the newest slot: the oldest ones are evicted soon.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::ready;

use tokio::sync::{Notify, oneshot};

use super::{Handshakes, Slot};

/// Tasks that wait for a turn.
#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: Mutex<Vec<Waiting>>,
    asked: Notify,
    done: Arc<Notify>,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    turn: oneshot::Sender<Turn>,
}

/// Permission to do one step; the next one is given when this is dropped.
#[derive(Debug)]
pub(in crate::api) struct Turn(Arc<Notify>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Handshakes {
    /// Gives turns until it is aborted. Without this task no handshake continues.
    pub(in crate::api) async fn give_turns(self: Arc<Self>) {
        loop {
            self.turns.asked.notified().await;
            while let Some(next) = self.next() {
                // A task that has ended meanwhile drops the turn at once.
                let _ = next.turn.send(Turn(self.turns.done.clone()));
                self.turns.done.notified().await;
                // Everything that is ready runs first, including tasks that the network has made ready.
                tokio::task::yield_now().await;
            }
        }
    }

    fn next(&self) -> Option<Waiting> {
        let mut waiting = self.turns.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|waiting| !waiting.turn.is_closed());
        let table = self.table();
        let ids: Vec<u64> = waiting.iter().map(|waiting| waiting.id).collect();
        let at = best(&ids, |id| table.class_of_slot(id))?;
        Some(waiting.swap_remove(at))
    }

    fn ask(&self, id: u64) -> oneshot::Receiver<Turn> {
        let (turn, wait) = oneshot::channel();
        self.turns.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(Waiting { id, turn });
        self.turns.asked.notify_one();
        wait
    }
}

/// Returns the index of the id that is next.
fn best(ids: &[u64], class: impl Fn(u64) -> u32) -> Option<usize> {
    (0..ids.len()).min_by_key(|at| (class(ids[*at]), u64::MAX - ids[*at]))
}

/// Requests turns for a slot.
#[derive(Clone)]
pub(in crate::api) struct TurnRequester(Arc<Handshakes>, u64);

impl Slot {
    /// Returns a requester of turns for this slot.
    pub(in crate::api) fn requester(&self) -> TurnRequester {
        TurnRequester(self.all.clone(), self.id)
    }
}

impl TurnRequester {
    /// Waits for a turn.
    pub(in crate::api) async fn turn(&self) -> Option<Turn> {
        // An error means that the task that gives turns has ended, and the agent with it.
        self.0.ask(self.1).await.ok()
    }

    /// Runs `work`, and waits for a turn before each poll of it.
    pub(in crate::api) async fn run_by_turns<F: Future>(&self, work: F) -> F::Output {
        let mut work = pin!(work);
        let mut waiting = None;
        std::future::poll_fn(|cx| {
            let turn = waiting.get_or_insert_with(|| self.0.ask(self.1));
            let turn = ready!(Pin::new(turn).poll(cx));
            waiting = None;
            let polled = work.as_mut().poll(cx);
            drop(turn);
            polled
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::handshakes::Bounds;
    use crate::metrics::Metrics;

    fn all() -> Arc<Handshakes> {
        Handshakes::new(Bounds { total: 100, per_source: 64 }, "api", Arc::new(Metrics::default()))
    }

    fn slot(all: &Arc<Handshakes>, source: &str) -> Slot {
        all.begin(format!("{source}:1").parse().unwrap()).unwrap()
    }

    #[test]
    fn the_source_of_the_lowest_class_is_next_then_the_newest_slot() {
        assert_eq!(best(&[1, 2, 3], |_| 2), Some(2));
        assert_eq!(best(&[1, 2, 3], |id| if id == 1 { 2 } else { 7 }), Some(0));
        assert_eq!(best(&[], |_| 0), None);
    }

    #[tokio::test]
    async fn other_work_runs_between_two_steps() {
        let all = all();
        let giving = tokio::spawn(all.clone().give_turns());
        let (order, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let slots: Vec<Slot> = (1..=20).map(|n| slot(&all, &format!("192.0.2.{n}"))).collect();
        for slot in &slots {
            let (requester, order) = (slot.requester(), order.clone());
            tokio::spawn(async move { requester.run_by_turns(async { order.send("step").unwrap() }).await });
        }
        tokio::spawn(async move {
            for _ in 0..10 {
                order.send("other").unwrap();
                tokio::task::yield_now().await;
            }
        });
        let mut list = Vec::new();
        while let Some(what) = seen.recv().await {
            list.push(what);
        }
        assert_eq!(list.len(), 30);
        let last_other = list.iter().rposition(|what| *what == "other").unwrap();
        let steps_before = list[..last_other].iter().filter(|what| **what == "step").count();
        assert!(steps_before <= 11, "at most one step for each piece of other work: {list:?}");
        giving.abort();
    }

    #[tokio::test]
    async fn a_caller_without_failures_is_served_before_sixty_others() {
        let all = all();
        for _ in 0..9 {
            drop(slot(&all, "192.0.2.1"));
        }
        let mut crowd: Vec<Slot> = (0..30).map(|_| slot(&all, "192.0.2.1")).collect();
        let caller = slot(&all, "198.51.100.1");
        crowd.extend((0..30).map(|_| slot(&all, "192.0.2.1")));
        let (order, mut seen) = tokio::sync::mpsc::unbounded_channel();
        for slot in crowd.iter().chain([&caller]) {
            let (requester, order, id) = (slot.requester(), order.clone(), slot.id);
            tokio::spawn(async move { requester.run_by_turns(async { order.send(id) }).await });
        }
        // All of them ask before the first turn is given.
        tokio::task::yield_now().await;
        let giving = tokio::spawn(all.clone().give_turns());
        assert_eq!(seen.recv().await, Some(caller.id));
        giving.abort();
    }

    #[tokio::test]
    async fn a_turn_of_a_task_that_has_ended_goes_to_the_next() {
        let all = all();
        let (one, two) = (slot(&all, "192.0.2.1"), slot(&all, "192.0.2.2"));
        let gone = all.ask(two.id);
        let stays = all.ask(one.id);
        let giving = tokio::spawn(all.clone().give_turns());
        drop(gone);
        drop(stays.await.unwrap());
        // Likewise for a turn that was given and never taken.
        let gone = all.ask(two.id);
        tokio::task::yield_now().await;
        drop(gone);
        drop(all.ask(one.id).await.unwrap());
        giving.abort();
    }
}
