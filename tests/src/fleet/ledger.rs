//! Records of each instance: connections, requests, and executions per run.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::instance::Instance;

/// Records of all instances at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    /// Records by instance id.
    pub instances: BTreeMap<String, Seen>,
}

/// Records of one instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Accepted connections.
    pub connections: u32,
    /// Complete handshakes.
    pub handshakes: u32,
    /// Requests.
    pub requests: u32,
    /// Started executions by run; those without a run under the empty name.
    pub starts: BTreeMap<String, u32>,
}

/// Sums over all instances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Accepted connections.
    pub connections: u64,
    /// Complete handshakes.
    pub handshakes: u64,
    /// Requests.
    pub requests: u64,
    /// Started executions.
    pub starts: u64,
    /// Starts beyond the first of a run on an instance: 0, or the client broke its promise.
    pub repeated_starts: u64,
}

impl Ledger {
    pub(super) fn of(instances: &[Instance]) -> Ledger {
        let seen = |instance: &Instance| {
            let [connections, handshakes, requests] =
                [&instance.counts.connections, &instance.counts.handshakes, &instance.counts.requests]
                    .map(|count| count.load(Ordering::Relaxed));
            let starts = instance.executions().starts();
            (instance.id.to_string(), Seen { connections, handshakes, requests, starts })
        };
        Ledger { instances: instances.iter().map(seen).collect() }
    }

    /// Returns the sums.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for seen in self.instances.values() {
            totals.connections += u64::from(seen.connections);
            totals.handshakes += u64::from(seen.handshakes);
            totals.requests += u64::from(seen.requests);
            for (run, starts) in &seen.starts {
                totals.starts += u64::from(*starts);
                totals.repeated_starts += if run.is_empty() { 0 } else { u64::from(starts.saturating_sub(1)) };
            }
        }
        totals
    }
}

impl Totals {
    /// Returns what was added since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Totals) -> Totals {
        Totals {
            connections: self.connections - earlier.connections,
            handshakes: self.handshakes - earlier.handshakes,
            requests: self.requests - earlier.requests,
            starts: self.starts - earlier.starts,
            repeated_starts: self.repeated_starts - earlier.repeated_starts,
        }
    }
}
