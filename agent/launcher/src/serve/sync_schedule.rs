//! When `bolt-sync` runs: at the start, at each poll (spread, so that a fleet does not ask at once), and when asked.
//! One at a time; any number of asks while it runs are one more run.
//!
//! How each run ended is left in `sync.json` in the runtime directory, which is kept in memory: a poll that finds nothing
//! new writes nothing to the disk, and one that crashed could not.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use packs_schema::agent::rest::{BootMoment, SyncEnd};
use packs_schema::agent::store;

use super::binary::{Binary, Role};
use crate::host::Host;
use crate::{clock, dir, log, sys};

/// A sync that takes longer hangs.
const LONGEST: Duration = Duration::from_secs(600);

pub(super) struct SyncSchedule {
    poll: Duration,
    next: Instant,
    began_at_ms: u64,
    /// The same by the clock of the boot; unknown when that cannot be read.
    began_at_boot_ms: Option<u64>,
    running: Option<(Pid, Instant)>,
    again: bool,
}

impl SyncSchedule {
    pub(super) fn new(poll: Duration) -> SyncSchedule {
        SyncSchedule { poll, next: Instant::now(), began_at_ms: 0, began_at_boot_ms: None, running: None, again: false }
    }

    /// Someone wants it to run now.
    pub(super) fn ask(&mut self) {
        self.again = true;
    }

    /// Starts it when it is time, and ends one that hangs.
    pub(super) fn tick(&mut self, host: &Host, binary: &Binary, now: Instant) {
        if let Some((pid, since)) = self.running {
            if now.duration_since(since) >= LONGEST {
                log::warn("sync hangs and is ended", &[("pid", &pid)]);
                self.signal(Signal::SIGKILL);
                self.running = Some((pid, now));
            }
            return;
        }
        if !self.again && now < self.next {
            return;
        }
        let option = std::mem::take(&mut self.again).then_some(c"--asked");
        self.next = now + spread(self.poll, RandomState::new().hash_one(0));
        let account = host.sync.as_ref().unwrap_or(&host.me);
        let role = Role {
            name: "sync",
            option,
            account,
            change_account: host.root,
            nice: 10,
            umask: 0o022,
            socket: None,
            listeners: [None, None],
            group: &host.groups.sync,
        };
        self.began_at_ms = clock::wall_ms();
        self.began_at_boot_ms = clock::boot_ms().ok();
        match binary.spawn(&role) {
            Ok(pid) => self.running = Some((pid, now)),
            Err(e) => log::warn("sync cannot be started", &[("reason", &crate::describe(&e))]),
        }
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        Some(match self.running {
            Some((_, since)) => since + LONGEST,
            None if self.again => Instant::now(),
            None => self.next,
        })
    }

    /// Takes the end of a child, if it was the sync, and notes it in the directory of `host`.
    pub(super) fn ended(&mut self, host: Option<&Host>, child: &sys::Ended) {
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
            log::warn("the end of a sync cannot be noted", &[("reason", &e)]);
        }
        // 1: the sync has said why.
        if !matches!(child.status, Some(0 | 1)) {
            let (status, signal) = (child.status.unwrap_or(-1), child.signal.unwrap_or(0));
            log::warn("sync failed", &[("pid", &child.pid), ("status", &status), ("signal", &signal)]);
        }
    }

    /// Its own session is its process group as well, once it has made it.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some((pid, _)) = self.running {
            let _ = killpg(pid, signal).or_else(|_| kill(pid, signal));
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }
}

/// `poll`, a fifth more or less.
fn spread(poll: Duration, random: u64) -> Duration {
    poll * 4 / 5 + poll * 2 / 5 * u32::try_from(random % 1001).expect("below 1001") / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_are_spread_by_a_fifth() {
        let poll = Duration::from_secs(100);
        for random in [0, 1, 500, 1000, 1001, u64::MAX] {
            let spread = spread(poll, random);
            assert!((Duration::from_secs(80)..=Duration::from_secs(120)).contains(&spread), "{spread:?}");
        }
        assert_eq!((spread(poll, 0), spread(poll, 1000)), (Duration::from_secs(80), Duration::from_secs(120)));
    }
}
