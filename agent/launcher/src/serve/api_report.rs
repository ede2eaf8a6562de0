//! State of the api process, reported outside the api, which may not be running: in `api.json` in the run-time directory, in
//! systemd's status line, and in the log.
//!
//! ```text
//!  running ──ends──▶ restarting ──FAILING_AFTER ends in a row──▶ failing ──runs for STABLE_AFTER──▶ running
//! ```
//!
//! After one that hung, the next must run for twice the time after which a hang is noticed.
//!
//! The launcher never answers requests in place of the api: it holds the listening sockets, but accepts no connection.

use std::time::{Duration, Instant};

use packs_schema::agent::rest::{ApiProcess as ApiRecord, ApiState};
use packs_schema::agent::store;

use super::notify;
use crate::clock::wall_ms;
use crate::host::Host;
use crate::{dir, log, sys};

/// Number of failures in a row after which an operator is needed.
const FAILING_AFTER: u32 = 3;
/// Running time after which the api counts as running again.
const STABLE_AFTER: Duration = Duration::from_secs(5);
/// Hint in the log: where to find the reason of the exit.
const SEE: &str = "the lines of bolt-agent before this one (under systemd: journalctl -u bolt-launch)";

pub(super) struct ApiReport {
    current: ApiRecord,
    /// Running time after which the api that runs counts as running again.
    stable_after: Duration,
    /// Time after which an api that hangs is replaced.
    hang_after: Option<Duration>,
    /// State that was sent to systemd last.
    reported: Option<ApiState>,
}

impl ApiReport {
    pub(super) fn new(hang_after: Option<Duration>) -> ApiReport {
        let current = ApiRecord {
            state: ApiState::Restarting,
            since_ms: wall_ms(),
            failures: 0,
            status: None,
            signal: None,
            hung: false,
        };
        ApiReport { current, stable_after: STABLE_AFTER, hang_after, reported: None }
    }

    /// Records a start.
    pub(super) fn record_start(&mut self, host: &Host) {
        if self.current.failures == 0 {
            self.set_state(host, ApiState::Running);
        }
    }

    /// Returns the time of the next call of [`check_stable`](Self::check_stable) for an api that was started at `since`.
    pub(super) fn next_check(&self, since: Instant) -> Option<Instant> {
        (self.current.state != ApiState::Running).then(|| since + self.stable_after)
    }

    /// Sets the state to running when an api that was started at `since` has run long enough.
    pub(super) fn check_stable(&mut self, host: &Host, since: Instant, now: Instant) {
        if self.current.state != ApiState::Running && now.duration_since(since) >= self.stable_after {
            log::info("api is stable again", &[("failures", &self.current.failures)]);
            self.set_state(host, ApiState::Running);
        }
    }

    /// Resets the number of failures, after a long time without any.
    pub(super) fn reset_failures(&mut self) {
        self.current.failures = 0;
    }

    /// Records an exit, of an api that hung or of another, or a failed start, which has neither status nor signal.
    pub(super) fn record_failure(
        &mut self,
        host: Option<&Host>,
        exit: Option<&sys::ExitedChild>,
        hung: bool,
        backoff: Duration,
    ) {
        self.current.failures += 1;
        self.current.hung = hung;
        // Another that hangs at once is noticed before it counts as running.
        let noticed = self.hang_after.filter(|_| hung).map_or(Duration::ZERO, |time| time * 2);
        self.stable_after = noticed.max(STABLE_AFTER);
        (self.current.status, self.current.signal) = (exit.and_then(|e| e.status), exit.and_then(|e| e.signal));
        let Some(host) = host else { return };
        let failing = self.current.failures >= FAILING_AFTER;
        if failing {
            let (status, signal) = (self.current.status.unwrap_or(-1), self.current.signal.unwrap_or(0));
            log::error(
                "api cannot be kept running",
                &[
                    ("failures", &self.current.failures),
                    ("status", &status),
                    ("signal", &signal),
                    ("hung", &hung),
                    ("backoff_ms", &backoff.as_millis()),
                    ("see", &SEE),
                ],
            );
        }
        self.set_state(host, if failing { ApiState::Failing } else { ApiState::Restarting });
    }

    fn set_state(&mut self, host: &Host, state: ApiState) {
        if self.current.state != state {
            (self.current.state, self.current.since_ms) = (state, wall_ms());
        }
        let json = serde_json::to_vec(&self.current).expect("plain data serialises");
        if let Err(e) = dir::replace_file(&host.runtime, store::API_STATE, 0o644, &json) {
            log::warn("cannot write the state of the api", &[("reason", &e)]);
        }
        // READY=1 with the first report, whatever the state: otherwise systemd would stop the unit when its start times out.
        let ready = if self.reported.is_none() { "READY=1\n" } else { "" };
        if self.reported != Some(state) || state == ApiState::Failing {
            notify::notify(&format!("{ready}STATUS={}\n", self.status()));
        }
        self.reported = Some(state);
    }

    fn status(&self) -> String {
        let ended = match (self.current.status, self.current.signal) {
            _ if self.current.hung => "it hung".to_owned(),
            (Some(status), _) => format!("status {status}"),
            (_, Some(signal)) => format!("signal {signal}"),
            _ => "cannot be started".to_owned(),
        };
        match self.current.state {
            ApiState::Running => "the api is running".to_owned(),
            ApiState::Restarting => format!("the api is being restarted ({ended})"),
            ApiState::Failing => {
                format!(
                    "the api cannot be kept running: {} failures in a row, the last: {ended}",
                    self.current.failures
                )
            }
        }
    }
}
