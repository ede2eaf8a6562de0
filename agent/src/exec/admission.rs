//! Who may run now, who waits, and who is refused: counting only, no files and no clock.
//!
//! ```text
//!            ┌── full, busy, too often ──▶ refused
//!  admit ────┼── a place is free ────────▶ running ──release──▶ (next of the queue)
//!            └── else ───────────────────▶ queue, first in first out within a group
//! ```

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use packs_schema::action::{Action, WhenBusy};
use packs_schema::name::{ActionRef, ExecutionId};

/// What an execution lays claim to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    /// Its action.
    pub(super) action: ActionRef,
    /// The group that it counts for …
    pub(super) group: String,
    /// … how many of that may run at once …
    pub(super) most: Option<u32>,
    /// … and whether it is refused when they do.
    pub(super) reject: bool,
    /// How many may be accepted within how long.
    pub(super) rate: Option<(u32, Duration)>,
}

impl Claim {
    /// What an action says.
    pub(super) fn of(action: &Action) -> Claim {
        let concurrency = action.concurrency.as_ref();
        Claim {
            action: action.reference(),
            group: action.group(),
            most: concurrency.map(|c| c.max),
            reject: concurrency.is_some_and(|c| c.when_busy == WhenBusy::Reject),
            rate: action.rate.map(|rate| (rate.max, rate.per.0)),
        }
    }

    /// For an action whose definition is gone.
    pub(super) fn bare(action: &ActionRef) -> Claim {
        Claim { action: action.clone(), group: action.to_string(), most: None, reject: false, rate: None }
    }
}

/// Why an execution is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    /// Too many wait.
    QueueFull,
    /// The group is busy and does not queue.
    Busy,
    /// Too many were accepted; one may be again after this time.
    TooOften(Duration),
}

/// Where an execution was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placed {
    /// It is to be started.
    Run,
    /// It waits.
    Wait,
}

/// The counts.
#[derive(Debug)]
pub(super) struct Board {
    max_running: u32,
    max_queued: u32,
    running: HashMap<ExecutionId, String>,
    groups: HashMap<String, u32>,
    queue: VecDeque<(ExecutionId, Claim)>,
    accepted: HashMap<ActionRef, VecDeque<u64>>,
}

impl Board {
    pub(super) fn new(max_running: u32, max_queued: u32) -> Board {
        Board {
            max_running,
            max_queued,
            running: HashMap::new(),
            groups: HashMap::new(),
            queue: VecDeque::new(),
            accepted: HashMap::new(),
        }
    }

    /// Gives an execution its place.
    pub(super) fn admit(&mut self, id: &ExecutionId, claim: Claim, now_ms: u64) -> Result<Placed, Refused> {
        let waits = !self.is_free(&claim);
        if waits && claim.reject && !self.group_is_free(&claim) {
            return Err(Refused::Busy);
        }
        if waits && self.queued() >= self.max_queued {
            return Err(Refused::QueueFull);
        }
        self.count_rate(&claim, now_ms)?;
        if waits {
            self.queue.push_back((id.clone(), claim));
            Ok(Placed::Wait)
        } else {
            self.adopt_running(id, &claim);
            Ok(Placed::Run)
        }
    }

    /// Counts an execution that runs already.
    pub(super) fn adopt_running(&mut self, id: &ExecutionId, claim: &Claim) {
        if self.running.insert(id.clone(), claim.group.clone()).is_none() {
            *self.groups.entry(claim.group.clone()).or_default() += 1;
        }
    }

    /// Puts an execution of before a restart back in the queue, whatever its length.
    pub(super) fn adopt_waiting(&mut self, id: &ExecutionId, claim: Claim) {
        self.queue.push_back((id.clone(), claim));
    }

    /// Takes an execution out, wherever it is.
    pub(super) fn release(&mut self, id: &ExecutionId) {
        if let Some(group) = self.running.remove(id) {
            if let Some(count) = self.groups.get_mut(&group) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.groups.remove(&group);
                }
            }
        } else {
            self.queue.retain(|(waiting, _)| waiting != id);
        }
    }

    /// Those of the queue that may run now; they count as running from here on.
    pub(super) fn next(&mut self) -> Vec<ExecutionId> {
        let mut started = Vec::new();
        let mut at = 0;
        while at < self.queue.len() && self.running() < self.max_running {
            if self.has_place(&self.queue[at].1) {
                if let Some((id, claim)) = self.queue.remove(at) {
                    self.adopt_running(&id, &claim);
                    started.push(id);
                }
            } else {
                at += 1;
            }
        }
        started
    }

    /// True until the first count of an action's rate: what was accepted before a restart is to be told first.
    pub(super) fn needs_past(&self, action: &ActionRef) -> bool {
        !self.accepted.contains_key(action)
    }

    /// Tells when an action's executions were accepted before a restart.
    pub(super) fn tell_past(&mut self, action: &ActionRef, times_ms: Vec<u64>) {
        self.accepted.entry(action.clone()).or_insert_with(|| times_ms.into());
    }

    /// True if the execution has a place.
    pub(super) fn is_running(&self, id: &ExecutionId) -> bool {
        self.running.contains_key(id)
    }

    /// How many run.
    pub(super) fn running(&self) -> u32 {
        u32::try_from(self.running.len()).unwrap_or(u32::MAX)
    }

    /// How many wait.
    pub(super) fn queued(&self) -> u32 {
        u32::try_from(self.queue.len()).unwrap_or(u32::MAX)
    }

    fn is_free(&self, claim: &Claim) -> bool {
        self.running() < self.max_running && self.group_is_free(claim)
    }

    /// Room in the group, and nobody of it who came before.
    fn group_is_free(&self, claim: &Claim) -> bool {
        self.has_place(claim) && (claim.most.is_none() || !self.queue.iter().any(|(_, c)| c.group == claim.group))
    }

    fn has_place(&self, claim: &Claim) -> bool {
        claim.most.is_none_or(|most| self.groups.get(&claim.group).copied().unwrap_or(0) < most)
    }

    fn count_rate(&mut self, claim: &Claim, now_ms: u64) -> Result<(), Refused> {
        let Some((max, per)) = claim.rate else { return Ok(()) };
        let per_ms = u64::try_from(per.as_millis()).unwrap_or(u64::MAX);
        let times = self.accepted.entry(claim.action.clone()).or_default();
        while times.front().is_some_and(|at| at.saturating_add(per_ms) <= now_ms) {
            times.pop_front();
        }
        if times.len() >= max as usize {
            let frees_ms = times.front().map_or(now_ms, |at| at.saturating_add(per_ms));
            return Err(Refused::TooOften(Duration::from_millis(frees_ms.saturating_sub(now_ms))));
        }
        times.push_back(now_ms);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> ExecutionId {
        ExecutionId::new(format!("01932c07-1f4e-7c61-b4b0-6e1d4cf1b2{n:02x}")).unwrap()
    }

    fn claim(action: &str, most: Option<u32>) -> Claim {
        Claim { most, ..Claim::bare(&ActionRef::new(action).unwrap()) }
    }

    #[test]
    fn a_full_agent_queues_and_a_full_queue_refuses() {
        let mut board = Board::new(1, 1);
        let any = claim("linux.a", None);
        assert_eq!(board.admit(&id(1), any.clone(), 0), Ok(Placed::Run));
        assert_eq!(board.admit(&id(2), any.clone(), 0), Ok(Placed::Wait));
        assert_eq!(board.admit(&id(3), any.clone(), 0), Err(Refused::QueueFull));
        board.release(&id(1));
        assert_eq!(board.next(), [id(2)]);
        assert_eq!(board.admit(&id(3), any, 0), Ok(Placed::Wait));
        assert_eq!((board.running(), board.queued()), (1, 1));
    }

    #[test]
    fn a_group_is_first_in_first_out_and_does_not_hold_up_others() {
        let mut board = Board::new(8, 8);
        let one = claim("cassandra.a", Some(1));
        assert_eq!(board.admit(&id(1), one.clone(), 0), Ok(Placed::Run));
        assert_eq!(board.admit(&id(2), one.clone(), 0), Ok(Placed::Wait));
        assert_eq!(board.admit(&id(3), one.clone(), 0), Ok(Placed::Wait));
        assert_eq!(board.admit(&id(4), claim("linux.b", Some(1)), 0), Ok(Placed::Run));
        assert!(board.next().is_empty());
        board.release(&id(1));
        // Between the release and the next start nobody slips in.
        assert_eq!(board.admit(&id(5), one, 0), Ok(Placed::Wait));
        assert_eq!(board.next(), [id(2)]);
        board.release(&id(3));
        board.release(&id(2));
        assert_eq!(board.next(), [id(5)]);
    }

    #[test]
    fn a_group_that_rejects_says_busy() {
        let mut board = Board::new(8, 8);
        let one = Claim { reject: true, ..claim("cassandra.a", Some(1)) };
        assert_eq!(board.admit(&id(1), one.clone(), 0), Ok(Placed::Run));
        assert_eq!(board.admit(&id(2), one.clone(), 0), Err(Refused::Busy));
        board.release(&id(1));
        assert_eq!(board.admit(&id(2), one, 0), Ok(Placed::Run));
    }

    #[test]
    fn a_rate_counts_what_was_accepted_also_before_a_restart() {
        let mut board = Board::new(8, 8);
        let rated = Claim { rate: Some((2, Duration::from_secs(10))), ..claim("linux.a", None) };
        assert!(board.needs_past(&rated.action));
        board.tell_past(&rated.action, vec![1_000]);
        assert_eq!(board.admit(&id(1), rated.clone(), 2_000), Ok(Placed::Run));
        assert_eq!(board.admit(&id(2), rated.clone(), 3_000), Err(Refused::TooOften(Duration::from_secs(8))));
        assert_eq!(board.admit(&id(2), rated, 11_000), Ok(Placed::Run));
    }
}
