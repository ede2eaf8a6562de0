//! The plan of a run, and the state machine that decides each start. No I/O, no clock.
//!
//! ```text
//!  waiting ──next_start──▶ in flight ──finished──▶ done
//!     └──────────────── stopped ───────────────▶ not started
//! ```
//!
//! A target of batch n+1 starts only when all of batch n are done. None starts once more targets than a budget allows
//! have failed or were unreachable, or after the caller asked to stop.
//!
//! Failures and unreachable instances have budgets of their own: a host that is down tells nothing about the action.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use packs_schema::delivery::facts::Facts;

/// A count, or a percentage of all targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// An absolute count.
    Count(usize),
    /// A percentage from 0 to 100.
    Percent(u32),
}

/// Error returned for a text that is not an [`Amount`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a count such as 5 or a percentage from 0% to 100%")]
pub struct AmountError(String);

impl FromStr for Amount {
    type Err = AmountError;
    fn from_str(text: &str) -> Result<Amount, AmountError> {
        let wrong = || AmountError(text.chars().take(40).collect());
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        match text.strip_suffix('%') {
            Some(percent) if digits(percent) => {
                percent.parse().ok().filter(|p| *p <= 100).map(Amount::Percent).ok_or_else(wrong)
            }
            None if digits(text) => text.parse().map(Amount::Count).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

impl Amount {
    /// Returns the count out of `total`; a percentage is rounded down.
    fn of(self, total: usize) -> usize {
        match self {
            Amount::Count(count) => count,
            Amount::Percent(percent) => total.saturating_mul(percent as usize) / 100,
        }
    }
}

/// Which instances form a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Grouping {
    /// A batch for each instance.
    #[default]
    Serial,
    /// A batch for each zone.
    Zone,
    /// A batch for each region.
    Region,
    /// A single batch.
    All,
}

/// Order of a run, and its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strategy {
    /// Which instances form a batch.
    pub grouping: Grouping,
    /// Largest batch within a group. With [`Grouping::Serial`]: all targets, in batches of this size.
    pub batch: Option<Amount>,
    /// Number of targets that go first, as a batch of their own.
    pub canary: usize,
    /// Number of targets that may fail, over the whole run; once exceeded, no further target starts.
    pub max_failures: Amount,
    /// Number of targets that may be unreachable, counted apart from failures; once exceeded, no further target starts.
    pub max_unreachable: Amount,
    /// Maximum number of targets in flight, whatever the batch size.
    pub parallel: usize,
}

/// Default of [`Strategy::parallel`].
pub const DEFAULT_PARALLEL: usize = 64;

impl Default for Strategy {
    fn default() -> Strategy {
        Strategy {
            grouping: Grouping::Serial,
            batch: None,
            canary: 0,
            max_failures: Amount::Count(0),
            max_unreachable: Amount::Count(0),
            parallel: DEFAULT_PARALLEL,
        }
    }
}

/// Targets that run together, as indexes into the list of targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The fact that they share, such as `zone us-east-1a`; empty when there is none.
    pub name: String,
    /// The targets; at least one.
    pub targets: Vec<usize>,
}

/// Batches in their order, and the budgets that stop the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    batches: Vec<Batch>,
    targets: usize,
    max_failures: usize,
    max_unreachable: usize,
    parallel: usize,
}

impl Plan {
    /// Divides `targets` into batches. Every target is in exactly one batch.
    pub fn new(targets: &[&Facts], strategy: &Strategy) -> Plan {
        let size = strategy.batch.map(|batch| batch.of(targets.len()).max(1));
        let grouping = match (strategy.grouping, size) {
            (Grouping::Serial, Some(_)) => Grouping::All,
            (grouping, _) => grouping,
        };
        let mut batches = Vec::new();
        for (name, group) in groups(targets, grouping) {
            for part in group.chunks(size.unwrap_or(group.len()).max(1)) {
                batches.push(Batch { name: name.clone(), targets: part.to_vec() });
            }
        }
        let batches = canary_first(batches, strategy.canary);
        Plan {
            batches,
            targets: targets.len(),
            max_failures: strategy.max_failures.of(targets.len()),
            max_unreachable: strategy.max_unreachable.of(targets.len()),
            parallel: strategy.parallel.max(1),
        }
    }

    /// Returns the batches, in order.
    pub fn batches(&self) -> &[Batch] {
        &self.batches
    }

    /// Number of targets that may fail before the run stops.
    pub fn max_failures(&self) -> usize {
        self.max_failures
    }

    /// Number of targets that may be unreachable before the run stops.
    pub fn max_unreachable(&self) -> usize {
        self.max_unreachable
    }

    /// Maximum number of targets in flight.
    pub fn parallel(&self) -> usize {
        self.parallel
    }
}

/// Moves the first `count` targets out of their batches, into a batch before all others.
fn canary_first(mut batches: Vec<Batch>, count: usize) -> Vec<Batch> {
    let mut canary = Batch { name: "canary".to_owned(), targets: Vec::new() };
    for batch in &mut batches {
        let some = batch.targets.len().min(count - canary.targets.len());
        canary.targets.extend(batch.targets.drain(..some));
    }
    batches.insert(0, canary);
    batches.retain(|batch| !batch.targets.is_empty());
    batches
}

fn groups(targets: &[&Facts], grouping: Grouping) -> Vec<(String, Vec<usize>)> {
    let by = |what: &str, fact: fn(&Facts) -> (&str, &str)| {
        let mut groups: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
        for (at, facts) in targets.iter().enumerate() {
            groups.entry(fact(facts)).or_default().push(at);
        }
        let name =
            |key: (&str, &str)| if key.1.is_empty() { format!("no {what}") } else { format!("{what} {}", key.1) };
        groups.into_iter().map(|(key, members)| (name(key), members)).collect()
    };
    match grouping {
        Grouping::Serial => (0..targets.len()).map(|at| (String::new(), vec![at])).collect(),
        Grouping::All if targets.is_empty() => Vec::new(),
        Grouping::All => vec![(String::new(), (0..targets.len()).collect())],
        Grouping::Zone => by("zone", |facts| (&facts.region, &facts.zone)),
        Grouping::Region => by("region", |facts| ("", &facts.region)),
    }
}

/// How a target ended, as far as the budgets are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The action succeeded.
    Succeeded,
    /// The action failed, was refused, or contact was lost after it may have started.
    Failed,
    /// The instance was not reached, and nothing can have started there.
    Unreachable,
}

/// Reason why no further target starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// More targets failed than the budget allows.
    Failures,
    /// More targets were unreachable than the budget allows.
    Unreachable,
    /// The caller asked.
    Asked,
}

impl Stopped {
    /// Stable name for programs.
    pub fn code(self) -> &'static str {
        match self {
            Stopped::Failures => "max_failures",
            Stopped::Unreachable => "max_unreachable",
            Stopped::Asked => "interrupted",
        }
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stopped::Failures => "more instances failed than --max-failures allows",
            Stopped::Unreachable => "more instances were unreachable than --max-unreachable allows",
            Stopped::Asked => "interrupted",
        })
    }
}

/// State of a run: what has started, and what may start next.
#[derive(Debug)]
pub struct Progress<'a> {
    plan: &'a Plan,
    batch: usize,
    next: usize,
    in_flight: usize,
    failures: usize,
    unreachable: usize,
    stopped: Option<Stopped>,
}

impl<'a> Progress<'a> {
    /// Returns the state before the first start.
    pub fn new(plan: &'a Plan) -> Progress<'a> {
        Progress { plan, batch: 0, next: 0, in_flight: 0, failures: 0, unreachable: 0, stopped: None }
    }

    /// Returns the next target to start, with its batch if it is the first of it; `None` when nothing may start now.
    pub fn next_start(&mut self) -> Option<(usize, Option<usize>)> {
        if self.stopped.is_some() || self.in_flight >= self.plan.parallel {
            return None;
        }
        if self.next == self.plan.batches.get(self.batch)?.targets.len() {
            if self.in_flight > 0 {
                return None;
            }
            (self.batch, self.next) = (self.batch + 1, 0);
        }
        let target = *self.plan.batches.get(self.batch)?.targets.get(self.next)?;
        let first = (self.next == 0).then_some(self.batch);
        self.next += 1;
        self.in_flight += 1;
        Some((target, first))
    }

    /// Records the end of a target that was started. Returns the budget that this exceeded, if it stopped the run.
    pub fn finished(&mut self, outcome: Outcome) -> Option<Stopped> {
        debug_assert!(self.in_flight > 0, "only what was started can finish");
        self.in_flight = self.in_flight.saturating_sub(1);
        match outcome {
            Outcome::Succeeded => {}
            Outcome::Failed => self.failures += 1,
            Outcome::Unreachable => self.unreachable += 1,
        }
        if self.stopped.is_some() {
            return None;
        }
        if self.failures > self.plan.max_failures {
            self.stopped = Some(Stopped::Failures);
        } else if self.unreachable > self.plan.max_unreachable {
            self.stopped = Some(Stopped::Unreachable);
        }
        self.stopped
    }

    /// Starts nothing more.
    pub fn stop(&mut self) {
        self.stopped.get_or_insert(Stopped::Asked);
    }

    /// Returns why nothing more starts.
    pub fn stopped(&self) -> Option<Stopped> {
        self.stopped
    }

    /// Number of targets in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Number of targets that failed.
    pub fn failures(&self) -> usize {
        self.failures
    }

    /// Number of targets that were unreachable.
    pub fn unreachable(&self) -> usize {
        self.unreachable
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
