//! Schedule of `bolt-sync`: it runs at the launcher's start, at each poll (with jitter, so that a fleet does not poll at the same
//! moment), and on request. One run at a time; any number of requests during a run cause one more run.
//!
//! The end of each run is recorded in `sync.json` in the run-time directory, in memory: a poll without changes writes nothing to
//! disk, and a sync that crashed cannot.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use packs_schema::agent::rest::{BootMoment, SyncEnd};
use packs_schema::agent::store;

use super::agent_programs::{AgentPrograms, Role};
use crate::host::Host;
use crate::{clock, dir, log, sys};

/// Maximum duration of a run.
const MAX_DURATION: Duration = Duration::from_secs(600);

pub(super) struct SyncSchedule {
    poll: Duration,
    next: Instant,
    /// Start of the current run by the wall clock.
    began_at_ms: u64,
    /// Start of the current run by the clock of the boot; absent when it cannot be read.
    began_at_boot_ms: Option<u64>,
    running: Option<(Pid, Instant)>,
    /// True if a run was requested.
    requested: bool,
}

impl SyncSchedule {
    pub(super) fn new(poll: Duration) -> SyncSchedule {
        SyncSchedule {
            poll,
            next: Instant::now(),
            began_at_ms: 0,
            began_at_boot_ms: None,
            running: None,
            requested: false,
        }
    }

    /// Requests a run.
    pub(super) fn request_run(&mut self) {
        self.requested = true;
    }

    /// Starts a run when its time has come, and kills one that hangs.
    pub(super) fn tick(&mut self, host: &Host, programs: &AgentPrograms, now: Instant) {
        if let Some((pid, since)) = self.running {
            if now.duration_since(since) >= MAX_DURATION {
                log::warn("killing sync", &[("pid", &pid), ("reason", &"it runs for more than 600 s")]);
                self.signal(Signal::SIGKILL);
                self.running = Some((pid, now));
            }
            return;
        }
        if !self.requested && now < self.next {
            return;
        }
        let option = std::mem::take(&mut self.requested).then_some(c"--asked");
        self.next = now + jitter(self.poll, RandomState::new().hash_one(0));
        let account = host.sync.as_ref().unwrap_or(&host.me);
        let role = Role {
            name: "sync",
            option,
            account,
            change_account: host.root,
            nice: 10,
            umask: 0o022,
            socket: None,
            passed: [None, None, None, None],
            group: &host.groups.sync,
        };
        self.began_at_ms = clock::wall_ms();
        self.began_at_boot_ms = clock::boot_ms().ok();
        match programs.spawn(&role) {
            Ok(pid) => self.running = Some((pid, now)),
            Err(e) => log::warn("cannot start sync", &[("reason", &log::error_chain(&e))]),
        }
    }

    /// Returns the time of the next call of [`tick`](Self::tick).
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        Some(match self.running {
            Some((_, since)) => since + MAX_DURATION,
            None if self.requested => Instant::now(),
            None => self.next,
        })
    }

    /// Handles the exit of a child if it was the sync. With `host`, the exit is recorded in its run-time directory.
    pub(super) fn handle_exit(&mut self, host: Option<&Host>, child: &sys::ExitedChild) {
        if self.running.take_if(|(pid, _)| *pid == child.pid).is_none() {
            return;
        }
        let moment = |(host, ms): (&Host, u64)| BootMoment { boot: host.boot_id.clone(), ms };
        let began = host.zip(self.began_at_boot_ms).map(moment);
        let end = SyncEnd { began_at_ms: self.began_at_ms, status: child.status, signal: child.signal, began };
        let json = serde_json::to_vec(&end).expect("plain data serialises");
        if let Some(host) = host
            && let Err(e) = dir::replace_file(&host.runtime, store::SYNC_END, 0o644, &json)
        {
            log::warn("cannot record the end of the sync", &[("reason", &e)]);
        }
        // Status 1: the sync has logged the reason.
        if !matches!(child.status, Some(0 | 1)) {
            let (status, signal) = (child.status.unwrap_or(-1), child.signal.unwrap_or(0));
            log::warn("sync failed", &[("pid", &child.pid), ("status", &status), ("signal", &signal)]);
        }
    }

    /// Signals the process group of the sync, or the process alone before it has made its own session.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some((pid, _)) = self.running {
            let _ = killpg(pid, signal).or_else(|_| kill(pid, signal));
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }
}

/// Returns `poll` plus or minus up to a fifth.
fn jitter(poll: Duration, random: u64) -> Duration {
    poll * 4 / 5 + poll * 2 / 5 * u32::try_from(random % 1001).expect("below 1001") / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_have_a_jitter_of_a_fifth() {
        let poll = Duration::from_secs(100);
        for random in [0, 1, 500, 1000, 1001, u64::MAX] {
            let jittered = jitter(poll, random);
            assert!((Duration::from_secs(80)..=Duration::from_secs(120)).contains(&jittered), "{jittered:?}");
        }
        assert_eq!((jitter(poll, 0), jitter(poll, 1000)), (Duration::from_secs(80), Duration::from_secs(120)));
    }
}
