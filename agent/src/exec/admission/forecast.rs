//! Forecast of when a slot becomes free, from time-outs and from recent durations of each action. An estimate for `Retry-After`,
//! not a promise.

use std::collections::HashMap;
use std::time::Duration;

use packs_schema::base::name::ActionRef;

/// Maximum number of actions whose typical duration is kept; for others the time-out is used.
const MAX_ACTIONS: usize = 1000;
/// Shortest time that callers are told to wait.
const MIN: Duration = Duration::from_secs(1);
/// Longest time that callers are told to wait.
const MAX: Duration = Duration::from_secs(600);

/// Typical durations of actions.
#[derive(Debug, Default)]
pub(super) struct Forecast {
    typical: HashMap<ActionRef, Duration>,
}

impl Forecast {
    /// Records a duration: the typical one moves a quarter of the way towards it.
    pub(super) fn learn(&mut self, action: &ActionRef, took: Duration) {
        if let Some(typical) = self.typical.get_mut(action) {
            *typical = (*typical * 3 + took) / 4;
        } else if self.typical.len() < MAX_ACTIONS {
            self.typical.insert(action.clone(), took);
        }
    }

    /// Estimates the remaining time of an execution that has run for `ran`: up to its typical duration, or up to its time-out once
    /// it has exceeded that.
    pub(super) fn remaining(&self, action: &ActionRef, timeout: Option<Duration>, ran: Duration) -> Duration {
        let to_timeout = timeout.map_or(MAX, |timeout| timeout.saturating_sub(ran));
        let typical = self.typical.get(action).and_then(|typical| typical.checked_sub(ran));
        typical.map_or(to_timeout, |left| left.min(to_timeout))
    }
}

/// Limits an estimate to the range that callers are told; the minimum when nothing is known.
pub(super) fn clamp(remaining: Option<Duration>) -> Duration {
    remaining.unwrap_or(MIN).clamp(MIN, MAX)
}
