//! Agent under faults: the shipped binaries in a directory of their own, with `interpose.c` preloaded.
//!
//! `bolt-launch` gets the library directly, but starts `bolt-agent` with an environment that it composes; so the program of
//! that name beside it is `bolt-agent-preloaded`, which executes the real one with the library.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bolt_client::local::{Caller, LocalAgent, binary};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use packs_schema::agent::rest::Health;

use super::control::Control;
use super::handle::{ApiHandle, read_address};
use super::plan::Victim;
use super::work;
use crate::http::{Answer, Call, send};
use crate::process::processes;
use crate::{World, spec};

/// The source of the library.
const INTERPOSE: &str = include_str!("interpose.c");
/// Deadline for an agent to recover.
const BACK_WITHIN: Duration = Duration::from_secs(60);
/// Time without an api after which the launcher is restarted, since its restart backoff grows.
const IMPATIENT: Duration = Duration::from_millis(1500);

/// Agent, with the means to inject faults.
pub(super) struct Host {
    pub(super) control: Control,
    agent: LocalAgent,
    operator: Caller,
    ledger: PathBuf,
    // Last field: the directory is removed when everything in it has ended.
    world: World,
}

impl Host {
    /// Lays out an agent called `id` and starts it.
    pub(super) fn start(id: &str) -> io::Result<Host> {
        let world = World::empty();
        let binaries = world.scratch("bin");
        fs::set_permissions(&binaries, fs::Permissions::from_mode(0o755))?;
        let library = compile(&binaries)?;
        let page = binaries.join("faults.page");
        let control = Control::create(&page)?;
        for (from, to) in [
            ("bolt-launch", "bolt-launch"),
            ("bolt-agent", "bolt-agent.real"),
            ("bolt-agent-preloaded", "bolt-agent"),
            ("bolt-sync", "bolt-sync"),
        ] {
            let to = binaries.join(to);
            fs::copy(binary(from).map_err(io::Error::other)?, &to)?;
            fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
        }
        let ledger = world.ledger()?;
        world.publish(&work::pack(&ledger));
        let spec = spec(id)
            .set("execution", "max_running", 4)
            .set("execution", "max_queued", 64)
            .binaries(&binaries)
            .env("LD_PRELOAD", &library.to_string_lossy())
            .env("BOLT_FAULTS", &page.to_string_lossy());
        let agent = LocalAgent::start(&world.site, &spec).map_err(io::Error::other)?;
        let operator = world.site.operator();
        Ok(Host { control, agent, operator, ledger, world })
    }

    /// Sends a request to the api; the error is the connection's.
    pub(super) async fn ask(&self, call: Call) -> Result<Answer, String> {
        send(self.address()?, Some(&self.operator), call).await
    }

    /// Returns an owned handle to send requests.
    pub(super) fn handle(&self) -> ApiHandle {
        ApiHandle { address: self.agent.state().join("api.address"), operator: self.operator.clone() }
    }

    /// Returns the lines of the actions' ledger.
    pub(super) fn ledger(&self) -> Vec<String> {
        fs::read_to_string(&self.ledger).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Returns the directory of executions.
    pub(super) fn executions(&self) -> PathBuf {
        self.agent.state().join("exec")
    }

    /// Returns the launcher's run-time directory.
    pub(super) fn runtime(&self) -> PathBuf {
        self.agent.directory().join("run")
    }

    /// Returns the path of the agent's log.
    pub(super) fn log(&self) -> PathBuf {
        self.agent.log()
    }

    /// Stops everything and keeps the files.
    pub(super) fn keep(self) -> PathBuf {
        let Host { mut agent, world, .. } = self;
        agent.terminate();
        agent.end_executions();
        world.keep()
    }

    /// Kills, as a crash would.
    pub(super) fn kill(&mut self, victim: Victim) {
        if matches!(victim, Victim::Shim | Victim::All) {
            for shim in processes("bolt-shim", &self.executions()) {
                let _ = kill(Pid::from_raw(shim), Signal::SIGKILL);
            }
        }
        if matches!(victim, Victim::Api | Victim::All)
            && let Some(api) = self.api()
        {
            let _ = kill(Pid::from_raw(api), Signal::SIGKILL);
        }
        if matches!(victim, Victim::Launcher | Victim::All) {
            self.agent.kill_launcher();
        }
    }

    /// Stops launcher and api in order, and starts them again.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.agent.terminate();
        self.agent.launch().map_err(io::Error::other)
    }

    /// Brings launcher and api back, however they ended, and waits until the api is ready.
    pub(super) async fn heal(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + BACK_WITHIN;
        let mut patience = Instant::now() + IMPATIENT;
        loop {
            if self.agent.launcher_pid().is_none() || self.agent.exited().is_some() {
                self.agent.kill_launcher();
                self.agent.launch().map_err(|e| e.to_string())?;
                patience = Instant::now() + IMPATIENT;
            }
            if let Ok(answer) = self.ask(Call::get("/v1/health")).await
                && answer.status == 200
                && answer.json::<Health>().ready
            {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("the agent did not come back; its log is {}", self.log().display()));
            }
            if Instant::now() > patience {
                self.restart().map_err(|e| e.to_string())?;
                patience = Instant::now() + IMPATIENT * 3;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn address(&self) -> Result<SocketAddr, String> {
        read_address(&self.agent.state().join("api.address"))
    }

    fn api(&self) -> Option<i32> {
        let launcher = self.agent.launcher_pid()?;
        let children = fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).ok()?;
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid: &i32| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.split(|b| *b == 0).nth(1) == Some(b"api"))
        })
    }
}

fn compile(into: &Path) -> io::Result<PathBuf> {
    let (source, library) = (into.join("faults.c"), into.join("faults.so"));
    fs::write(&source, INTERPOSE)?;
    let mut cc = Command::new("cc");
    let output = cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl").output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    fs::set_permissions(&library, fs::Permissions::from_mode(0o755))?;
    Ok(library)
}
