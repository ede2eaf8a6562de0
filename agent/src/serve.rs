//! `bolt-agent api`: putting the parts together, and taking them apart in order.
//!
//! ```text
//!  start  sockets from the launcher ─▶ configuration ─▶ state directory ─▶ grants, certificates ─▶ who this is
//!         ─▶ sockets ─▶ history ─▶ recovery (health answers, if it takes long) ─▶ ready
//!  stop   not ready ─▶ no new connections ─▶ who waits is answered, who follows is cut ─▶ requests under way, at most 5 s ─▶ history written and closed
//! ```
//!
//! Executions are not touched by a stop: their shims go on, and the next start finds them. When the
//! launcher closes its end, the process ends with status 1.

mod listeners;
mod state;
#[cfg(test)]
mod tests;
mod watched;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use packs_schema::agent::config::Config;
use packs_schema::agent::rest::Enforcement;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::access::{Access, AccessError};
use crate::api::App;
use crate::api::fingerprint::Fingerprints;
use crate::api::listener::{self, Doors};
use crate::api::pushes::{self, Pushes};
use crate::api::starting::{self, Starting};
use crate::api::tls::{Tls, TlsError};
use crate::clock;
use crate::config_file::{self, ConfigFileError};
use crate::exec::{Budget, Exec, Launcher, LauncherError, RecoverError, Settings};
use crate::health::Health;
use crate::history::{History, HistoryError};
use crate::instance::Instance;
use crate::metrics::Metrics;
use crate::registry::{Registry, read_json};
use crate::sys;
use listeners::{Listeners, Passed};
use state::{State, StateError};

/// Why the api does not start.
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
    Access(#[from] AccessError),
    #[error("the certificates cannot be used")]
    Tls(#[from] TlsError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error("cannot make or read the idempotency key in the state directory")]
    Fingerprints(#[source] std::io::Error),
    #[error("executions of before cannot be looked after")]
    Recover(#[from] RecoverError),
    #[error(transparent)]
    Launcher(#[from] LauncherError),
    #[error("cannot listen on {address} ({key}){}", if .source.kind() == std::io::ErrorKind::AddrInUse { ": the port is in use, choose another or stop what has it" } else { "" })]
    Listen { key: &'static str, address: std::net::SocketAddr, source: std::io::Error },
    #[error("cannot read the boot id")]
    BootId(#[source] std::io::Error),
    #[error("the runtime cannot be started")]
    Runtime(#[source] std::io::Error),
}

/// Threads that read outputs and archive, at most; what waits for one is in memory already.
const BLOCKING: usize = 8;
/// They work with small frames; the compressor has its tables on the heap.
const STACK: usize = 1 << 20;

/// How the api ended.
enum Ended {
    Asked,
    LauncherGone,
    HistoryDamaged,
}

/// The whole of `bolt-agent api`.
pub fn main(config: &Path, launcher: i32) -> ExitCode {
    // Before anything opens a descriptor of its own.
    let (socket, passed) = (sys::adopt_socket(launcher), Passed::take());
    crate::log::start();
    match start(config, socket, passed) {
        Ok(Ended::Asked) => ExitCode::SUCCESS,
        Ok(Ended::LauncherGone) => {
            tracing::error!("the launcher has closed its end; ending, so that a new launcher starts a new api");
            ExitCode::FAILURE
        }
        Ok(Ended::HistoryDamaged) => {
            tracing::error!("ending because the history is damaged: the next start sets it aside and begins a new one");
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
        .max_blocking_threads(BLOCKING)
        .thread_stack_size(STACK)
        .build()
        .map_err(StartError::Runtime)?;
    let ended = runtime.block_on(run(config, Some(path), socket, passed, wait_for_signal()))?;
    Ok(ended)
}

/// Runs until `stop` ends or the launcher goes. `file` is where the configuration comes from.
async fn run(
    config: Config,
    file: Option<PathBuf>,
    socket: OwnedFd,
    passed: Passed,
    stop: impl Future<Output = ()>,
) -> Result<Ended, StartError> {
    let state = State::take(&config.paths.state)?;
    let health = Arc::new(Health::default());
    let access = Arc::new(Access::load(&config.paths.grants, health.clone())?);
    let tls = Arc::new(Tls::load(&config.tls, health.clone())?);
    let fingerprints = Fingerprints::load(&config.paths.state).map_err(StartError::Fingerprints)?;
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(StartError::BootId)?;
    let boot_id = boot_id.trim().to_owned();
    let launcher = Launcher::connect(socket)?;
    let mut gone = launcher.gone();
    let mut stop = pin!(stop);
    let instance = tokio::select! {
        instance = Instance::learn(&config, &boot_id, &launcher) => instance,
        () = &mut stop => return Ok(Ended::Asked),
        _ = gone.wait_for(|gone| *gone) => return Ok(Ended::LauncherGone),
    };
    tls.serve_as(instance.id());
    let registry = Arc::new(Registry::new(config.paths.packs.clone()).with_runtime(&config.paths.runtime));
    let metrics = Arc::new(Metrics::default());
    // Claimed before recovery, so that a port in use is said before anything is started; served after it.
    let Listeners { api, health: probes } = listeners::listen(&config, passed, &health).await?;
    let settings = Settings {
        state: config.paths.state.clone(),
        executions: config.paths.executions(),
        instance: instance.id().clone(),
        max_running: config.execution.max_running,
        max_queued: config.execution.max_queued,
        keep: config.history.keep.0,
        budget: Budget { max_bytes: config.history.max_bytes.0, max_files: config.history.max_files },
        boot_id,
    };
    let id = instance.id().clone();
    let recovering = async {
        let (path, id) = (config.paths.state.join("history.db"), id.clone());
        // Salvage of a damaged file reads what may be gigabytes.
        let opened = tokio::task::spawn_blocking(move || History::open(&path, &id)).await;
        let history = Arc::new(opened.map_err(|_| HistoryError::Closed)??);
        let (registry, access) = (registry.clone(), access.clone());
        let (health, metrics) = (health.clone(), metrics.clone());
        let exec = Exec::begin(settings, history.clone(), registry, access, launcher, health, metrics).await?;
        Ok::<_, StartError>((history, exec))
    };
    let starting =
        Starting { instance: id.clone(), health: health.clone(), registry: registry.clone(), metrics: metrics.clone() };
    let (history, exec) = tokio::select! {
        recovered = recovering => recovered?,
        () = starting::answer(Arc::new(starting), &api, probes.as_ref(), tls.clone()) => return Ok(Ended::Asked),
        // Nothing is half done: the next start does the same from the directories.
        () = &mut stop => return Ok(Ended::Asked),
        _ = gone.wait_for(|gone| *gone) => return Ok(Ended::LauncherGone),
    };
    let mut damaged = history.damaged();
    exec.keep_history();
    let (tell, told) = watch::channel(false);
    let app = Arc::new(App {
        stopping: told.clone(),
        instance,
        channel: config.repository.channel.clone(),
        enforcement: config.paths.runtime.join("enforcement.json"),
        started_at_ms: clock::now_ms(),
        access,
        tls: tls.clone(),
        exec,
        history: history.clone(),
        registry,
        health: health.clone(),
        metrics,
        fingerprints,
        pushes: Pushes::new(&config),
        connections: AtomicU32::new(0),
    });
    report_enforcement(&app);
    let expiring = tokio::spawn(pushes::look_after(app.clone()));
    let files = watched::Files { config: file, root: config.repository.root.clone() };
    let watching = tokio::spawn(watched::watch(app.clone(), files));
    let listen_failed = |source| StartError::Listen { key: "api.listen", address: config.api.listen, source };
    let address = api.local_addr().map_err(listen_failed)?;
    state.write_address(address)?;
    health.set_ready(true);
    tracing::info!(%address, instance = %id, version = crate::VERSION, "listening");
    let doors = Doors { api, health: probes, max_connections: config.api.max_connections };
    let serving = tokio::spawn(listener::serve(app, doors, tls, told));
    let ended = tokio::select! {
        () = &mut stop => Ended::Asked,
        _ = gone.wait_for(|gone| *gone) => {
            health.set("launcher_gone", "the launcher has closed its end".to_owned());
            Ended::LauncherGone
        }
        _ = damaged.wait_for(|damaged| *damaged) => {
            health.set("history_damaged", "the history is damaged: the agent starts anew without it".to_owned());
            Ended::HistoryDamaged
        }
    };
    tracing::info!("stopping");
    health.set_ready(false);
    tell.send_replace(true);
    for task in [expiring, watching] {
        task.abort();
        // Aborted, or it would go on for ever.
        let _ = task.await;
    }
    if let Err(error) = serving.await {
        tracing::error!(%error, "serving ended early");
    }
    history.close().await;
    state.remove_address();
    Ok(ended)
}

/// What the launcher found at its start: it starts a new api with each start of its own.
fn report_enforcement(app: &App) {
    let found: Enforcement = match read_json(&app.enforcement) {
        Ok(found) => found.unwrap_or_default(),
        Err(error) => {
            return tracing::warn!(error = crate::log::chain(&error), "cannot read what the launcher enforces");
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
        tracing::error!("signals cannot be waited for");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
