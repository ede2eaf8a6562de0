//! Who may run now, who waits, and who is refused: counting only, no files and no clock of its own. Times are those of the
//! boot, in milliseconds; what was accepted before it has a negative one.
//!
//! ```text
//!            ┌── full, busy, too often ──▶ refused
//!  admit ────┼── a place is free ────────▶ running ──release──▶ (next of the queue)
//!            └── else ───────────────────▶ queue, first in first out within a group
//! ```
//!
//! Places belong to executions that have not ended, and to nothing else: no one is left behind. In a group whose actions
//! differ in `max` (or whose pack changed it meanwhile) the smallest of those that run and of the one that would counts, and
//! nobody overtakes one who came before.

mod forecast;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use packs_schema::agent::rest::{Waiting, WaitingReason};
use packs_schema::base::name::{ActionRef, ExecutionId};
use packs_schema::pack::action::{Action, WhenBusy};

use crate::history::Accepted;
use forecast::Forecast;

/// Maximum number of executions that an answer names as those that another one waits for.
const MAX_NAMED: usize = 16;

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
    /// The longest that it runs, when that is known.
    pub(super) timeout: Option<Duration>,
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
            timeout: Some(action.timeout()),
        }
    }

    /// For an action whose definition is gone.
    pub(super) fn bare(action: &ActionRef) -> Claim {
        Claim {
            action: action.clone(),
            group: action.to_string(),
            most: None,
            reject: false,
            rate: None,
            timeout: None,
        }
    }
}

/// Why an execution is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refused {
    /// Too many wait; a place may come free after this time.
    QueueFull(Duration),
    /// The group is busy and does not queue; a place in it may come free after this time.
    Busy(Duration),
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

/// One that runs.
#[derive(Debug)]
struct Running {
    claim: Claim,
    since_ms: i64,
}

/// The counts.
#[derive(Debug)]
pub(super) struct Board {
    max_running: u32,
    max_queued: u32,
    running: HashMap<ExecutionId, Running>,
    groups: HashMap<String, u32>,
    queue: VecDeque<(ExecutionId, Claim)>,
    accepted: HashMap<ActionRef, VecDeque<i64>>,
    forecast: Forecast,
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
            forecast: Forecast::default(),
        }
    }

    /// Gives an execution its place.
    pub(super) fn admit(&mut self, id: &ExecutionId, claim: Claim, now_ms: i64) -> Result<Placed, Refused> {
        let waits = !self.is_free(&claim);
        if waits && claim.reject && !self.group_is_free(&claim) {
            return Err(Refused::Busy(self.soonest(Some(&claim.group), now_ms)));
        }
        if waits && self.queued() >= self.max_queued {
            return Err(Refused::QueueFull(self.soonest(None, now_ms)));
        }
        self.count_rate(&claim, now_ms)?;
        if waits {
            self.queue.push_back((id.clone(), claim));
            Ok(Placed::Wait)
        } else {
            self.adopt_running(id, claim, now_ms);
            Ok(Placed::Run)
        }
    }

    /// Counts an execution that runs already, since then.
    pub(super) fn adopt_running(&mut self, id: &ExecutionId, claim: Claim, since_ms: i64) {
        let group = claim.group.clone();
        if self.running.insert(id.clone(), Running { claim, since_ms }).is_none() {
            *self.groups.entry(group).or_default() += 1;
        }
    }

    /// Puts an execution of before a restart back in the queue, whatever its length.
    pub(super) fn adopt_waiting(&mut self, id: &ExecutionId, claim: Claim) {
        self.queue.push_back((id.clone(), claim));
    }

    /// Takes an execution out, wherever it is.
    pub(super) fn release(&mut self, id: &ExecutionId) {
        if let Some(Running { claim, .. }) = self.running.remove(id) {
            if let Some(count) = self.groups.get_mut(&claim.group) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.groups.remove(&claim.group);
                }
            }
        } else {
            self.queue.retain(|(waiting, _)| waiting != id);
        }
    }

    /// Those of the queue that may run now; they count as running from here on.
    pub(super) fn next(&mut self, now_ms: i64) -> Vec<ExecutionId> {
        let mut started = Vec::new();
        let mut held_up = HashSet::new();
        let mut at = 0;
        while at < self.queue.len() && self.running() < self.max_running {
            let claim = &self.queue[at].1;
            // Nobody overtakes one of his group, even if his own `max` would let him.
            let overtakes = claim.most.is_some() && held_up.contains(&claim.group);
            if !overtakes && self.has_place(claim) {
                if let Some((id, claim)) = self.queue.remove(at) {
                    self.adopt_running(&id, claim, now_ms);
                    started.push(id);
                }
            } else {
                held_up.insert(claim.group.clone());
                at += 1;
            }
        }
        started
    }

    /// An execution of `action` took so long from start to end.
    pub(super) fn learn(&mut self, action: &ActionRef, took: Duration) {
        self.forecast.learn(action, took);
    }

    /// When the first of those that run, or of those in the group, may have ended.
    fn soonest(&self, group: Option<&str>, now_ms: i64) -> Duration {
        let there = self.running.values().filter(|running| group.is_none_or(|group| running.claim.group == group));
        let left = there.map(|Running { claim, since_ms }| {
            let ran = Duration::from_millis(u64::try_from(now_ms.saturating_sub(*since_ms)).unwrap_or(0));
            self.forecast.left(&claim.action, claim.timeout, ran)
        });
        forecast::bounded(left.min())
    }

    /// True until the first count of an action's rate: what was accepted before a restart is to be told first.
    pub(super) fn needs_past(&self, action: &ActionRef) -> bool {
        !self.accepted.contains_key(action)
    }

    /// Tells when an action's executions were accepted before a restart.
    pub(super) fn tell_past(&mut self, action: &ActionRef, mut times_ms: Vec<i64>) {
        times_ms.sort_unstable();
        self.accepted.entry(action.clone()).or_insert_with(|| times_ms.into());
    }

    /// True if the execution has a place.
    pub(super) fn is_running(&self, id: &ExecutionId) -> bool {
        self.running.contains_key(id)
    }

    /// What an execution without a place waits for, or that the launcher has been asked to start it. Names at most
    /// [`MAX_NAMED`] of the executions that hold the slots, of actions that are `visible`.
    pub(super) fn waiting(&self, id: &ExecutionId, visible: impl Fn(&ActionRef) -> bool) -> Option<Waiting> {
        if self.is_running(id) {
            let (running, max) = (self.running(), self.max_running);
            return Some(Waiting {
                reason: WaitingReason::Launcher,
                group: None,
                running,
                max,
                ahead: 0,
                behind: Vec::new(),
            });
        }
        let at = self.queue.iter().position(|(waiting, _)| waiting == id)?;
        let claim = &self.queue[at].1;
        let of_group = |other: &Claim| other.group == claim.group;
        let ahead_in_group = self.queue.iter().take(at).filter(|(_, other)| of_group(other)).count();
        let waits_for_group = !self.has_place(claim) || (claim.most.is_some() && ahead_in_group > 0);
        let holders = self.running.iter().filter(|(_, running)| !waits_for_group || of_group(&running.claim));
        let seen = holders.clone().filter(|(_, running)| visible(&running.claim.action));
        let mut behind: Vec<ExecutionId> = seen.map(|(id, _)| id.clone()).collect();
        behind.sort();
        behind.truncate(MAX_NAMED);
        let most = if waits_for_group { self.limit_of(claim).unwrap_or(self.max_running) } else { self.max_running };
        let ahead = if waits_for_group { ahead_in_group } else { at };
        Some(Waiting {
            reason: if waits_for_group { WaitingReason::Group } else { WaitingReason::Slot },
            group: claim.most.map(|_| claim.group.clone()),
            running: u32::try_from(holders.count()).unwrap_or(u32::MAX),
            max: most,
            ahead: u32::try_from(ahead).unwrap_or(u32::MAX),
            behind,
        })
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
        let Some(most) = self.limit_of(claim) else { return true };
        self.groups.get(&claim.group).copied().unwrap_or(0) < most
    }

    /// How many of the group may run: the smallest limit among those that run and `claim`.
    fn limit_of(&self, claim: &Claim) -> Option<u32> {
        let own = claim.most?;
        let theirs = self.running.values().filter(|running| running.claim.group == claim.group);
        Some(theirs.filter_map(|running| running.claim.most).min().map_or(own, |most| most.min(own)))
    }

    fn count_rate(&mut self, claim: &Claim, now_ms: i64) -> Result<(), Refused> {
        let Some((max, per)) = claim.rate else { return Ok(()) };
        let per_ms = i64::try_from(per.as_millis()).unwrap_or(i64::MAX);
        let times = self.accepted.entry(claim.action.clone()).or_default();
        while times.front().is_some_and(|at| at.saturating_add(per_ms) <= now_ms) {
            times.pop_front();
        }
        let max = max as usize;
        if times.len() >= max {
            // A place comes free when fewer than `max` are left.
            let frees_ms = times
                .len()
                .checked_sub(max)
                .and_then(|at| times.get(at))
                .map_or(now_ms, |at| at.saturating_add(per_ms));
            let left_ms = u64::try_from(frees_ms.saturating_sub(now_ms)).unwrap_or(0);
            return Err(Refused::TooOften(Duration::from_millis(left_ms).min(per)));
        }
        times.push_back(now_ms);
        Ok(())
    }
}

/// When something was accepted, on the clock of this boot. What was accepted in it has that clock's time; for what was
/// before it only the wall clock tells how long ago, and no clock makes that more than `per` still to come.
pub(super) fn on_this_boot(accepted: &Accepted, boot_id: &str, now: Now) -> i64 {
    let now_ms = i64::try_from(now.boottime_ms).unwrap_or(i64::MAX);
    match &accepted.born {
        Some(born) if born.boot_id == boot_id => i64::try_from(born.boottime_ms).unwrap_or(i64::MAX).min(now_ms),
        _ => {
            let ago_ms = i64::try_from(now.wall_ms.saturating_sub(accepted.at_ms)).unwrap_or(i64::MAX);
            // It was before this boot, at the latest as it began.
            now_ms.saturating_sub(ago_ms).min(0)
        }
    }
}

/// What the clocks say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// Milliseconds since 1970.
    pub(super) wall_ms: u64,
    /// Milliseconds since the host started.
    pub(super) boottime_ms: u64,
}
