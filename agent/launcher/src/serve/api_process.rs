//! The process `bolt-agent api`: started, served, killed when it hangs, and restarted with exponential backoff when it ends.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::agent_programs::{AgentPrograms, Role};
use super::api_report::ApiReport;
use super::listeners::Listeners;
use super::local_socket::LocalSocket;
use super::requests::{Client, Disconnected};
use super::sign_of_life::SignOfLife;
use crate::host::Host;
use crate::{log, start, sys};

/// Backoff before the first restart; doubled for each further one.
const MIN_BACKOFF: Duration = Duration::from_millis(100);
/// Maximum backoff.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// Time that an api may take to end after it has closed its socket: it lets requests in progress end, for five seconds, and closes
/// its records.
const EXIT_GRACE: Duration = Duration::from_secs(10);
/// An api that ends within this time has probably answered no request.
const EARLY_EXIT: Duration = Duration::from_secs(5);
/// Number of early exits in a row after which the listening sockets are closed, so that callers are refused instead of kept waiting.
const MAX_EARLY_EXITS: u32 = 5;
/// Reason of the end of an api that hangs.
const HUNG: &str = "it hangs: no sign of life for api.hang_after; executions go on";
/// Running time after which the backoff is reset.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

pub(super) struct ApiProcess {
    running: Option<Running>,
    /// Time of the next start.
    next_start: Instant,
    backoff: Duration,
    report: ApiReport,
    listeners: Listeners,
    local: LocalSocket,
    /// Number of failed starts and early exits in a row.
    early_exits: u32,
}

struct Running {
    pid: Pid,
    since: Instant,
    /// `None` after the socket was closed: then only the exit is awaited.
    client: Option<Client>,
    /// Time at which it is killed unless it has ended.
    kill_at: Option<Instant>,
    /// `None` if a hung api is not replaced.
    life: Option<SignOfLife>,
}

impl ApiProcess {
    pub(super) fn new(hang_after: Option<Duration>, listeners: Listeners, local: LocalSocket) -> ApiProcess {
        let report = ApiReport::new(hang_after);
        ApiProcess {
            running: None,
            next_start: Instant::now(),
            backoff: MIN_BACKOFF,
            report,
            listeners,
            local,
            early_exits: 0,
        }
    }

    /// Starts the api when its time has come, and kills one that does not end.
    pub(super) fn tick(&mut self, host: &Host, programs: &AgentPrograms, now: Instant) {
        if let Some(running) = &mut self.running {
            self.report.check_stable(host, running.since, now);
            if running.kill_at.take_if(|at| *at <= now).is_some() {
                log::warn("killing api", &[("pid", &running.pid), ("reason", &"it closed its socket and did not end")]);
                let _ = kill(running.pid, Signal::SIGKILL);
            }
            if running.life.as_mut().is_some_and(|life| life.is_hung(now)) {
                log::error("killing api", &[("pid", &running.pid), ("reason", &HUNG)]);
                let _ = kill(running.pid, Signal::SIGKILL);
            }
            return;
        }
        if now < self.next_start {
            return;
        }
        // While the instance id is unknown, callers must not wait: the api binds the sockets itself once it knows the id.
        if start::instance_facts(host).is_ok() {
            self.listeners.bind();
        }
        self.local.bind();
        let [api, health] = self.listeners.sockets();
        match spawn(host, programs, [api, health, self.local.as_fd()], now) {
            Ok((pid, client, life)) => {
                log::info("api started", &[("pid", &pid)]);
                self.running = Some(Running { pid, since: now, client: Some(client), kill_at: None, life });
                self.report.record_start(host);
            }
            Err(reason) => {
                log::warn("cannot start api", &[("reason", &reason), ("backoff_ms", &self.backoff.as_millis())]);
                self.report.record_failure(Some(host), None, false, self.backoff);
                self.early_exits += 1;
                self.back_off(now);
            }
        }
    }

    /// Returns the time of the next call of [`tick`](Self::tick).
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match &self.running {
            Some(running) => [running.kill_at, self.report.next_check(running.since)].into_iter().flatten().min(),
            None => Some(self.next_start),
        }
    }

    /// Returns the time of the next look for a sign of life, which is part of [`tick`](Self::tick) and no work.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.running.as_ref()?.life.as_ref().map(SignOfLife::next_look)
    }

    pub(super) fn client(&self) -> Option<&Client> {
        self.running.as_ref()?.client.as_ref()
    }

    /// Serves its requests. An api that disconnects or sends invalid frames is killed, and restarted like one that has crashed.
    pub(super) fn serve(&mut self, host: &Host, sync_requested: &mut bool) {
        let Some(running) = &mut self.running else { return };
        let Some(client) = &mut running.client else { return };
        match client.serve(host, sync_requested) {
            Ok(()) => {}
            Err(Disconnected::Closed) => {
                running.client = None;
                running.kill_at = Some(Instant::now() + EXIT_GRACE);
            }
            Err(Disconnected::Failed(why)) => {
                log::warn("killing api", &[("pid", &running.pid), ("reason", &why)]);
                running.client = None;
                let _ = kill(running.pid, Signal::SIGKILL);
            }
        }
    }

    /// Handles the exit of a child; returns true if it was the api. With `host`, the exit is recorded in its run-time directory.
    pub(super) fn handle_exit(&mut self, host: Option<&Host>, child: &sys::ExitedChild) -> bool {
        let Some(running) = self.running.take_if(|r| r.pid == child.pid) else { return false };
        let now = Instant::now();
        let hung = running.life.as_ref().is_some_and(SignOfLife::is_known_hung);
        let ran = match &running.life {
            Some(life) => life.running_time(running.since, now),
            None => now.duration_since(running.since),
        };
        if ran >= HEALTHY_AFTER {
            self.backoff = MIN_BACKOFF;
            self.report.reset_failures();
        }
        let early = ran < EARLY_EXIT;
        self.early_exits = if early { self.early_exits + 1 } else { 0 };
        let (status, signal) = (child.status.unwrap_or(-1), child.signal.unwrap_or(0));
        let backoff = self.backoff.as_millis();
        log::warn(
            "api ended",
            &[("pid", &child.pid), ("status", &status), ("signal", &signal), ("backoff_ms", &backoff)],
        );
        self.report.record_failure(host, Some(child), hung, self.backoff);
        self.back_off(now);
        true
    }

    fn back_off(&mut self, now: Instant) {
        if self.early_exits >= MAX_EARLY_EXITS {
            self.listeners.close();
            self.local.close();
        }
        self.next_start = now + self.backoff;
        self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
    }

    /// Closes the socket: no more requests are served. Removes the socket of local access.
    pub(super) fn disconnect(&mut self) {
        self.local.close();
        if let Some(running) = &mut self.running {
            running.client = None;
            running.kill_at = None;
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

fn spawn(
    host: &Host,
    programs: &AgentPrograms,
    [api, health, local]: [Option<BorrowedFd<'_>>; 3],
    now: Instant,
) -> Result<(Pid, Client, Option<SignOfLife>), String> {
    let life = host.config.api.hang_after().map(|time| SignOfLife::begin(time, now)).transpose();
    let (life, questions) = life.map_err(|e| format!("cannot create a socket pair: {e}"))?.unzip();
    let (ours, theirs) = UnixStream::pair().map_err(|e| format!("cannot create a socket pair: {e}"))?;
    let role = Role {
        name: "api",
        option: None,
        account: &host.api,
        change_account: host.root,
        nice: 0,
        umask: 0o077,
        socket: Some(theirs.as_fd()),
        passed: [api, health, local, questions.as_ref().map(AsFd::as_fd)],
        group: &host.groups.api,
    };
    let pid = programs.spawn(&role).map_err(|e| log::error_chain(&e))?;
    Ok((pid, Client::new(ours), life))
}
