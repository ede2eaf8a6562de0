//! `bolt-agent api`: starts the parts in order, and stops them in order.
//!
//! ```text
//!  start  sockets from the launcher ─▶ configuration ─▶ state directory ─▶ grants, certificates ─▶ instance id
//!         ─▶ listening sockets ─▶ history ─▶ recovery (health answers if it takes long) ─▶ ready
//!         (callers are answered only while certificates and grants can be used; local access works without)
//!  stop   not ready ─▶ no new connections ─▶ waiting callers are answered, streams are cut ─▶ drain, at most 5 s ─▶ audit log, history closed
//! ```
//!
//! A stop does not touch executions: their shims continue, and the next start adopts them. When the launcher closes its end
//! of the socket, the process ends with status 1.

mod at_rest;
mod config_events;
mod listeners;
mod sign_of_life;
mod state;
#[cfg(test)]
mod tests;
mod watched;

use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use packs_schema::agent::config::Config;
use packs_schema::agent::rest::Enforcement;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::access::Access;
use crate::api::App;
use crate::api::fingerprint::Fingerprints;
use crate::api::listener::{self, ListeningSockets};
use crate::api::local_listener::{self, LocalSocket};
use crate::api::pushes::{self, Pushes};
use crate::api::starting::{self, Starting};
use crate::api::tls::Tls;
use crate::audit::{self, Audit};
use crate::clock;
use crate::config_file::{self, ConfigFileError};
use crate::exec::{self, Exec, Launcher, LauncherError, RecoverError, Settings};
use crate::health::Health;
use crate::history::{History, HistoryError};
use crate::instance::Instance;
use crate::metrics::Metrics;
use crate::registry::{Registry, read_json};
use crate::sys;
use config_events::ConfigEvents;
use listeners::{Listeners, Passed};
use state::{State, StateError};

/// Error returned when the api cannot start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(
        "the api reads the network and must not run as root: start bolt-launch, which runs it as the account `users.api` of agent.toml"
    )]
    Root,
    #[error(transparent)]
    Config(#[from] ConfigFileError),
    #[error(transparent)]
    Adopt(#[from] sys::AdoptError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error("cannot create or read the idempotency key in the state directory")]
    Fingerprints(#[source] std::io::Error),
    #[error("cannot recover executions from before the restart")]
    Recover(#[from] RecoverError),
    #[error("cannot start the thread of the audit log")]
    Audit(#[source] std::io::Error),
    #[error(transparent)]
    Launcher(#[from] LauncherError),
    #[error("cannot listen on {address} ({key}){}", if .source.kind() == std::io::ErrorKind::AddrInUse { ": the port is in use; choose another, or stop the process that uses it" } else { "" })]
    Listen { key: &'static str, address: std::net::SocketAddr, source: std::io::Error },
    #[error("cannot use the socket of local access")]
    Local(#[source] std::io::Error),
    #[error("cannot use the launcher's socket for signs of life")]
    SignOfLife(#[source] std::io::Error),
    #[error("cannot read the boot id")]
    BootId(#[source] std::io::Error),
    #[error("cannot start the async runtime")]
    Runtime(#[source] std::io::Error),
}

/// Maximum number of threads that read outputs and archive; their tasks wait in memory.
const BLOCKING_THREADS: usize = 8;
/// Stack size of these threads: frames are small, and the compressor's tables are on the heap.
const STACK_SIZE: usize = 1 << 20;

/// Time after the launcher has disconnected in which its signal to stop is awaited.
const SIGNAL_FOLLOWS: Duration = Duration::from_millis(250);

/// Reason for the end of the api.
#[derive(Debug)]
enum Ended {
    Signalled,
    LauncherGone,
    HistoryDamaged,
}

/// Runs `bolt-agent api`.
pub fn main(config: &Path, launcher: i32) -> ExitCode {
    sys::use_one_heap();
    // Before anything opens a descriptor of its own.
    let (socket, passed) = (sys::adopt_socket(launcher), Passed::take());
    crate::log::start("bolt-agent");
    match start(config, socket, passed) {
        Ok(Ended::Signalled) => ExitCode::SUCCESS,
        Ok(Ended::LauncherGone) => {
            tracing::error!(
                "the launcher has closed its end of the socket; ending, so that a new launcher starts a new api"
            );
            ExitCode::FAILURE
        }
        Ok(Ended::HistoryDamaged) => {
            tracing::error!(
                "ending because the history is damaged: the next start sets it aside and creates a new one"
            );
            ExitCode::FAILURE
        }
        Err(error) => {
            tracing::error!(error = crate::log::chain(&error), "cannot start");
            ExitCode::FAILURE
        }
    }
}

fn start(
    path: &Path,
    socket: Result<OwnedFd, sys::AdoptError>,
    passed: Result<Passed, sys::AdoptError>,
) -> Result<Ended, StartError> {
    if nix::unistd::geteuid().is_root() || nix::unistd::getuid().is_root() {
        return Err(StartError::Root);
    }
    let (socket, passed) = (socket?, passed?);
    let (path, config) = config_file::read(path)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_stack_size(STACK_SIZE)
        .on_thread_park(at_rest::before_park)
        .build()
        .map_err(StartError::Runtime)?;
    let ended = runtime.block_on(run(config, Some(path), socket, passed, wait_for_signal()))?;
    Ok(ended)
}

/// Runs until `stop` ends or the launcher disconnects. `file` is the file of the configuration.
async fn run(
    config: Config,
    file: Option<PathBuf>,
    socket: OwnedFd,
    mut passed: Passed,
    stop: impl Future<Output = ()>,
) -> Result<Ended, StartError> {
    let state = Arc::new(State::lock(&config.paths.state)?);
    let health = Arc::new(Health::default());
    let access = Arc::new(Access::begin(&config.paths.grants, health.clone()));
    let tls = Arc::new(Tls::load(&config.tls, health.clone()));
    let fingerprints = Fingerprints::load(&config.paths.state).map_err(StartError::Fingerprints)?;
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(StartError::BootId)?;
    let boot_id = boot_id.trim().to_owned();
    let local = match passed.local.take() {
        Some(listener) => Some(LocalSocket::of_launcher(listener, &socket).map_err(StartError::Local)?),
        None => None,
    };
    let alive = passed.alive.take().map(sign_of_life::register).transpose().map_err(StartError::SignOfLife)?;
    let launcher = Launcher::connect(socket)?;
    let mut gone = launcher.gone();
    let mut stop = pin!(stop);
    let instance = tokio::select! {
        instance = Instance::learn(&config, &boot_id, &launcher) => instance,
        () = &mut stop => return Ok(Ended::Signalled),
        _ = gone.wait_for(|gone| *gone) => return Ok(Ended::LauncherGone),
    };
    tls.serve_as(instance.id());
    access.set_facts(instance.known_facts());
    let registry = Arc::new(Registry::new(config.paths.packs.clone()).with_runtime(&config.paths.runtime));
    let metrics = Arc::new(Metrics::default());
    // Bound before recovery, so that a port in use is reported before anything is started; served after it.
    let Listeners { api, health: probes } = listeners::listen(&config, passed, &health).await?;
    let settings = Settings::new(&config, instance.id().clone(), boot_id);
    let id = instance.id().clone();
    let events = ConfigEvents::new(&config, file.as_deref());
    let audit_settings = audit::Settings { directory: config.paths.audit(), config: config.audit.clone() };
    let (audit, settled) = Audit::open(&audit_settings, health.clone()).map_err(StartError::Audit)?;
    let recording = audit.clone();
    let recovering = async {
        let (path, id) = (config.paths.state.join("history.db"), id.clone());
        // Salvage of a damaged file reads what may be gigabytes.
        let opened = tokio::task::spawn_blocking(move || History::open(&path, &id)).await;
        let history = Arc::new(opened.map_err(|_| HistoryError::Closed)??);
        let (registry, access) = (registry.clone(), access.clone());
        let (health, metrics) = (health.clone(), metrics.clone());
        let begun = Exec::begin(settings, history.clone(), registry, access, launcher, recording, health, metrics);
        let exec = begun.await?;
        Ok::<_, StartError>((history, exec))
    };
    let starting =
        Starting { instance: id.clone(), health: health.clone(), registry: registry.clone(), metrics: metrics.clone() };
    let (history, exec) = tokio::select! {
        recovered = recovering => recovered?,
        () = starting::answer(Arc::new(starting), &api, probes.as_ref(), tls.clone()) => return Ok(Ended::Signalled),
        // Recovery can be stopped at any point: the next start repeats it from the directories.
        () = &mut stop => return Ok(Ended::Signalled),
        _ = gone.wait_for(|gone| *gone) => return Ok(Ended::LauncherGone),
    };
    // After recovery, which may take long and is not a hang.
    let alive = alive.map(|socket| tokio::spawn(sign_of_life::give(socket, metrics.clone())));
    let mut damaged = history.damaged();
    exec.keep_history();
    let marks = tokio::spawn(exec::remove_marks(Arc::downgrade(&exec), settled));
    let (stop_sender, stopping) = watch::channel(false);
    let app = Arc::new(App {
        stopping: stopping.clone(),
        instance,
        channel: config.repository.channel.clone(),
        enforcement: config.paths.runtime.join("enforcement.json"),
        started_at_ms: clock::now_ms(),
        access,
        tls: tls.clone(),
        exec,
        audit: audit.clone(),
        history: history.clone(),
        registry,
        health: health.clone(),
        metrics,
        fingerprints,
        pushes: Pushes::new(&config),
        connections: AtomicU32::new(0),
    });
    report_enforcement(&app);
    events.record_start(&app).await;
    let expiring = tokio::spawn(pushes::expire_pushed(app.clone()));
    let files = watched::Files { config: file, root: config.repository.root.clone() };
    let watching = tokio::spawn(watched::watch(app.clone(), files, events));
    let listen_failed = |source| StartError::Listen { key: "api.listen", address: config.api.listen, source };
    let address = api.local_addr().map_err(listen_failed)?;
    watched::report_closed(&app);
    match app.closed_because() {
        None => {
            state.write_address(address)?;
            tracing::info!(%address, instance = %id, version = crate::VERSION, "listening");
        }
        Some(reason) => {
            tracing::error!(reason, instance = %id, version = crate::VERSION, "no caller is answered; local access works");
        }
    }
    health.set_ready(true);
    let opened = open_later(app.clone(), state.clone(), address);
    let sockets = ListeningSockets { api, health: probes, max_connections: config.api.max_connections };
    let serving_locally =
        local.map(|socket| tokio::spawn(local_listener::serve(app.clone(), socket, stopping.clone())));
    let serving = tokio::spawn(listener::serve(app, sockets, tls, stopping));
    let ended = tokio::select! {
        biased;
        () = &mut stop => Ended::Signalled,
        _ = gone.wait_for(|gone| *gone) => Ended::LauncherGone,
        _ = damaged.wait_for(|damaged| *damaged) => Ended::HistoryDamaged,
        never = opened => match never {},
    };
    let ended = match ended {
        Ended::LauncherGone => after_disconnect(&mut stop).await,
        other => other,
    };
    match ended {
        Ended::Signalled => {}
        Ended::LauncherGone => {
            health.set("launcher_gone", "the launcher has closed its end of the socket; the agent ends".to_owned());
        }
        Ended::HistoryDamaged => {
            health.set("history_damaged", "the history is damaged: the agent restarts with a new one".to_owned());
        }
    }
    tracing::info!("stopping");
    health.set_ready(false);
    stop_sender.send_replace(true);
    for task in [expiring, watching] {
        task.abort();
        // Aborted: wait until it has ended.
        let _ = task.await;
    }
    for serving in [Some(serving), serving_locally].into_iter().flatten() {
        if let Err(error) = serving.await {
            tracing::error!(%error, "a listener task ended early");
        }
    }
    // In this order: nothing is recorded any more, the last marks are removed, and then nothing is written.
    audit.close().await;
    if let Err(error) = marks.await {
        tracing::error!(%error, "the task that removes marks of the audit log ended early");
    }
    history.close().await;
    state.remove_address();
    if let Some(alive) = alive {
        alive.abort();
        // Aborted: wait until it has ended.
        let _ = alive.await;
    }
    Ok(ended)
}

/// Records that callers are answered, once files that could not be used at the start have been repaired. Does not end.
async fn open_later(app: Arc<App>, state: Arc<State>, address: std::net::SocketAddr) -> Infallible {
    if app.closed_because().is_some() {
        app.opened().await;
        watched::report_closed(&app);
        if let Err(error) = state.write_address(address) {
            tracing::error!(error = crate::log::chain(&error), "cannot record the address");
        }
        tracing::info!(%address, "listening");
    }
    std::future::pending().await
}

/// Decides why the launcher has disconnected: at a clean stop its signal has been sent already, or follows at once.
async fn after_disconnect(stop: &mut (impl Future<Output = ()> + Unpin)) -> Ended {
    match tokio::time::timeout(SIGNAL_FOLLOWS, stop).await {
        Ok(()) => Ended::Signalled,
        Err(_) => Ended::LauncherGone,
    }
}

/// Reports what the launcher determined at its start. A launcher that restarts starts a new api, too.
fn report_enforcement(app: &App) {
    let found: Enforcement = match read_json(&app.enforcement) {
        Ok(found) => found.unwrap_or_default(),
        Err(error) => {
            return tracing::warn!(error = crate::log::chain(&error), "cannot read which limits the launcher enforces");
        }
    };
    if let Some(account) = found.shared_account {
        let message = format!(
            "all actions that name no account run as {account} (execution.default_run_as) and can see each other's processes; \
             without the key each execution has an account of its own"
        );
        app.health.note("shared_account", message);
    }
    if !found.warnings.is_empty() {
        app.health.set("execution_configuration", found.warnings.join("; "));
    }
}

async fn wait_for_signal() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        tracing::error!("cannot wait for signals");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
