//! The state machine of a run, which decides each start. No I/O; time is given to it.
//!
//! ```text
//!  waiting ──Step::Start──▶ in flight ──finished──▶ done
//!     └──────────────── stopped ───────────────▶ not started
//!
//!  batch n: starts ─▶ all done ─▶ Step::Check ─▶ checked ─▶ Step::Confirm or a pause ─▶ batch n+1
//! ```
//!
//! A target of batch n+1 starts only when all of batch n are done and its check has passed. None starts once more targets
//! than a budget allows have failed or were unreachable, after the deadline, or after the caller asked to stop.
//!
//! Failures and unreachable instances have budgets of their own: a host that is down tells nothing about the action.

use std::time::Duration;

use super::outcome::{Outcome, Stopped};
use super::plan::Plan;
use super::strategy::Pause;

/// Next step of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// This target is started now.
    Start {
        /// Index of the target.
        target: usize,
        /// Index of its batch, if it is the first of it.
        first_of: Option<usize>,
    },
    /// The check runs on the targets of this batch; its end is reported with [`Progress::checked`].
    Check {
        /// Index of the batch that has ended.
        batch: usize,
    },
    /// The caller is asked whether this batch may begin; the answer is reported with [`Progress::confirmed`].
    Confirm {
        /// Index of the batch that would begin.
        batch: usize,
    },
    /// The current batch has ended, and the next one begins after this time. [`Progress::next`] goes on with [`Step::Wait`].
    Pause {
        /// Time until it begins.
        time: Duration,
    },
    /// Nothing may start before something is reported or, if there is one, before this time since the beginning of the run.
    Wait {
        /// Time at which [`Progress::next`] has another answer.
        until: Option<Duration>,
    },
    /// The run has ended.
    Done,
}

/// State of a target when a run is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Not asked to start.
    Untouched,
    /// Perhaps asked to start; no end is known.
    Started,
    /// Ended.
    Ended(Outcome),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The current batch starts, or waits for its last ends.
    Starting,
    Checking,
    /// The check after the current batch has passed.
    Checked,
    Confirming,
    Pausing {
        until: Duration,
    },
}

/// State of a run: what has started, and what may start next.
#[derive(Debug)]
pub struct Progress<'a> {
    plan: &'a Plan,
    /// State of each target before this process took over the run.
    before: Vec<Before>,
    /// Number of batches whose check passed before.
    checked_before: usize,
    rng: fastrand::Rng,
    phase: Phase,
    batch: usize,
    next: usize,
    /// Times at which the targets of the current batch may start; empty before its first start.
    start_times: Vec<Duration>,
    has_begun: bool,
    in_flight: usize,
    failures: usize,
    batch_failures: usize,
    unreachable: usize,
    stopped: Option<Stopped>,
}

impl<'a> Progress<'a> {
    /// Returns the state before the first start. `seed` decides the random delays.
    pub fn new(plan: &'a Plan, seed: u64) -> Progress<'a> {
        Progress {
            plan,
            before: vec![Before::Untouched; plan.targets()],
            checked_before: 0,
            rng: fastrand::Rng::with_seed(seed),
            phase: Phase::Starting,
            batch: 0,
            next: 0,
            start_times: Vec::new(),
            has_begun: false,
            in_flight: 0,
            failures: 0,
            batch_failures: 0,
            unreachable: 0,
            stopped: None,
        }
    }

    /// Takes over a run. Targets that have ended count against the budgets and are not started again; those that were started
    /// are, since the idempotency key makes that harmless. The checks of the first `checked` batches have passed.
    pub fn resume(plan: &'a Plan, seed: u64, before: &[Before], checked: usize) -> Progress<'a> {
        let mut progress = Progress::new(plan, seed);
        progress.checked_before = checked;
        progress.before.iter_mut().zip(before).for_each(|(own, before)| *own = *before);
        let count = |wanted| before.iter().filter(|target| **target == Before::Ended(wanted)).count();
        (progress.failures, progress.unreachable) = (count(Outcome::Failed), count(Outcome::Unreachable));
        progress.batch_failures = progress.failed_before(0);
        progress.stopped = progress.exceeded();
        progress
    }

    /// Returns what to do at `now`, the time since the beginning of the run. Each call but one that returns [`Step::Wait`] or
    /// [`Step::Done`] changes the state: what is returned has to be done.
    pub fn next(&mut self, now: Duration) -> Step {
        loop {
            if self.stopped.is_none() && self.deadline().is_some_and(|deadline| now >= deadline) && !self.is_over() {
                self.stopped = Some(Stopped::Deadline);
            }
            if self.stopped.is_some() || self.is_over() {
                return if self.in_flight > 0 { Step::Wait { until: None } } else { Step::Done };
            }
            match self.phase {
                Phase::Checking | Phase::Confirming => return Step::Wait { until: self.deadline() },
                Phase::Checked => {
                    if let Some(step) = self.pause(now) {
                        return step;
                    }
                }
                Phase::Pausing { until } if now < until => return self.wait_until(until),
                Phase::Pausing { .. } => self.begin_batch(),
                Phase::Starting => {
                    if let Some(step) = self.next_of_batch(now) {
                        return step;
                    }
                }
            }
        }
    }

    /// Returns the next step within the current batch; `None` when its end was passed and the state has changed.
    fn next_of_batch(&mut self, now: Duration) -> Option<Step> {
        let targets = &self.plan.batches()[self.batch].targets;
        while targets.get(self.next).is_some_and(|target| matches!(self.before[*target], Before::Ended(_))) {
            self.next += 1;
        }
        let Some(target) = targets.get(self.next).copied() else {
            return if self.in_flight > 0 { Some(Step::Wait { until: self.deadline() }) } else { self.end_batch(now) };
        };
        if self.in_flight >= self.plan.parallel() {
            return Some(Step::Wait { until: self.deadline() });
        }
        if self.start_times.is_empty() {
            self.start_times = start_times(&mut self.rng, now, targets.len(), self.plan.strategy().jitter);
        }
        let due = self.start_times[self.next];
        if now < due {
            return Some(self.wait_until(due));
        }
        let first_of = (!self.has_begun).then_some(self.batch);
        self.has_begun = true;
        self.next += 1;
        self.in_flight += 1;
        Some(Step::Start { target, first_of })
    }

    /// Ends the current batch, of which all targets are done.
    fn end_batch(&mut self, now: Duration) -> Option<Step> {
        if self.plan.max_check_failures(self.batch).is_some() && self.batch >= self.checked_before {
            self.phase = Phase::Checking;
            return Some(Step::Check { batch: self.batch });
        }
        self.pause(now)
    }

    /// Ends the current batch, whose check has passed.
    fn pause(&mut self, now: Duration) -> Option<Step> {
        let next = self.batch + 1;
        match self.plan.strategy().pause {
            _ if next >= self.plan.batches().len() || self.has_begun_before(next) => self.begin_batch(),
            Pause::None => self.begin_batch(),
            Pause::For(time) => {
                self.phase = Phase::Pausing { until: now.saturating_add(time) };
                return Some(Step::Pause { time });
            }
            Pause::Confirm => {
                self.phase = Phase::Confirming;
                return Some(Step::Confirm { batch: next });
            }
        }
        None
    }

    fn begin_batch(&mut self) {
        self.phase = Phase::Starting;
        (self.batch, self.next, self.has_begun) = (self.batch + 1, 0, false);
        self.batch_failures = self.failed_before(self.batch);
        self.start_times.clear();
        self.stopped = self.stopped.or(self.exceeded());
    }

    /// Records the end of a target that was started. Returns the budget that this exceeded, if it stopped the run.
    pub fn finished(&mut self, outcome: Outcome) -> Option<Stopped> {
        debug_assert!(self.in_flight > 0, "only what was started can finish");
        self.in_flight = self.in_flight.saturating_sub(1);
        match outcome {
            Outcome::Succeeded => {}
            Outcome::Failed => (self.failures, self.batch_failures) = (self.failures + 1, self.batch_failures + 1),
            Outcome::Unreachable => self.unreachable += 1,
        }
        if self.stopped.is_some() {
            return None;
        }
        self.stopped = self.exceeded();
        self.stopped
    }

    /// Records the end of the check of the current batch: on how many of its targets it failed. Returns the reason if this
    /// stopped the run.
    pub fn checked(&mut self, failed: usize) -> Option<Stopped> {
        if self.phase != Phase::Checking || self.stopped.is_some() {
            return None;
        }
        if self.plan.max_check_failures(self.batch).is_some_and(|allowed| failed > allowed) {
            self.stopped = Some(Stopped::Check);
        } else {
            self.phase = Phase::Checked;
        }
        self.stopped
    }

    /// Records whether the next batch may begin.
    pub fn confirmed(&mut self, may_begin: bool) {
        if self.phase != Phase::Confirming || self.stopped.is_some() {
            return;
        }
        if may_begin { self.begin_batch() } else { self.stopped = Some(Stopped::Declined) }
    }

    /// Starts nothing more.
    pub fn stop(&mut self) {
        self.stopped.get_or_insert(Stopped::Asked);
    }

    /// Returns why nothing more starts.
    pub fn stopped(&self) -> Option<Stopped> {
        self.stopped
    }

    /// Index of the current batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Number of targets in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Number of targets that failed.
    pub fn failures(&self) -> usize {
        self.failures
    }

    /// Number of targets of the current batch that failed.
    pub fn batch_failures(&self) -> usize {
        self.batch_failures
    }

    /// Number of targets that were unreachable.
    pub fn unreachable(&self) -> usize {
        self.unreachable
    }

    fn exceeded(&self) -> Option<Stopped> {
        if self.failures > self.plan.max_failures() {
            Some(Stopped::Failures)
        } else if self.batch_failures > self.plan.max_batch_failures(self.batch) {
            Some(Stopped::BatchFailures)
        } else if self.unreachable > self.plan.max_unreachable() {
            Some(Stopped::Unreachable)
        } else {
            None
        }
    }

    /// Number of targets of a batch that had failed when the run was taken over; 0 behind the last batch.
    fn failed_before(&self, batch: usize) -> usize {
        let targets = self.plan.batches().get(batch).map_or(&[][..], |batch| &batch.targets);
        targets.iter().filter(|target| self.before[**target] == Before::Ended(Outcome::Failed)).count()
    }

    fn has_begun_before(&self, batch: usize) -> bool {
        self.plan.batches()[batch].targets.iter().any(|target| self.before[*target] != Before::Untouched)
    }

    fn is_over(&self) -> bool {
        self.batch >= self.plan.batches().len()
    }

    fn deadline(&self) -> Option<Duration> {
        self.plan.strategy().deadline
    }

    fn wait_until(&self, time: Duration) -> Step {
        Step::Wait { until: Some(self.deadline().map_or(time, |deadline| deadline.min(time))) }
    }
}

/// Returns when each target of a batch that begins at `now` may start: at random times within `jitter`, in the order of the targets.
fn start_times(rng: &mut fastrand::Rng, now: Duration, targets: usize, jitter: Duration) -> Vec<Duration> {
    let jitter = u64::try_from(jitter.as_millis()).unwrap_or(u64::MAX);
    let mut times: Vec<Duration> =
        (0..targets).map(|_| now.saturating_add(Duration::from_millis(rng.u64(0..=jitter)))).collect();
    times.sort_unstable();
    times
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
