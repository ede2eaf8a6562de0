//! Gives memory back while nothing happens: pages of the program, which the page cache keeps, SQLite's caches, and free pages of the
//! heap and the stack.
//!
//! Only after seconds without a request or a change of an execution, so that a burst does not map its pages again. Health
//! probes do not count, so that an agent behind a load balancer rests as well. From then on each tick, whose checks touch four
//! megabytes of the program, unmaps it again: by [`before_park`], as the last step before the thread sleeps, so that only the code
//! around `epoll_wait` stays mapped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::api::App;
use crate::sys::{self, ProgramRange};

/// Number of ticks, of a second each, without activity before memory is given back.
const IDLE_TICKS: u32 = 5;

/// The pages of this process that are unmapped at rest; the process has them, not a part of it.
static PROGRAM: Program = Program { ranges: Mutex::new(Vec::new()), unmap: AtomicBool::new(false) };

struct Program {
    /// Determined when a time of rest begins.
    ranges: Mutex<Vec<ProgramRange>>,
    /// True if they are unmapped when the thread next sleeps.
    unmap: AtomicBool,
}

/// Unmaps the program if a tick at rest has ended. The runtime calls it each time before its thread sleeps.
pub(super) fn before_park() {
    if PROGRAM.unmap.swap(false, Ordering::Relaxed) {
        sys::unmap(&PROGRAM.ranges.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Tells when to give memory back.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// Activity at the last tick.
    seen: u64,
    /// Number of ticks since it changed.
    idle: u32,
}

impl Rest {
    /// Called every second, as the last of its checks; gives memory back when nothing has happened for a while.
    pub(super) async fn tick(&mut self, app: &App) {
        self.count(app.metrics.activity());
        if self.idle == IDLE_TICKS {
            app.history.release_memory().await;
            let ranges = sys::free_stack();
            *PROGRAM.ranges.lock().unwrap_or_else(PoisonError::into_inner) = ranges;
            sys::trim_heap();
        }
        PROGRAM.unmap.store(self.is_resting(), Ordering::Relaxed);
    }

    fn count(&mut self, activity: u64) {
        if std::mem::replace(&mut self.seen, activity) == activity {
            self.idle = self.idle.saturating_add(1);
        } else {
            self.idle = 0;
        }
    }

    /// True from the tick at which the time of rest begins until activity is seen.
    fn is_resting(&self) -> bool {
        self.idle >= IDLE_TICKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_begins_after_seconds_without_activity_and_lasts_until_the_next() {
        let mut rest = Rest::default();
        let mut resting = |activity: u64, ticks: u32| {
            let count = |_: &u32| {
                rest.count(activity);
                rest.is_resting()
            };
            (0..ticks).filter(count).count()
        };
        assert_eq!(resting(1, IDLE_TICKS), 0);
        assert_eq!(resting(2, IDLE_TICKS), 0, "activity in between");
        assert_eq!(resting(2, 1000), 1000);
        assert_eq!(resting(3, IDLE_TICKS), 0, "activity ends it");
        assert_eq!(resting(3, 1), 1);
    }
}
