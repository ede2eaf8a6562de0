//! The life of `bolt-agent api`: started, served, started again when it dies.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::api_report::ApiReport;
use super::binary::{Binary, Role};
use super::listeners::Listeners;
use super::requests::{Client, Gone};
use crate::host::Host;
use crate::{log, sys};

/// The first pause before a restart; each further one is twice as long.
const SHORTEST: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(30);
/// How long one that has closed its socket may take to end: it says why, and closes its history.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// One that ends sooner than this may not have come to answer anybody.
const SOON: Duration = Duration::from_secs(5);
/// After so many of those in a row callers are refused rather than kept waiting.
const HOPELESS: u32 = 5;
/// Having run so long, it counts as healthy: the next pause is the shortest again.
const HEALTHY: Duration = Duration::from_secs(60);

pub(super) struct AgentProcess {
    running: Option<Running>,
    next: Instant,
    pause: Duration,
    report: ApiReport,
    listeners: Listeners,
    /// How often in a row it could not be started, or ended soon after.
    short_lives: u32,
}

struct Running {
    pid: Pid,
    since: Instant,
    /// Gone when its socket was closed: then only its end is awaited.
    client: Option<Client>,
    /// When it is killed, if it has not ended by then.
    until: Option<Instant>,
}

impl AgentProcess {
    pub(super) fn new(listeners: Listeners) -> AgentProcess {
        let report = ApiReport::new();
        AgentProcess { running: None, next: Instant::now(), pause: SHORTEST, report, listeners, short_lives: 0 }
    }

    /// Starts it when it is time.
    pub(super) fn tick(&mut self, host: &Host, binary: &Binary, now: Instant) {
        if let Some(running) = &mut self.running {
            self.report.look(host, running.since, now);
            if running.until.take_if(|until| *until <= now).is_some() {
                log::warn(
                    "api is killed",
                    &[("pid", &running.pid), ("reason", &"it closed its socket and did not end")],
                );
                let _ = kill(running.pid, Signal::SIGKILL);
            }
            return;
        }
        if now < self.next {
            return;
        }
        // Until it is known who this is nobody is to be kept waiting: the api binds by itself when it has learnt it.
        if crate::start::instance(host).is_ok() {
            self.listeners.bind();
        }
        match start(host, binary, &self.listeners) {
            Ok((pid, client)) => {
                log::info("api started", &[("pid", &pid)]);
                self.running = Some(Running { pid, since: now, client: Some(client), until: None });
                self.report.started(host);
            }
            Err(reason) => {
                log::warn("api cannot be started", &[("reason", &reason), ("pause_ms", &self.pause.as_millis())]);
                self.report.failed(Some(host), None, self.pause);
                self.short_lives += 1;
                self.after_failure(now);
            }
        }
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.running {
            Some(running) => [running.until, self.report.due(running.since)].into_iter().flatten().min(),
            None => Some(self.next),
        }
    }

    pub(super) fn client(&self) -> Option<&Client> {
        self.running.as_ref()?.client.as_ref()
    }

    /// Serves what it asks. One that has hung up or talks nonsense is ended; it is started again like one that died.
    pub(super) fn take(&mut self, host: &Host, sync: &mut bool) {
        let Some(running) = &mut self.running else { return };
        let Some(client) = &mut running.client else { return };
        match client.take(host, sync) {
            Ok(()) => {}
            Err(Gone::Closed) => {
                running.client = None;
                running.until = Some(Instant::now() + LAST_WORDS);
            }
            Err(Gone::Broken(why)) => {
                log::warn("api is killed", &[("pid", &running.pid), ("reason", &why)]);
                running.client = None;
                let _ = kill(running.pid, Signal::SIGKILL);
            }
        }
    }

    /// True if it was the api that ended; that is reported in the directory of `host`.
    pub(super) fn ended(&mut self, host: Option<&Host>, child: &sys::Ended) -> bool {
        let Some(running) = self.running.take_if(|r| r.pid == child.pid) else { return false };
        let now = Instant::now();
        if now.duration_since(running.since) >= HEALTHY {
            self.pause = SHORTEST;
            self.report.forget();
        }
        let soon = now.duration_since(running.since) < SOON;
        self.short_lives = if soon { self.short_lives + 1 } else { 0 };
        let (status, signal) = (child.status.unwrap_or(-1), child.signal.unwrap_or(0));
        let pause = self.pause.as_millis();
        log::warn("api ended", &[("pid", &child.pid), ("status", &status), ("signal", &signal), ("pause_ms", &pause)]);
        self.report.failed(host, Some(child), self.pause);
        self.after_failure(now);
        true
    }

    fn after_failure(&mut self, now: Instant) {
        if self.short_lives >= HOPELESS {
            self.listeners.give_up();
        }
        self.next = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST);
    }

    /// Takes no more requests.
    pub(super) fn hang_up(&mut self) {
        if let Some(running) = &mut self.running {
            running.client = None;
            running.until = None;
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(running) = &self.running {
            let _ = kill(running.pid, signal);
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }
}

fn start(host: &Host, binary: &Binary, listeners: &Listeners) -> Result<(Pid, Client), String> {
    let (ours, theirs) = UnixStream::pair().map_err(|e| format!("no socket pair: {e}"))?;
    let role = Role {
        name: "api",
        option: None,
        account: &host.api,
        change_account: host.root,
        nice: 0,
        umask: 0o077,
        socket: Some(theirs.as_fd()),
        listeners: listeners.sockets(),
        group: &host.groups.api,
    };
    let pid = binary.spawn(&role).map_err(|e| crate::describe(&e))?;
    Ok((pid, Client::new(ours)))
}
