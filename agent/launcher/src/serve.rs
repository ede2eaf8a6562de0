//! The launcher's loop: requests, the api's life, the sync's schedule.
//!
//! ```text
//!              ┌── client: frames ─▶ start / kill / sync ─▶ replies
//!  poll ───────┼── signals: a child ended, or stop
//!              └── timers: restart the api, run the sync, end a sync that hangs
//! ```
//!
//! Shims are nobody's business here once they are forked: they are reaped when they end before the launcher does, and go
//! on when they do not. Stopping goes in this order: no more requests, TERM to api and sync, five seconds, KILL.

mod agent_process;
mod api_report;
mod binary;
mod environment;
mod handed_on;
mod listeners;
mod notify;
mod requests;
mod sync_schedule;

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;
use packs_schema::agent::store;

use crate::host::{Host, HostError};
use crate::{dir, log, sys};
use agent_process::AgentProcess;
use binary::{Binary, BinaryError};
use environment::EnvironmentError;
use listeners::Listeners;
use requests::{Client, Gone};
use sync_schedule::SyncSchedule;

/// How often, at most, groups of kept processes are looked at that may have ended. The sync's schedule wakes the loop for it.
const SWEEP: Duration = Duration::from_secs(20);
/// How long api and sync have between TERM and KILL.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why the launcher ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Binary(#[from] BinaryError),
    #[error("signals cannot be received")]
    Signals(#[source] nix::Error),
    #[error("with --attach, standard input must be a connected Unix stream socket")]
    NoSocket,
    #[error("the client on standard input is broken: {0}")]
    Client(String),
}

/// Serves until it is told to stop, or the attached client is gone. Executions go on after it.
pub(crate) fn run(config: &Path, attach: bool) -> Result<(), ServeError> {
    let passed = listeners::from_systemd();
    let signals = take_signals().map_err(ServeError::Signals)?;
    // Groups, whose modes nobody else sets, are for anybody to look at: the api reads there what an execution uses.
    nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
    if attach {
        let client = attached()?;
        let host = Host::prepare(config, true)?;
        let served = serve_attached(&host, client, &signals);
        host.end();
        served
    } else {
        environment::check()?;
        let binary = Binary::beside_us(config)?;
        let host = Host::prepare(config, false)?;
        let listeners = Listeners::new(&host.config, passed);
        serve_agent(&host, binary, listeners, &signals);
        let _ = host.runtime.remove_file(store::API_STATE);
        host.end();
        Ok(())
    }
}

/// From here on these signals are read, and not acted upon by themselves.
fn take_signals() -> nix::Result<SignalFd> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        mask.add(signal);
    }
    mask.thread_block()?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

fn attached() -> Result<Client, ServeError> {
    let stdin = std::io::stdin();
    let stat = nix::sys::stat::fstat(&stdin).map_err(|_| ServeError::NoSocket)?;
    if !dir::is_kind(&stat, libc::S_IFSOCK) {
        return Err(ServeError::NoSocket);
    }
    let socket = stdin.as_fd().try_clone_to_owned().map_err(|_| ServeError::NoSocket)?;
    Ok(Client::new(UnixStream::from(socket)))
}

fn serve_attached(host: &Host, mut client: Client, signals: &SignalFd) -> Result<(), ServeError> {
    loop {
        wait(signals, Some(&client), None);
        if heed(signals, |_| {}) {
            return Ok(());
        }
        let mut sync = false;
        match client.take(host, &mut sync) {
            Ok(()) => {}
            Err(Gone::Closed) => return Ok(()),
            Err(Gone::Broken(why)) => return Err(ServeError::Client(why)),
        }
    }
}

fn serve_agent(host: &Host, binary: Binary, listeners: Listeners, signals: &SignalFd) {
    let mut agent = AgentProcess::new(listeners);
    let mut sync = SyncSchedule::new(host.config.repository.poll.0);
    let mut swept = Instant::now();
    loop {
        let now = Instant::now();
        if now.duration_since(swept) >= SWEEP {
            host.tree.sweep_kept();
            swept = now;
        }
        agent.tick(host, &binary, now);
        sync.tick(host, &binary, now);
        let due = [agent.due(), sync.due()].into_iter().flatten().min();
        wait(signals, agent.client(), due.map(|at| at.saturating_duration_since(now)));
        let stop = heed(signals, |ended| {
            if !agent.ended(Some(host), ended) {
                sync.ended(Some(host), ended);
            }
        });
        if stop {
            break;
        }
        let mut asked = false;
        agent.take(host, &mut asked);
        if asked {
            sync.ask();
        }
    }
    shut_down(agent, sync, signals);
}

fn shut_down(mut agent: AgentProcess, mut sync: SyncSchedule, signals: &SignalFd) {
    log::info("stopping", &[]);
    notify::tell("STOPPING=1\n");
    agent.hang_up();
    agent.signal(Signal::SIGTERM);
    sync.signal(Signal::SIGTERM);
    let until = Instant::now() + PATIENCE;
    while agent.is_running() || sync.is_running() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            agent.signal(Signal::SIGKILL);
            sync.signal(Signal::SIGKILL);
            return;
        }
        wait(signals, None, Some(left));
        heed(signals, |ended| {
            if !agent.ended(None, ended) {
                // What is stopped in the middle has nothing to tell.
                sync.ended(None, ended);
            }
        });
    }
}

/// Until a signal, a request, or the time is over.
fn wait(signals: &SignalFd, client: Option<&Client>, at_most: Option<Duration>) {
    let timeout = match at_most {
        Some(time) => PollTimeout::try_from(time + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX),
        None => PollTimeout::NONE,
    };
    let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    fds.extend(client.map(|c| PollFd::new(c.as_fd(), PollFlags::POLLIN)));
    // An interrupted or failed poll is one that found nothing: the loop looks at everything anyway.
    let _ = poll(&mut fds, timeout);
}

/// Reads the signals; takes in ended children; true if the launcher is to stop.
fn heed(signals: &SignalFd, mut ended: impl FnMut(&sys::Ended)) -> bool {
    let mut stop = false;
    while let Ok(Some(signal)) = signals.read_signal() {
        let number = signal.ssi_signo.cast_signed();
        stop |= number == Signal::SIGTERM as i32 || number == Signal::SIGINT as i32;
    }
    while let Ok(Some(child)) = sys::reap() {
        ended(&child);
    }
    stop
}
