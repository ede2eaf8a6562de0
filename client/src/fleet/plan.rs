//! The plan of a run: batches of targets in their order. No I/O, no clock.

use std::collections::BTreeMap;

use packs_schema::delivery::facts::Facts;
use serde::{Deserialize, Serialize};

use super::strategy::{Grouping, Strategy};

/// Targets that run together, as indexes into the list of targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The fact that they share, such as `zone us-east-1a`; empty when there is none.
    pub name: String,
    /// The targets; at least one.
    pub targets: Vec<usize>,
}

/// Batches in their order, and what the strategy allows for this number of targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    batches: Vec<Batch>,
    targets: usize,
    strategy: Strategy,
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
        Plan { batches, targets: targets.len(), strategy: *strategy }
    }

    /// Returns the batches, in order.
    pub fn batches(&self) -> &[Batch] {
        &self.batches
    }

    /// Returns the strategy that made the plan.
    pub fn strategy(&self) -> &Strategy {
        &self.strategy
    }

    /// Number of targets.
    pub fn targets(&self) -> usize {
        self.targets
    }

    /// Number of targets that may fail before the run stops.
    pub fn max_failures(&self) -> usize {
        self.strategy.max_failures.of(self.targets)
    }

    /// Number of targets of batch `batch` that may fail before the run stops.
    pub fn max_batch_failures(&self, batch: usize) -> usize {
        self.strategy.max_batch_failures.map_or(usize::MAX, |amount| amount.of(self.size(batch)))
    }

    /// Number of targets that may be unreachable before the run stops.
    pub fn max_unreachable(&self) -> usize {
        self.strategy.max_unreachable.of(self.targets)
    }

    /// Number of targets on which the check after batch `batch` may fail; `None`: there is no check.
    pub fn max_check_failures(&self, batch: usize) -> Option<usize> {
        self.strategy.check.map(|amount| amount.of(self.size(batch)))
    }

    /// Maximum number of targets in flight.
    pub fn parallel(&self) -> usize {
        self.strategy.parallel.max(1)
    }

    fn size(&self, batch: usize) -> usize {
        self.batches.get(batch).map_or(0, |batch| batch.targets.len())
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
