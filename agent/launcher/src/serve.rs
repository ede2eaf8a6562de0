//! The launcher's event loop: serves requests, keeps the api running, and runs the sync on schedule.
//!
//! ```text
//!              ┌── client: frames ─▶ start / accept / kill / sync ─▶ replies
//!  poll ───────┼── signals: a child exited, or stop
//!              └── timers: restart the api, run the sync, kill an api or a sync that hangs
//! ```
//!
//! A shim is independent once it is forked: it is reaped if it ends before the launcher does, and continues otherwise. Order of the
//! shutdown: accept no more requests, SIGTERM to api and sync, wait up to ten seconds, SIGKILL.

mod agent_programs;
mod api_process;
mod api_report;
mod environment;
mod inherited_env;
mod listeners;
mod local_socket;
mod notify;
mod requests;
mod sandbox;
mod sign_of_life;
mod sync_schedule;
mod watchdog;

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
use packs_schema::base::log_event::InvalidFormat;

use crate::host::{Host, HostError};
use crate::shims::ShimExit;
use crate::{accept, clean_up, dir, log, sys};
use agent_programs::{AgentPrograms, ProgramError};
use api_process::ApiProcess;
use environment::EnvironmentError;
use listeners::Listeners;
use local_socket::LocalSocket;
use requests::{Client, Disconnected};
use sync_schedule::SyncSchedule;
use watchdog::Watchdog;

/// Minimum interval between prunings of empty leftover groups. Pruned when the loop wakes up for another reason.
const PRUNE_INTERVAL: Duration = Duration::from_secs(20);
/// Time after which the launcher cleans up again after a shim that died at work: a child that it had forked for its own clean-up may
/// still have its locks.
const SWEEP_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Time without requests, ends of processes and timers after which memory is given back.
const REST_AFTER: Duration = Duration::from_secs(5);
/// Time between SIGTERM and SIGKILL to api and sync. The api cuts its connections after five seconds, and then closes its records.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// Error returned when the launcher ends by a failure.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error(transparent)]
    LogFormat(#[from] InvalidFormat),
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error("cannot receive signals")]
    Signals(#[source] nix::Error),
    #[error("with --attach, standard input must be a connected Unix stream socket")]
    NoSocket,
    #[error("the client on standard input failed: {0}")]
    Client(String),
}

/// Serves until SIGTERM or SIGINT, or until the attached client disconnects. Executions continue afterwards.
pub(crate) fn run(config: &Path, attach: bool) -> Result<(), ServeError> {
    log::start()?;
    let passed = listeners::from_systemd();
    let signals = block_signals().map_err(ServeError::Signals)?;
    // The umask sets the modes of cgroups: the api reads the usage of executions in them.
    nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
    if attach {
        let client = attached_client()?;
        let host = Host::prepare(config, true)?;
        accept::prune(&host);
        clean_up::remove_preparations(&host);
        clean_up::sweep(&host);
        let served = serve_attached(&host, client, &signals);
        host.preparations.discard_all(&host.runtime, &host.shims);
        host.remove_groups();
        served
    } else {
        environment::check()?;
        let programs = AgentPrograms::locate(config)?;
        let host = Host::prepare(config, false)?;
        accept::prune(&host);
        clean_up::remove_preparations(&host);
        clean_up::sweep(&host);
        let listeners = Listeners::new(&host.config, passed);
        serve_agent(&host, &programs, listeners, &signals);
        host.preparations.discard_all(&host.runtime, &host.shims);
        let _ = host.runtime.remove_file(store::API_STATE);
        host.remove_groups();
        Ok(())
    }
}

/// Blocks these signals and returns the descriptor from which they are read.
fn block_signals() -> nix::Result<SignalFd> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        mask.add(signal);
    }
    mask.thread_block()?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

/// Returns the client on standard input.
fn attached_client() -> Result<Client, ServeError> {
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
        let next = host.preparations.next_deadline();
        wait(signals, Some(&client), next.map(|at| at.saturating_duration_since(Instant::now())), || {});
        host.preparations.expire(Instant::now(), &host.runtime, &host.shims);
        if handle_signals(signals, |exited| _ = handle_shim_exit(host, exited)) {
            return Ok(());
        }
        let mut sync_requested = false;
        match client.serve(host, &mut sync_requested) {
            Ok(()) => {}
            Err(Disconnected::Closed) => return Ok(()),
            Err(Disconnected::Failed(why)) => return Err(ServeError::Client(why)),
        }
    }
}

fn serve_agent(host: &Host, programs: &AgentPrograms, listeners: Listeners, signals: &SignalFd) {
    let mut api = ApiProcess::new(host.config.api.hang_after(), listeners, LocalSocket::new(&host.runtime));
    let mut sync = SyncSchedule::new(host.config.repository.poll.0);
    let mut watchdog = Watchdog::from_environment();
    let mut pruned = Instant::now();
    // Shims that were killed with the previous launcher may have been ending when it was swept at the start.
    let mut sweep_again = Some(Instant::now() + SWEEP_AGAIN_AFTER);
    let mut program = Vec::new();
    let mut active = Instant::now();
    loop {
        let now = Instant::now();
        if now.duration_since(pruned) >= PRUNE_INTERVAL {
            host.tree.prune_leftover_groups();
            clean_up::sweep(host);
            pruned = now;
        }
        if sweep_again.take_if(|at| *at <= now).is_some() {
            clean_up::sweep(host);
        }
        host.preparations.expire(now, &host.runtime, &host.shims);
        api.tick(host, programs, now);
        sync.tick(host, programs, now);
        watchdog.tick(now);
        let work = [api.next_deadline(), sync.next_deadline(), host.preparations.next_deadline(), sweep_again];
        let work = work.into_iter().flatten().min();
        let next = [work, watchdog.next_deadline(), api.next_look()].into_iter().flatten().min();
        let left = || next.map(|at| at.saturating_duration_since(Instant::now()));
        let until_rest = (active + REST_AFTER).saturating_duration_since(now);
        let mut woken = Woken::Timeout;
        if !until_rest.is_zero() {
            let at_most = left().map_or(until_rest, |left| left.min(until_rest));
            woken = wait(signals, api.client(), Some(at_most), || {});
        }
        if woken == Woken::Timeout && left().is_none_or(|left| !left.is_zero()) {
            woken = wait(signals, api.client(), left(), || sys::give_memory_back(&mut program));
        }
        // The end of an idle shim, after a time that is shorter, does not put off the rest; neither do the
        // watchdog and the looks for signs of life.
        let is_work_due = work.is_some_and(|at| at <= Instant::now());
        let mut is_idle = woken == Woken::Signal || (woken == Woken::Timeout && !is_work_due);
        let stop = handle_signals(signals, |exited| {
            let shim = handle_shim_exit(host, exited);
            is_idle &= shim == Some(ShimExit::Idle);
            if shim == Some(ShimExit::AtWork) {
                sweep_again = Some(Instant::now() + SWEEP_AGAIN_AFTER);
            }
            if shim.is_none() && !api.handle_exit(Some(host), exited) {
                sync.handle_exit(Some(host), exited);
            }
        });
        if !is_idle {
            active = Instant::now();
        }
        if stop {
            break;
        }
        let mut sync_requested = false;
        api.serve(host, &mut sync_requested);
        if sync_requested {
            sync.request_run();
        }
    }
    shut_down(api, sync, signals);
}

/// Handles the exit of a child; `None` if it was no shim. One that died at work may have left something behind.
fn handle_shim_exit(host: &Host, child: &sys::ExitedChild) -> Option<ShimExit> {
    let exit = host.shims.handle_exit(child.pid)?;
    if exit == ShimExit::AtWork {
        host.preparations.discard_of(child.pid, &host.runtime, &host.shims);
        clean_up::sweep(host);
    }
    Some(exit)
}

fn shut_down(mut api: ApiProcess, mut sync: SyncSchedule, signals: &SignalFd) {
    log::info("stopping", &[]);
    notify::notify("STOPPING=1\n");
    // The signal first: an api whose socket closes before it sees one takes that for the death of its launcher.
    api.signal(Signal::SIGTERM);
    api.disconnect();
    sync.signal(Signal::SIGTERM);
    let until = Instant::now() + SHUTDOWN_GRACE;
    while api.is_running() || sync.is_running() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            api.signal(Signal::SIGKILL);
            sync.signal(Signal::SIGKILL);
            return;
        }
        wait(signals, None, Some(left), || {});
        handle_signals(signals, |exited| {
            // Without a host: the end of a process that is being stopped is not recorded.
            if !api.handle_exit(None, exited) {
                sync.handle_exit(None, exited);
            }
        });
    }
}

/// Reason why a wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    Timeout,
    /// Only a signal arrived.
    Signal,
    /// A request arrived, or the wait failed: the loop checks everything anyway.
    Other,
}

/// Waits for a signal, a request, or until the time is over. Calls `before` when all is ready to wait.
fn wait(signals: &SignalFd, client: Option<&Client>, at_most: Option<Duration>, before: impl FnOnce()) -> Woken {
    let timeout = match at_most {
        Some(time) => PollTimeout::try_from(time + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX),
        None => PollTimeout::NONE,
    };
    let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    fds.extend(client.map(|c| PollFd::new(c.as_fd(), PollFlags::POLLIN)));
    before();
    match poll(&mut fds, timeout) {
        Ok(0) => Woken::Timeout,
        Ok(1) if fds[0].any() == Some(true) => Woken::Signal,
        Ok(_) | Err(_) => Woken::Other,
    }
}

/// Reads signals and reaps children; returns true if the launcher must stop.
fn handle_signals(signals: &SignalFd, mut on_exit: impl FnMut(&sys::ExitedChild)) -> bool {
    let mut stop = false;
    while let Ok(Some(signal)) = signals.read_signal() {
        let number = signal.ssi_signo.cast_signed();
        stop |= number == Signal::SIGTERM as i32 || number == Signal::SIGINT as i32;
    }
    while let Ok(Some(child)) = sys::reap() {
        on_exit(&child);
    }
    stop
}
