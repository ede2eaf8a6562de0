//! Notifications to systemd's watchdog (`WatchdogSec=`), from the event loop: a launcher whose loop hangs is restarted. Executions
//! continue in their shims.
//!
//! The watchdog covers the loop alone. An api that ends is started again by the launcher, one that runs and does nothing is killed
//! first (`sign_of_life`), and one that cannot be kept running is reported (`api_report`).

use std::time::{Duration, Instant};

use super::notify;

/// Variables of systemd (sd_watchdog_enabled(3)).
const PERIOD: &str = "WATCHDOG_USEC";
const PROCESS: &str = "WATCHDOG_PID";

/// Schedule of the notifications; none without a watchdog.
#[derive(Debug)]
pub(super) struct Watchdog {
    every: Option<Duration>,
    next: Instant,
}

impl Watchdog {
    /// Reads the period from the environment.
    pub(super) fn from_environment() -> Watchdog {
        let variable = |name: &str| std::env::var(name).ok();
        Watchdog::new(interval(variable(PERIOD).as_deref(), variable(PROCESS).as_deref(), std::process::id()))
    }

    fn new(every: Option<Duration>) -> Watchdog {
        Watchdog { every, next: Instant::now() }
    }

    /// Notifies systemd if it is time.
    pub(super) fn tick(&mut self, now: Instant) {
        if let Some(every) = self.every
            && now >= self.next
        {
            notify::notify("WATCHDOG=1\n");
            self.next = now + every;
        }
    }

    /// Returns the time of the next notification.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.every.map(|_| self.next)
    }
}

/// Returns the interval between notifications: a quarter of the period, so that one may be lost. systemd advises half of it, but
/// the notification does not wait for room in systemd's socket.
fn interval(period_us: Option<&str>, process: Option<&str>, own: u32) -> Option<Duration> {
    let is_meant = process.is_none_or(|pid| pid.parse() == Ok(own));
    let period = Duration::from_micros(period_us?.parse().ok()?);
    (is_meant && !period.is_zero()).then_some(period / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_a_quarter_of_the_period_of_this_process() {
        let quarter = Some(Duration::from_secs(30));
        assert_eq!(interval(Some("120000000"), Some("7"), 7), quarter);
        assert_eq!(interval(Some("120000000"), None, 7), quarter);
        for (period, process) in
            [(None, Some("7")), (Some("120000000"), Some("8")), (Some("0"), None), (Some("x"), None)]
        {
            assert_eq!(interval(period, process, 7), None, "{period:?} {process:?}");
        }
    }

    #[test]
    fn the_next_notification_is_due_after_the_interval() {
        let every = Duration::from_secs(60);
        let mut watchdog = Watchdog::new(Some(every));
        let now = Instant::now();
        watchdog.tick(now);
        assert_eq!(watchdog.next_deadline(), Some(now + every));
        watchdog.tick(now + every / 2);
        assert_eq!(watchdog.next_deadline(), Some(now + every), "not yet");
        assert_eq!(Watchdog::new(None).next_deadline(), None);
    }
}
