//! Gives memory back while nothing happens: pages of the program, which the page cache keeps, SQLite's caches, and free pages of the
//! heap and the stack.
//!
//! Only after seconds without a request or a change of an execution, and once: a burst does not map its pages again. Health
//! probes do not count, so that an agent behind a load balancer rests as well.

use crate::api::App;

/// Number of ticks, of a second each, without activity before memory is given back.
const IDLE_TICKS: u32 = 5;

/// Tells when to give memory back.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// Activity at the last tick.
    seen: u64,
    /// Number of ticks since it changed.
    idle: u32,
}

impl Rest {
    /// Called every second; gives memory back when nothing has happened for a while.
    pub(super) async fn tick(&mut self, app: &App) {
        if self.begins(app.metrics.activity()) {
            app.history.release_memory().await;
            crate::sys::unmap_unused_pages();
            crate::sys::trim_heap();
        }
    }

    /// True at the tick at which the time of rest begins.
    fn begins(&mut self, activity: u64) -> bool {
        if std::mem::replace(&mut self.seen, activity) == activity {
            self.idle = self.idle.saturating_add(1);
        } else {
            self.idle = 0;
        }
        self.idle == IDLE_TICKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_begins_once_after_seconds_without_activity() {
        let mut rest = Rest::default();
        let begins = |rest: &mut Rest, activity: u64, ticks: u32| (0..ticks).filter(|_| rest.begins(activity)).count();
        assert_eq!(begins(&mut rest, 1, IDLE_TICKS), 0);
        assert_eq!(begins(&mut rest, 2, IDLE_TICKS), 0, "activity in between");
        assert_eq!(begins(&mut rest, 2, 1), 1);
        assert_eq!(begins(&mut rest, 2, 1000), 0, "once");
        assert_eq!(begins(&mut rest, 3, 100), 1, "again after activity");
    }
}
