//! The plan of a run, and the state machine that decides each start. No I/O, no clock.
//!
//! ```text
//!  waiting ──next_start──▶ in flight ──finished──▶ done
//!     └──────────────── stopped ───────────────▶ not started
//! ```
//!
//! A target of batch n+1 is started only when all of batch n are done; none is started once more than the
//! budget have failed, or the caller asked to stop.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use packs_schema::delivery::facts::Facts;

/// A number, or a share of all targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// So many.
    Count(usize),
    /// So many of a hundred.
    Percent(u32),
}

/// Why a text is not an [`Amount`].
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
    /// Of `total`; a share is rounded down.
    fn of(self, total: usize) -> usize {
        match self {
            Amount::Count(count) => count,
            Amount::Percent(percent) => total.saturating_mul(percent as usize) / 100,
        }
    }
}

/// What goes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Grouping {
    /// One instance at a time.
    #[default]
    Serial,
    /// One zone at a time.
    Zone,
    /// One region at a time.
    Region,
    /// All at once.
    All,
}

/// How a run goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strategy {
    /// What goes together.
    pub grouping: Grouping,
    /// No more than this at once within a group. With [`Grouping::Serial`]: batches of this size of everything.
    pub batch: Option<Amount>,
    /// So many go first, as a batch of their own.
    pub canary: usize,
    /// How many may fail, over the whole run, before nothing more is started.
    pub max_failures: Amount,
    /// How many are in flight at most, whatever the batches say.
    pub parallel: usize,
}

/// The most that are in flight unless the caller says otherwise.
pub const DEFAULT_PARALLEL: usize = 64;

impl Default for Strategy {
    fn default() -> Strategy {
        let (grouping, max_failures) = (Grouping::Serial, Amount::Count(0));
        Strategy { grouping, batch: None, canary: 0, max_failures, parallel: DEFAULT_PARALLEL }
    }
}

/// Targets that go together, by their place in the list of targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// What they have in common: `zone us-east-1a`; empty when nothing.
    pub name: String,
    /// The targets; at least one.
    pub targets: Vec<usize>,
}

/// Which targets go together, in which order, and when to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    batches: Vec<Batch>,
    targets: usize,
    budget: usize,
    parallel: usize,
}

impl Plan {
    /// Divides `targets` as `strategy` says. Every target is in exactly one batch.
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
        let budget = strategy.max_failures.of(targets.len());
        Plan { batches, targets: targets.len(), budget, parallel: strategy.parallel.max(1) }
    }

    /// The batches, in order.
    pub fn batches(&self) -> &[Batch] {
        &self.batches
    }

    /// How many targets may fail before nothing more is started.
    pub fn budget(&self) -> usize {
        self.budget
    }

    /// How many are in flight at most.
    pub fn parallel(&self) -> usize {
        self.parallel
    }
}

/// Takes the first `count` targets out of their batches, into one that goes before all others.
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

/// Why nothing more is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// More failed than the budget allows.
    Budget,
    /// The caller asked.
    Asked,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stopped::Budget => "more failed than --max-failures allows",
            Stopped::Asked => "interrupted",
        })
    }
}

/// How far a run has come.
#[derive(Debug)]
pub struct Progress<'a> {
    plan: &'a Plan,
    batch: usize,
    next: usize,
    in_flight: usize,
    failures: usize,
    stopped: Option<Stopped>,
}

impl<'a> Progress<'a> {
    /// At the beginning of `plan`.
    pub fn new(plan: &'a Plan) -> Progress<'a> {
        Progress { plan, batch: 0, next: 0, in_flight: 0, failures: 0, stopped: None }
    }

    /// The next target to start, and its batch when it is the first of it; `None`: nothing may be started now.
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

    /// A target that was started is done. True if this exceeded the budget.
    pub fn finished(&mut self, succeeded: bool) -> bool {
        debug_assert!(self.in_flight > 0, "only what was started can finish");
        self.in_flight = self.in_flight.saturating_sub(1);
        self.failures += usize::from(!succeeded);
        let exceeded = self.stopped.is_none() && self.failures > self.plan.budget;
        if exceeded {
            self.stopped = Some(Stopped::Budget);
        }
        exceeded
    }

    /// Nothing more is to be started.
    pub fn stop(&mut self) {
        self.stopped.get_or_insert(Stopped::Asked);
    }

    /// Why nothing more is started.
    pub fn stopped(&self) -> Option<Stopped> {
        self.stopped
    }

    /// How many are in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How many have failed.
    pub fn failures(&self) -> usize {
        self.failures
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
