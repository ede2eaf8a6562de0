//! Actions that try to outlive their end: killed, timed out, ended with
//! something left running, or ended by the death of the shim or of launcher and api.
//!
//! Every process of an attempt has a mark in its command line, and a fork without `exec` holds an abstract socket
//! address of that name. A living process with the mark, or an address still in use, is a survivor.

use std::fmt;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bolt_client::local::{Caller, LocalAgent};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Execution;
use serde_json::json;

use crate::http::{Call, send};
use crate::{PackSource, World, is_root, limits_available, process, spec};

/// Attempts: steps of `escape.py`.
const WAYS: [&str; 12] = [
    "session",
    "deaf+session",
    "daemon",
    "deaf+daemon",
    "daemon+daemon+session",
    "stopped",
    "deaf+stopped+held",
    "bomb",
    "deaf+bomb",
    "runner",
    "reaper",
    "deaf+reaper+runner+stopped",
];
/// Attempts that only root can make.
const ROOT_WAYS: [&str; 6] = [
    "leave+session",
    "leave+deaf+daemon",
    "leave+reaper+daemon",
    "leave+bomb",
    "deaf+leave+runner",
    "namespace+leave+namespace",
];
/// Number of attempts at the same time.
const AT_ONCE: u64 = 4;

/// Way in which an attempt is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Kill,
    TimeOut,
    ByItself,
    ShimKilled,
    KillWhileDown,
}

const ENDS: [End; 4] = [End::Kill, End::TimeOut, End::ByItself, End::ShimKilled];

/// Outcome of all attempts.
#[derive(Debug, Default, Clone)]
pub struct Figures {
    /// Number of attempts.
    pub attempts: u64,
    /// Attempts as root, out of the cgroup.
    pub as_root: u64,
    /// Processes killed after TERM and the grace period, according to the records.
    pub stopped: u64,
    /// First survivor or wrong record.
    pub broken: Option<String>,
    /// Duration.
    pub took: Duration,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.broken.as_deref().map_or("no survivor".to_owned(), |what| format!("BROKEN: {what}"));
        write!(
            f,
            "{} escape attempts in {:.0?} ({} as root, out of their cgroups): {} processes had to be killed; {end}",
            self.attempts, self.took, self.as_root, self.stopped
        )
    }
}

struct Stage {
    world: World,
    agent: Mutex<LocalAgent>,
    operator: Caller,
}

/// Makes the given number of attempts.
pub fn run(attempts: u64) -> Figures {
    let begun = Instant::now();
    let world = World::empty();
    let yaml = |more: &str, timeout: &str| {
        format!(
            "parameters:\n  how: {{type: string, required: true}}\n  mark: {{type: string, required: true}}\n\
             bolt: {{class: diagnostic, grace: 150ms, timeout: {timeout}, limits: {{pids: 48, memory: 512MiB}}{more}}}"
        )
    };
    let script = include_str!("escapes/escape.py");
    let mut pack = PackSource::new("escape", "1.0.0");
    for (name, more) in [("user", ""), ("root", ", run_as: root")] {
        pack = pack.action(name, &yaml(more, "2m"), script).action(&format!("{name}_brief"), &yaml(more, "1s"), script);
    }
    world.publish(&pack);
    let agent = world.start(&spec("i-1").set("execution", "max_running", 8));
    let operator = world.site.operator();
    let stage = Arc::new(Stage { world, agent: Mutex::new(agent), operator });
    let (next, figures) = (AtomicU64::new(0), Mutex::new(Figures::default()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= attempts {
                        return;
                    }
                    let done = runtime.block_on(attempt(&stage, number));
                    let mut figures = figures.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    match done {
                        Ok((root, stopped)) => {
                            figures.attempts += 1;
                            figures.as_root += u64::from(root);
                            figures.stopped += stopped;
                        }
                        Err(what) => {
                            next.store(attempts, Ordering::Relaxed);
                            figures.broken.get_or_insert(what);
                        }
                    }
                }
            });
        }
    });
    let mut figures = figures.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    if figures.broken.is_none() {
        // Last, since it takes launcher and api down for all attempts.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        figures.broken = runtime.block_on(while_down(&stage, attempts)).err();
    }
    figures.took = begun.elapsed();
    figures
}

async fn attempt(stage: &Stage, number: u64) -> Result<(bool, u64), String> {
    let root = is_root() && limits_available() && number % 3 == 2;
    let pick = |list: &[&'static str]| list[usize::try_from(number / 3).unwrap_or(0) % list.len()];
    let way = if root { pick(&ROOT_WAYS) } else { pick(&WAYS) };
    let end = ENDS[usize::try_from(number * 7 / 3).unwrap_or(0) % ENDS.len()];
    // A process outside its cgroup, with a new parent and no environment, cannot be found without the shim.
    let end = if end == End::ShimKilled && (root || !limits_available()) { End::Kill } else { end };
    one(stage, number, way, root, end).await.map_err(|e| format!("attempt {number} ({way}, root {root}, {end:?}): {e}"))
}

async fn one(stage: &Stage, number: u64, way: &str, root: bool, end: End) -> Result<(bool, u64), String> {
    let mark = format!("escape-mark-{}-{number:06}", std::process::id());
    let account = if root { "root" } else { "user" };
    let action = if end == End::TimeOut { format!("escape.{account}_brief") } else { format!("escape.{account}") };
    let way = if end == End::ByItself { format!("{way}+end") } else { way.to_owned() };
    let body = json!({"action": action, "parameters": {"how": way, "mark": mark}}).to_string();
    let accepted: Execution = ask(stage, Call::post("/v1/executions", body)).await?;
    let id = accepted.id;
    if matches!(end, End::Kill | End::ShimKilled | End::KillWhileDown) {
        ready(stage, &id).await?;
    }
    match end {
        End::Kill => {
            let _: Execution = ask(stage, Call::post(&format!("/v1/executions/{id}/kill"), "")).await?;
        }
        End::ShimKilled => {
            for shim in process::processes("bolt-shim", &directory(stage).join(id.as_str())) {
                kill(Pid::from_raw(shim), Signal::SIGKILL).map_err(|e| e.to_string())?;
            }
        }
        End::KillWhileDown => {
            lock(&stage.agent).kill_launcher();
            std::fs::write(directory(stage).join(id.as_str()).join("kill"), "").map_err(|e| e.to_string())?;
            let exit = directory(stage).join(id.as_str()).join("exit");
            wait("the exit record", async || exit.exists()).await?;
            // Before launcher and api are restarted.
            survivors(&mark)?;
            let mut agent = lock(&stage.agent);
            agent.launch().and_then(|()| agent.wait_ready()).map_err(|e| e.to_string())?;
        }
        End::TimeOut | End::ByItself => {}
    }
    let mut now: Option<Execution> = None;
    wait("its end", async || {
        now = ask(stage, Call::get(&format!("/v1/executions/{id}?wait=10s"))).await.ok();
        now.as_ref().is_some_and(|now| now.state.is_terminal())
    })
    .await?;
    let record = now.ok_or("no record")?;
    survivors(&mark)?;
    let wanted = match end {
        End::Kill | End::KillWhileDown => State::Killed,
        End::TimeOut => State::TimedOut,
        End::ShimKilled => State::Lost,
        End::ByItself => State::Succeeded,
    };
    // The first process of a fork bomb may be the one that hits the limit.
    let bombed = way.contains("bomb") && record.state == State::Failed;
    if record.state != wanted && !bombed {
        return Err(format!("ended as {}, not {wanted}: {record:?}", record.state));
    }
    let left = record.leftovers.clone().unwrap_or_default();
    if left.after_subreaper != 0 {
        return Err(format!("the record says {left:?}"));
    }
    Ok((root, u64::from(left.after_term)))
}

async fn while_down(stage: &Stage, number: u64) -> Result<(), String> {
    one(stage, number, "deaf+daemon+session", false, End::KillWhileDown).await.map(drop)
}

fn survivors(mark: &str) -> Result<(), String> {
    let alive = process::with_words(&[mark.to_owned()]);
    let name = SocketAddr::from_abstract_name(mark).map_err(|e| e.to_string())?;
    let taken = UnixDatagram::bind_addr(&name).is_err();
    if alive.is_empty() && !taken { Ok(()) } else { Err(format!("survivors (name taken: {taken}): {alive:?}")) }
}

/// Waits until the attempt has taken its steps or has ended.
async fn ready(stage: &Stage, id: &packs_schema::base::name::ExecutionId) -> Result<(), String> {
    wait("ready", async || {
        let address = lock(&stage.agent).address();
        let call = Call::get(&format!("/v1/executions/{id}/stdout"));
        let text = send(address, Some(&stage.operator), call).await.map(|answer| answer.text()).unwrap_or_default();
        text.contains("ready")
    })
    .await
}

async fn ask<T: serde::de::DeserializeOwned>(stage: &Stage, call: Call) -> Result<T, String> {
    let address = lock(&stage.agent).address();
    let answer = send(address, Some(&stage.operator), call).await?;
    if answer.status.is_success() { Ok(answer.json()) } else { Err(answer.text()) }
}

async fn wait(what: &str, mut probe: impl AsyncFnMut() -> bool) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !probe().await {
        if Instant::now() > deadline {
            return Err(format!("{what} did not come within 60 s"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

fn directory(stage: &Stage) -> std::path::PathBuf {
    stage.world.path().join("agents/i-1/state/exec")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
