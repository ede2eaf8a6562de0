//! Admission control: slots, queue, concurrency groups and rates. Counts only; has no files and no clock of its own. Times are
//! `CLOCK_BOOTTIME` in milliseconds; an acceptance from before the boot has a negative one.
//!
//! ```text
//!            ┌── queue full, group busy, rate exceeded ──▶ rejected
//!  admit ────┼── a slot is free ─────────────────────────▶ running ──release──▶ (next of the queue)
//!            └── else ───────────────────────────────────▶ queue, first in first out within a group
//! ```
//!
//! Slots belong to executions that have not ended, so none leaks. If the actions of a group differ in `max` (or a new version
//! of the pack changed it), the smallest `max` of the running ones and of the candidate applies, and no execution overtakes an
//! earlier one of its group.

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

/// Limits that an execution counts against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AdmissionRules {
    /// Action.
    pub(super) action: ActionRef,
    /// Concurrency group.
    pub(super) group: String,
    /// Maximum number of running executions in the group.
    pub(super) max: Option<u32>,
    /// True if the execution is rejected instead of queued while the group is busy.
    pub(super) reject: bool,
    /// Maximum number of acceptances within a time.
    pub(super) rate: Option<(u32, Duration)>,
    /// Time-out of the action, when it is known.
    pub(super) timeout: Option<Duration>,
}

impl AdmissionRules {
    /// Returns the rules in an action's definition.
    pub(super) fn of(action: &Action) -> AdmissionRules {
        let concurrency = action.concurrency.as_ref();
        AdmissionRules {
            action: action.reference(),
            group: action.group(),
            max: concurrency.map(|c| c.max),
            reject: concurrency.is_some_and(|c| c.when_busy == WhenBusy::Reject),
            rate: action.rate.map(|rate| (rate.max, rate.per.0)),
            timeout: Some(action.timeout()),
        }
    }

    /// Returns rules without limits, for an action whose definition no longer exists.
    pub(super) fn unrestricted(action: &ActionRef) -> AdmissionRules {
        AdmissionRules {
            action: action.clone(),
            group: action.to_string(),
            max: None,
            reject: false,
            rate: None,
            timeout: None,
        }
    }
}

/// Reason why an execution is not accepted, with the time after which it may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rejection {
    /// The queue is full.
    QueueFull(Duration),
    /// The group is busy, and its action does not queue.
    Busy(Duration),
    /// The rate of the action is exceeded.
    RateExceeded(Duration),
}

/// Slot or queue, given to an accepted execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admitted {
    /// A slot: start it.
    Run,
    /// The queue.
    Wait,
}

/// Execution with a slot.
#[derive(Debug)]
struct Running {
    rules: AdmissionRules,
    since_ms: i64,
}

/// Slots and queue of the agent.
#[derive(Debug)]
pub(super) struct Slots {
    max_running: u32,
    max_queued: u32,
    running: HashMap<ExecutionId, Running>,
    /// Number of running executions per group.
    groups: HashMap<String, u32>,
    queue: VecDeque<(ExecutionId, AdmissionRules)>,
    /// Times of acceptance within the period of the rate, per action that has one.
    accepted: HashMap<ActionRef, VecDeque<i64>>,
    forecast: Forecast,
}

impl Slots {
    pub(super) fn new(max_running: u32, max_queued: u32) -> Slots {
        Slots {
            max_running,
            max_queued,
            running: HashMap::new(),
            groups: HashMap::new(),
            queue: VecDeque::new(),
            accepted: HashMap::new(),
            forecast: Forecast::default(),
        }
    }

    /// Admits an execution: gives it a slot or puts it into the queue.
    pub(super) fn admit(
        &mut self,
        id: &ExecutionId,
        rules: AdmissionRules,
        now_ms: i64,
    ) -> Result<Admitted, Rejection> {
        let waits = !self.is_free(&rules);
        if waits && rules.reject && !self.group_is_free(&rules) {
            return Err(Rejection::Busy(self.soonest(Some(&rules.group), now_ms)));
        }
        if waits && self.queued() >= self.max_queued {
            return Err(Rejection::QueueFull(self.soonest(None, now_ms)));
        }
        self.count_rate(&rules, now_ms)?;
        if waits {
            self.queue.push_back((id.clone(), rules));
            Ok(Admitted::Wait)
        } else {
            self.resume_running(id, rules, now_ms);
            Ok(Admitted::Run)
        }
    }

    /// Gives a slot to an execution that has been running since `since_ms`.
    pub(super) fn resume_running(&mut self, id: &ExecutionId, rules: AdmissionRules, since_ms: i64) {
        let group = rules.group.clone();
        if self.running.insert(id.clone(), Running { rules, since_ms }).is_none() {
            *self.groups.entry(group).or_default() += 1;
        }
    }

    /// Queues an execution from before a restart, also beyond the limit of the queue.
    pub(super) fn requeue(&mut self, id: &ExecutionId, rules: AdmissionRules) {
        self.queue.push_back((id.clone(), rules));
    }

    /// Removes an execution from its slot or the queue.
    pub(super) fn release(&mut self, id: &ExecutionId) {
        if let Some(Running { rules, .. }) = self.running.remove(id) {
            if let Some(count) = self.groups.get_mut(&rules.group) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.groups.remove(&rules.group);
                }
            }
        } else {
            self.queue.retain(|(waiting, _)| waiting != id);
        }
    }

    /// Moves executions from the queue to free slots and returns them.
    pub(super) fn take_ready(&mut self, now_ms: i64) -> Vec<ExecutionId> {
        let mut started = Vec::new();
        let mut held_up = HashSet::new();
        let mut at = 0;
        while at < self.queue.len() && self.running() < self.max_running {
            let rules = &self.queue[at].1;
            // No execution overtakes an earlier one of its group, even if its own `max` would allow it.
            let overtakes = rules.max.is_some() && held_up.contains(&rules.group);
            if !overtakes && self.group_has_slot(rules) {
                if let Some((id, rules)) = self.queue.remove(at) {
                    self.resume_running(&id, rules, now_ms);
                    started.push(id);
                }
            } else {
                held_up.insert(rules.group.clone());
                at += 1;
            }
        }
        started
    }

    /// Records how long an execution of `action` took, for forecasts.
    pub(super) fn learn(&mut self, action: &ActionRef, took: Duration) {
        self.forecast.learn(action, took);
    }

    /// Estimates when the first running execution (of the group, if one is given) ends.
    fn soonest(&self, group: Option<&str>, now_ms: i64) -> Duration {
        let running = self.running.values().filter(|running| group.is_none_or(|group| running.rules.group == group));
        let remaining = running.map(|Running { rules, since_ms }| {
            let ran = Duration::from_millis(u64::try_from(now_ms.saturating_sub(*since_ms)).unwrap_or(0));
            self.forecast.remaining(&rules.action, rules.timeout, ran)
        });
        forecast::clamp(remaining.min())
    }

    /// True until [`set_past_acceptances`](Self::set_past_acceptances) was called for the action.
    pub(super) fn lacks_past_acceptances(&self, action: &ActionRef) -> bool {
        !self.accepted.contains_key(action)
    }

    /// Sets when an action's executions were accepted before the restart.
    pub(super) fn set_past_acceptances(&mut self, action: &ActionRef, mut times_ms: Vec<i64>) {
        times_ms.sort_unstable();
        self.accepted.entry(action.clone()).or_insert_with(|| times_ms.into());
    }

    /// Returns what an execution without a slot waits for, or that the launcher has been asked to start it. Names at most
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
        let rules = &self.queue[at].1;
        let in_group = |other: &AdmissionRules| other.group == rules.group;
        let ahead_in_group = self.queue.iter().take(at).filter(|(_, other)| in_group(other)).count();
        let waits_for_group = !self.group_has_slot(rules) || (rules.max.is_some() && ahead_in_group > 0);
        let holders = self.running.iter().filter(|(_, running)| !waits_for_group || in_group(&running.rules));
        let named = holders.clone().filter(|(_, running)| visible(&running.rules.action));
        let mut behind: Vec<ExecutionId> = named.map(|(id, _)| id.clone()).collect();
        behind.sort();
        behind.truncate(MAX_NAMED);
        let max = if waits_for_group { self.group_limit(rules).unwrap_or(self.max_running) } else { self.max_running };
        let ahead = if waits_for_group { ahead_in_group } else { at };
        Some(Waiting {
            reason: if waits_for_group { WaitingReason::Group } else { WaitingReason::Slot },
            group: rules.max.map(|_| rules.group.clone()),
            running: u32::try_from(holders.count()).unwrap_or(u32::MAX),
            max,
            ahead: u32::try_from(ahead).unwrap_or(u32::MAX),
            behind,
        })
    }

    /// True if the execution has a slot.
    pub(super) fn is_running(&self, id: &ExecutionId) -> bool {
        self.running.contains_key(id)
    }

    /// Number of running executions.
    pub(super) fn running(&self) -> u32 {
        u32::try_from(self.running.len()).unwrap_or(u32::MAX)
    }

    /// Number of queued executions.
    pub(super) fn queued(&self) -> u32 {
        u32::try_from(self.queue.len()).unwrap_or(u32::MAX)
    }

    fn is_free(&self, rules: &AdmissionRules) -> bool {
        self.running() < self.max_running && self.group_is_free(rules)
    }

    /// True if the group has a slot and no earlier execution of it is queued.
    fn group_is_free(&self, rules: &AdmissionRules) -> bool {
        self.group_has_slot(rules) && (rules.max.is_none() || !self.queue.iter().any(|(_, c)| c.group == rules.group))
    }

    fn group_has_slot(&self, rules: &AdmissionRules) -> bool {
        let Some(max) = self.group_limit(rules) else { return true };
        self.groups.get(&rules.group).copied().unwrap_or(0) < max
    }

    /// Returns the maximum of a group: the smallest among its running executions and `rules`.
    fn group_limit(&self, rules: &AdmissionRules) -> Option<u32> {
        let own = rules.max?;
        let members = self.running.values().filter(|running| running.rules.group == rules.group);
        Some(members.filter_map(|running| running.rules.max).min().map_or(own, |max| max.min(own)))
    }

    fn count_rate(&mut self, rules: &AdmissionRules, now_ms: i64) -> Result<(), Rejection> {
        let Some((max, per)) = rules.rate else { return Ok(()) };
        let per_ms = i64::try_from(per.as_millis()).unwrap_or(i64::MAX);
        let times = self.accepted.entry(rules.action.clone()).or_default();
        while times.front().is_some_and(|at| at.saturating_add(per_ms) <= now_ms) {
            times.pop_front();
        }
        let max = max as usize;
        if times.len() >= max {
            // Another is accepted when fewer than `max` are within the period.
            let frees_ms = times
                .len()
                .checked_sub(max)
                .and_then(|at| times.get(at))
                .map_or(now_ms, |at| at.saturating_add(per_ms));
            let left_ms = u64::try_from(frees_ms.saturating_sub(now_ms)).unwrap_or(0);
            return Err(Rejection::RateExceeded(Duration::from_millis(left_ms).min(per)));
        }
        times.push_back(now_ms);
        Ok(())
    }
}

/// Converts a time of acceptance to `CLOCK_BOOTTIME` of this boot, in milliseconds. An acceptance in this boot has that time.
/// For an earlier one only the wall clock tells how long ago it was; it was before this boot in any case, so no clock setting
/// makes a caller wait longer than the period of the rate.
pub(super) fn on_this_boot(accepted: &Accepted, boot_id: &str, now: Now) -> i64 {
    let now_ms = i64::try_from(now.boottime_ms).unwrap_or(i64::MAX);
    match &accepted.boot_time {
        Some(boot_time) if boot_time.boot_id == boot_id => {
            i64::try_from(boot_time.boottime_ms).unwrap_or(i64::MAX).min(now_ms)
        }
        _ => {
            let ago_ms = i64::try_from(now.wall_ms.saturating_sub(accepted.at_ms)).unwrap_or(i64::MAX);
            // At the latest when this boot began.
            now_ms.saturating_sub(ago_ms).min(0)
        }
    }
}

/// Present time on both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// Milliseconds since 1970.
    pub(super) wall_ms: u64,
    /// Milliseconds since the boot.
    pub(super) boottime_ms: u64,
}
