//! Reports sockets that ended before their peer was authenticated: counted by reason in the metrics, and logged at a bounded
//! rate, because any host can cause them.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::Metrics;

/// Maximum number of log lines for one reason in each [`WINDOW`]; the next line has the number of omitted ones.
const LINES: u32 = 5;
const WINDOW: Duration = Duration::from_secs(10);

/// Reason, as the metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) enum Reason {
    /// TLS refused the peer: no certificate, or none that is accepted.
    Refused,
    /// The peer disconnected.
    Abandoned,
    /// The peer sent nothing, or took too long.
    TimedOut,
    /// Another socket took its slot.
    Evicted,
    /// All slots were in use and its source had the highest score, so it was closed at once.
    Dropped,
    /// The certificate was verified, and no connection slot was released in time.
    NoConnectionSlot,
}

impl Reason {
    const ALL: usize = 6;

    fn label(self) -> &'static str {
        match self {
            Reason::Refused => "refused",
            Reason::Abandoned => "abandoned",
            Reason::TimedOut => "timed_out",
            Reason::Evicted => "evicted",
            Reason::Dropped => "dropped",
            Reason::NoConnectionSlot => "no_place",
        }
    }
}

/// Counts and log lines of one listener.
pub(super) struct Report {
    listener: &'static str,
    metrics: Arc<Metrics>,
    lines: Mutex<[Lines; Reason::ALL]>,
}

/// Log lines of one reason.
#[derive(Debug, Default, Clone, Copy)]
struct Lines {
    since: Option<Instant>,
    written: u32,
    omitted: u64,
}

impl Report {
    pub(super) fn new(listener: &'static str, metrics: Arc<Metrics>) -> Report {
        Report { listener, metrics, lines: Mutex::default() }
    }

    pub(super) fn count(&self, reason: Reason, from: SocketAddr, error: Option<&io::Error>) {
        self.metrics.handshake_failed(self.listener, reason.label());
        let line = {
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            lines[reason as usize].line(Instant::now())
        };
        let Some(omitted) = line else { return };
        let (listener, reason) = (self.listener, reason.label());
        let error = error.map(tracing::field::display);
        let omitted = (omitted > 0).then_some(omitted);
        tracing::info!(%from, listener, reason, error, not_logged = omitted, "socket closed before its peer was authenticated");
    }
}

impl Lines {
    /// Returns the number of lines omitted since the last one; `None` if this line is omitted as well.
    fn line(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= WINDOW) {
            (self.since, self.written) = (Some(now), 0);
        }
        if self.written == LINES {
            self.omitted += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.omitted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_are_bounded_and_the_next_one_counts_the_omitted() {
        let (mut lines, start) = (Lines::default(), Instant::now());
        let written = (0..1000).filter(|_| lines.line(start).is_some()).count();
        assert_eq!(written, 5);
        assert_eq!(lines.line(start + WINDOW - Duration::from_millis(1)), None);
        assert_eq!(lines.line(start + WINDOW), Some(996));
        assert_eq!(lines.line(start + WINDOW), Some(0));
    }
}
