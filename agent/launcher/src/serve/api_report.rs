//! How the api fares, for those who look at the host rather than at the api, which may not be there to ask: `api.json` in the
//! runtime directory, systemd's status line, and the log.
//!
//! ```text
//!  running ──ends──▶ restarting ──FEW ends in a row──▶ failing ──stays up for STEADY──▶ running
//! ```
//!
//! The launcher answers nobody in the api's place: it holds the listening sockets, and accepts and reads nothing.

use std::time::{Duration, Instant};

use packs_schema::agent::rest::{ApiProcess, ApiState};
use packs_schema::agent::store;

use super::notify;
use crate::clock::wall_ms;
use crate::host::Host;
use crate::{dir, log, sys};

/// So many ends in a row, and somebody has to see to it.
const FEW: u32 = 3;
/// Having run so long, it is up again.
const STEADY: Duration = Duration::from_secs(5);
/// Where it says why it ended.
const WORDS: &str = "the lines of bolt-agent before this one (under systemd: journalctl -u bolt-launch)";

pub(super) struct ApiReport {
    now: ApiProcess,
    /// What was said last.
    said: Option<ApiState>,
}

impl ApiReport {
    pub(super) fn new() -> ApiReport {
        let now =
            ApiProcess { state: ApiState::Restarting, since_ms: wall_ms(), failures: 0, status: None, signal: None };
        ApiReport { now, said: None }
    }

    /// It has been started.
    pub(super) fn started(&mut self, host: &Host) {
        if self.now.failures == 0 {
            self.go_over(host, ApiState::Running);
        }
    }

    /// When [`look`](Self::look) has something to find, for one that has run `since`.
    pub(super) fn due(&self, since: Instant) -> Option<Instant> {
        (self.now.state != ApiState::Running).then(|| since + STEADY)
    }

    /// It has run `since`.
    pub(super) fn look(&mut self, host: &Host, since: Instant, now: Instant) {
        if self.now.state != ApiState::Running && now.duration_since(since) >= STEADY {
            log::info("api stays up", &[("failures", &self.now.failures)]);
            self.go_over(host, ApiState::Running);
        }
    }

    /// It has been well for long: what was before counts no more.
    pub(super) fn forget(&mut self) {
        self.now.failures = 0;
    }

    /// It has ended, or could not be started, which has neither status nor signal.
    pub(super) fn failed(&mut self, host: Option<&Host>, end: Option<&sys::Ended>, pause: Duration) {
        self.now.failures += 1;
        (self.now.status, self.now.signal) = (end.and_then(|e| e.status), end.and_then(|e| e.signal));
        let Some(host) = host else { return };
        let failing = self.now.failures >= FEW;
        if failing {
            let (status, signal) = (self.now.status.unwrap_or(-1), self.now.signal.unwrap_or(0));
            log::error(
                "api cannot be kept running",
                &[
                    ("failures", &self.now.failures),
                    ("status", &status),
                    ("signal", &signal),
                    ("pause_ms", &pause.as_millis()),
                    ("see", &WORDS),
                ],
            );
        }
        self.go_over(host, if failing { ApiState::Failing } else { ApiState::Restarting });
    }

    fn go_over(&mut self, host: &Host, state: ApiState) {
        if self.now.state != state {
            (self.now.state, self.now.since_ms) = (state, wall_ms());
        }
        let json = serde_json::to_vec(&self.now).expect("plain data serialises");
        if let Err(e) = dir::replace_file(&host.runtime, store::API_STATE, 0o644, &json) {
            log::warn("the state of the api cannot be noted", &[("reason", &e)]);
        }
        // Ready at the first word, whichever it is: a start that systemd ends for want of it would help nobody.
        let ready = if self.said.is_none() { "READY=1\n" } else { "" };
        if self.said != Some(state) || state == ApiState::Failing {
            notify::tell(&format!("{ready}STATUS={}\n", self.status()));
        }
        self.said = Some(state);
    }

    fn status(&self) -> String {
        let ended = match (self.now.status, self.now.signal) {
            (Some(status), _) => format!("status {status}"),
            (_, Some(signal)) => format!("signal {signal}"),
            _ => "it could not be started".to_owned(),
        };
        match self.now.state {
            ApiState::Running => "the api is running".to_owned(),
            ApiState::Restarting => format!("the api is restarted ({ended})"),
            ApiState::Failing => {
                format!("the api cannot be kept running: {} failures in a row, the last: {ended}", self.now.failures)
            }
        }
    }
}
