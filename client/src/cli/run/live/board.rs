//! State of a run as the live view shows it: counts by place and outcome, what runs longest, batch, budgets. No clock, no
//! terminal: the time since the beginning is given.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::fold::{Place, Tally};
use super::rate::{self, Rate};
use crate::fleet::{Before, Earlier, Ending, Event, Outcome, Pause, Run};

/// Number of instances at the end of a run for which the rate gives no estimate: those that take longest.
const LAST: usize = 5;

/// Counts of a run.
pub(super) struct Board<'a> {
    pub(super) run: &'a Run,
    /// Zones, in the order of region and zone.
    pub(super) places: Vec<Place>,
    /// Index of the zone of each target.
    place_of: Vec<usize>,
    pub(super) total: Tally,
    /// Instances that count against the budgets.
    pub(super) failures: usize,
    pub(super) unreachable: usize,
    /// Number of instances by the state that they ended in.
    pub(super) states: BTreeMap<&'static str, usize>,
    started: HashMap<usize, Duration>,
    /// The same by time: what has run longest comes first.
    by_start: BTreeSet<(Duration, usize)>,
    pub(super) rate: Rate,
    /// Batch that began last.
    pub(super) batch: Option<usize>,
    /// Ended and failed targets of this batch.
    pub(super) batch_ended: usize,
    pub(super) batch_failed: usize,
    pub(super) phase: Phase,
}

/// Activity of a run between its batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// A batch is in flight.
    Running,
    /// The check of the batch runs.
    Checking { targets: usize, since: Duration },
    /// The next batch begins at this time.
    Pausing { until: Duration },
    /// The user is asked whether the next batch begins.
    Asking,
    /// Nothing more starts.
    Stopping,
}

impl<'a> Board<'a> {
    /// Returns the state of `run`, of which an earlier client has done a part.
    pub(super) fn new(run: &'a Run, earlier: &Earlier) -> Board<'a> {
        let mut names: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for target in &run.targets {
            names.entry((&target.facts.region, &target.facts.zone)).or_default();
        }
        names.values_mut().enumerate().for_each(|(at, index)| *index = at);
        let place = |(region, zone): &(&str, &str)| Place {
            region: crate::show::visible(region),
            zone: crate::show::visible(zone),
            tally: Tally::default(),
        };
        let places: Vec<Place> = names.keys().map(place).collect();
        let place_of = run.targets.iter().map(|t| names[&(t.facts.region.as_str(), t.facts.zone.as_str())]).collect();
        let mut board = Board {
            run,
            places,
            place_of,
            total: Tally::default(),
            failures: 0,
            unreachable: 0,
            states: BTreeMap::new(),
            started: HashMap::new(),
            by_start: BTreeSet::new(),
            rate: Rate::default(),
            batch: None,
            batch_ended: 0,
            batch_failed: 0,
            phase: Phase::Running,
        };
        for target in 0..run.targets.len() {
            board.change(target, |tally| tally.waiting += 1);
            if let Some(Before::Ended(outcome)) = earlier.before.get(target) {
                let state = earlier.endings.get(target).and_then(Option::as_ref).map_or("ended", Ending::state);
                board.end(target, state, *outcome);
            }
        }
        board
    }

    /// Applies an event. `outcome` is that of the target that has ended.
    pub(super) fn event(&mut self, event: &Event, outcome: Outcome, now: Duration) {
        match event {
            Event::BatchStarted { batch } => {
                (self.batch, self.batch_ended, self.batch_failed) = (Some(*batch), 0, 0);
                self.phase = Phase::Running;
            }
            Event::Starting { target } => {
                self.change(*target, |tally| {
                    tally.waiting -= 1;
                    tally.running += 1;
                });
                self.started.insert(*target, now);
                self.by_start.insert((now, *target));
            }
            Event::Ended { target, state, .. } => {
                if let Some(since) = self.started.remove(target) {
                    self.by_start.remove(&(since, *target));
                    self.change(*target, |tally| {
                        tally.running -= 1;
                        tally.waiting += 1;
                    });
                }
                self.end(*target, state, outcome);
                self.rate.ended(now);
                self.batch_ended += 1;
                self.batch_failed += usize::from(outcome == Outcome::Failed);
            }
            Event::CheckStarted { targets, .. } => self.phase = Phase::Checking { targets: *targets, since: now },
            Event::CheckEnded { .. } => self.phase = Phase::Running,
            Event::Pausing { time } => self.phase = Phase::Pausing { until: now + *time },
            Event::Confirm { .. } => self.phase = Phase::Asking,
            Event::BudgetExceeded { .. } | Event::Stopping { .. } => self.phase = Phase::Stopping,
            Event::Accepted { .. } | Event::Retrying { .. } => {}
        }
    }

    fn end(&mut self, target: usize, state: &'static str, outcome: Outcome) {
        self.change(target, |tally| {
            tally.waiting -= 1;
            match outcome {
                Outcome::Succeeded => tally.succeeded += 1,
                // Also where contact was lost after the action may have started, which is a failure to the budgets.
                _ if state == "unreachable" => tally.unreachable += 1,
                Outcome::Failed | Outcome::Unreachable => tally.failed += 1,
            }
        });
        match outcome {
            Outcome::Succeeded => {}
            Outcome::Failed => self.failures += 1,
            Outcome::Unreachable => self.unreachable += 1,
        }
        *self.states.entry(state).or_default() += 1;
    }

    fn change(&mut self, target: usize, change: impl Fn(&mut Tally)) {
        change(&mut self.total);
        change(&mut self.places[self.place_of[target]].tally);
    }

    /// Number of instances that have ended.
    pub(super) fn ended(&self) -> usize {
        self.run.targets.len() - self.total.waiting - self.total.running
    }

    /// Returns the targets that have been in flight longest, with the time since they were asked to start.
    pub(super) fn longest(&self, now: Duration) -> impl Iterator<Item = (usize, Duration)> {
        self.by_start.iter().map(move |(since, target)| (*target, now.saturating_sub(*since)))
    }

    /// Returns the shortest and the longest time that the run may still take; `None` if nothing is known of it.
    pub(super) fn time_left(&self, now: Duration) -> Option<(Duration, Duration)> {
        let plan = &self.run.plan;
        let (left, batches) = (self.total.waiting + self.total.running, plan.batches().len());
        let more_batches = self.batch.is_none_or(|batch| batch + 1 < batches);
        let waits = plan.strategy().pause != Pause::None || plan.strategy().check.is_some();
        let is_unknown = match self.phase {
            Phase::Stopping | Phase::Asking => true,
            // A person's answer takes as long as it takes, and the first pause or check is still to come.
            _ => {
                more_batches
                    && (plan.strategy().pause == Pause::Confirm || (waits && self.batch.is_none_or(|b| b == 0)))
            }
        };
        if is_unknown || (self.total.waiting == 0 && left <= LAST.max(self.run.targets.len() / 50)) {
            return None;
        }
        let overall = self.rate.overall(now)?;
        // Between batches with pauses, the last seconds say little about the whole.
        let recent = if more_batches && waits { overall } else { self.rate.recent(now)? };
        rate::time_for(left, &[recent, overall])
    }
}
