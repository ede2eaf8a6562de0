//! When a place may come free: from the time-outs of what runs, and from how long its actions took lately. An estimate for
//! callers who ask again, never a promise.

use std::collections::HashMap;
use std::time::Duration;

use packs_schema::base::name::ActionRef;

/// Actions whose typical time is remembered; of further ones only the time-out is known.
const MAX_ACTIONS: usize = 1000;
/// Nobody is asked to come back sooner.
const LEAST: Duration = Duration::from_secs(1);
/// Nobody is asked to stay away longer.
const MOST: Duration = Duration::from_secs(600);

/// How long actions take.
#[derive(Debug, Default)]
pub(super) struct Forecast {
    typical: HashMap<ActionRef, Duration>,
}

impl Forecast {
    /// One more end: the typical time moves a quarter of the way towards it.
    pub(super) fn learn(&mut self, action: &ActionRef, took: Duration) {
        if let Some(typical) = self.typical.get_mut(action) {
            *typical = (*typical * 3 + took) / 4;
        } else if self.typical.len() < MAX_ACTIONS {
            self.typical.insert(action.clone(), took);
        }
    }

    /// What is left of one that ran so long: what it typically still takes, or to its time-out when it took longer already.
    pub(super) fn left(&self, action: &ActionRef, timeout: Option<Duration>, ran: Duration) -> Duration {
        let to_timeout = timeout.map_or(MOST, |timeout| timeout.saturating_sub(ran));
        let typical = self.typical.get(action).and_then(|typical| typical.checked_sub(ran));
        typical.map_or(to_timeout, |left| left.min(to_timeout))
    }
}

/// Within what a caller is told; the least when nothing is known.
pub(super) fn bounded(left: Option<Duration>) -> Duration {
    left.unwrap_or(LEAST).clamp(LEAST, MOST)
}
