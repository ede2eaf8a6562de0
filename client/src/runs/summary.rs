//! Progress of a run in numbers, computed from its entries: for lists.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::record::Entry;
use crate::fleet::Stopped;

/// Number of instances in each state, and whether a client came to the end of the run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Number of instances by state or outcome; `unknown` counts those that were asked and have no recorded end. Instances that
    /// were not asked are not counted.
    pub counts: BTreeMap<String, usize>,
    /// Set once a client has carried out the run to its end, or to where it was stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<Done>,
}

/// End of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Reason why not all instances were started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
}

impl Summary {
    /// Returns the reason why not all instances were started.
    pub fn stopped(&self) -> Option<Stopped> {
        self.done.and_then(|done| done.stopped)
    }

    /// Returns the counts, with those of `targets` instances that were not asked as `not_started`.
    pub fn with_not_started(&self, targets: usize) -> BTreeMap<String, usize> {
        let mut counts = self.counts.clone();
        let asked = counts.values().fold(0, |sum: usize, count| sum.saturating_add(*count));
        if asked < targets {
            counts.insert("not_started".to_owned(), targets - asked);
        }
        counts
    }

    /// Returns the state of the whole run over `targets` instances: `running`, `interrupted`, `stopped`, `detached`, `succeeded`
    /// or `failed`.
    pub fn state(&self, is_busy: bool, targets: usize) -> &'static str {
        let count = |state: &str| self.counts.get(state).copied().unwrap_or(0);
        match self.done {
            _ if is_busy => "running",
            None | Some(Done { stopped: Some(Stopped::Asked) }) => "interrupted",
            Some(Done { stopped: Some(_) }) => "stopped",
            Some(_) if count("unknown") > 0 => "detached",
            Some(_) if count("succeeded") == targets => "succeeded",
            Some(_) => "failed",
        }
    }
}

/// Computes a [`Summary`] entry by entry.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// State of each instance that was asked; `None` without a recorded end.
    states: BTreeMap<usize, Option<String>>,
    done: Option<Done>,
}

impl Tally {
    /// Adds an entry.
    pub fn add(&mut self, entry: &Entry) {
        match entry {
            Entry::Starting { target } => drop(self.states.insert(*target, None)),
            Entry::Ended { target, ending } => drop(self.states.insert(*target, Some(ending.state().to_owned()))),
            Entry::Done { stopped, .. } => self.done = Some(Done { stopped: *stopped }),
            Entry::Resumed { .. } => self.done = None,
            Entry::Checked { .. } => {}
        }
    }

    /// Returns the summary of the entries so far.
    pub fn summary(&self) -> Summary {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for state in self.states.values() {
            *counts.entry(state.clone().unwrap_or_else(|| "unknown".to_owned())).or_default() += 1;
        }
        Summary { counts, done: self.done }
    }
}

impl<'a> Extend<&'a Entry> for Tally {
    fn extend<T: IntoIterator<Item = &'a Entry>>(&mut self, entries: T) {
        entries.into_iter().for_each(|entry| self.add(entry));
    }
}
