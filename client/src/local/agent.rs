//! Agent of a local fleet: its files, its launcher process, its orderly shutdown.

mod spec;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use packs_schema::agent::rest::SyncStatus;
use packs_schema::agent::{execution, store};
use packs_schema::delivery::facts::Facts;

use super::site::{OPERATOR, Site, make_directory};
use super::{LocalError, binary, file_error};
use crate::confined_dir::ConfinedDir;
use crate::pki::Validity;

pub use spec::AgentSpec;

/// Time in which an agent must listen and sync.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Time in which an agent and its executions must end.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// The largest status of a sync, in bytes.
const MAX_STATUS: u64 = 16 << 20;

/// An agent of a local fleet. Dropping it ends it, and every execution of it.
#[derive(Debug)]
pub struct LocalAgent {
    facts: Facts,
    directory: PathBuf,
    binaries: Option<PathBuf>,
    environment: Vec<(String, String)>,
    launcher: Option<Child>,
    address: Option<SocketAddr>,
}

impl LocalAgent {
    /// Writes the agent's files, and does not start it.
    pub fn prepare(site: &Site, spec: &AgentSpec) -> Result<LocalAgent, LocalError> {
        let directory = site.agent_directory(&spec.facts.id);
        for name in ["etc", "etc/tls", "etc/packs"] {
            make_directory(&directory.join(name))?;
        }
        let issued = site.authority().issue_instance(&spec.facts.id, Validity::days(30))?;
        let (_, key) = issued.write(&directory.join("etc/tls"), "agent")?;
        if let Some(accounts) = site.accounts() {
            std::os::unix::fs::chown(&key, Some(accounts.api), Some(accounts.api))
                .map_err(file_error("chown", &key))?;
        }
        copy(&site.ca(), &directory.join("etc/tls/ca.pem"))?;
        copy(&site.repository().join("metadata/1.root.json"), &directory.join("etc/root.json"))?;
        let everything = format!(
            "[[grant]]\nprincipal = \"{OPERATOR}\"\nverbs = [\"read\", \"run\", \"kill\", \"sync\"]\nactions = [\"*\"]\n"
        );
        write(&directory.join("etc/grants.toml"), spec.grants.as_deref().unwrap_or(&everything))?;
        for (pack, text) in &spec.pack_config {
            let path = directory.join(format!("etc/packs/{pack}.yaml"));
            write(&path, text)?;
            // The file may hold secrets, so only the sync can read it.
            if let Some(accounts) = site.accounts() {
                std::os::unix::fs::chown(&path, Some(accounts.sync), None).map_err(file_error("chown", &path))?;
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(file_error("open", &path))?;
        }
        let agent = LocalAgent {
            facts: spec.facts.clone(),
            directory,
            binaries: spec.binaries.clone(),
            environment: spec.environment.clone(),
            launcher: None,
            address: None,
        };
        write(&agent.config(), &agent.config_text(site, spec))?;
        Ok(agent)
    }

    /// Prepares, starts, and waits until it listens and has synced once.
    pub fn start(site: &Site, spec: &AgentSpec) -> Result<LocalAgent, LocalError> {
        let mut agent = LocalAgent::prepare(site, spec)?;
        agent.launch()?;
        agent.wait_ready()?;
        Ok(agent)
    }

    /// Starts the launcher; [`LocalAgent::wait_ready`] waits for it.
    pub fn launch(&mut self) -> Result<(), LocalError> {
        let program = match &self.binaries {
            Some(directory) => directory.join("bolt-launch"),
            None => binary("bolt-launch")?,
        };
        let log = self.log();
        let log_file = fs::File::options().create(true).append(true).open(&log).map_err(file_error("write", &log))?;
        let address = self.state().join("api.address");
        match ConfinedDir::open(&self.directory).and_then(|confined| confined.remove_file(&address)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(file_error("remove", address)(e)),
            _ => {}
        }
        let mut command = Command::new(&program);
        // As the unit of the package does.
        let (variable, value) = packs_schema::agent::launch::HEAP;
        command.env(variable, value);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(["serve", "--config"]).arg(self.config()).stdin(Stdio::null()).stdout(Stdio::null());
        // A process group of its own: an interrupt at the terminal is the demo's to handle.
        command.stderr(log_file).process_group(0);
        self.launcher = Some(command.spawn().map_err(file_error("run", &program))?);
        Ok(())
    }

    /// Waits until the agent listens and a poll of the repository has ended.
    pub fn wait_ready(&mut self) -> Result<(), LocalError> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Some(status) = self.exited() {
                return Err(self.failed(format!("ended with {status}")));
            }
            if let (Some(address), Some(_)) = (self.read_address(), self.sync_status()) {
                self.address = Some(address);
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.failed(format!("was not ready within {} s", READY_WITHIN.as_secs())));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its exit status, when the launcher has ended by itself.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.launcher.as_mut()?.try_wait().ok().flatten()
    }

    /// Returns the status of the last poll of the repository.
    pub fn sync_status(&self) -> Option<SyncStatus> {
        let text = self.read_confined(&self.directory.join("packs").join(store::STATUS), MAX_STATUS)?;
        serde_json::from_slice(&text).ok()
    }

    /// Facts of the instance.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Returns the address that it listens on; known when it is ready.
    pub fn address(&self) -> SocketAddr {
        self.address.expect("the agent is ready")
    }

    /// The launcher's process id; known when it is started.
    pub fn launcher_pid(&self) -> Option<u32> {
        self.launcher.as_ref().map(Child::id)
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its `agent.toml`.
    pub fn config(&self) -> PathBuf {
        self.directory.join("etc/agent.toml")
    }

    /// Its state directory.
    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// Its log.
    pub fn log(&self) -> PathBuf {
        self.directory.join("agent.log")
    }

    /// Leaves it running when it is dropped; gives the launcher's process id.
    pub fn detach(mut self) -> Option<u32> {
        self.launcher.take().map(|child| child.id())
    }

    /// Ends the launcher and the api in an orderly way; executions go on.
    pub fn terminate(&mut self) {
        self.address = None;
        let Some(mut child) = self.launcher.take() else { return };
        terminate_process(&mut child);
    }

    /// Kills the launcher the hard way, as a crash would; executions go on.
    pub fn kill_launcher(&mut self) {
        if let Some(mut child) = self.launcher.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Ends every execution that still runs, as an operator without an agent would.
    pub fn end_executions(&self) {
        end_executions(&self.directory);
    }

    /// Its entry of `inventory.toml`.
    pub(super) fn inventory_entry(&self) -> String {
        let mut entry = toml::Table::try_from(&self.facts).expect("facts are a table");
        entry.insert("address".into(), self.address().to_string().into());
        let list = toml::Table::from_iter([("instances".to_owned(), toml::Value::Array(vec![entry.into()]))]);
        toml::to_string(&list).expect("a table serialises")
    }

    fn config_text(&self, site: &Site, spec: &AgentSpec) -> String {
        let path = |name: &str| toml::Value::from(self.directory.join(name).display().to_string());
        let mut config = toml::Table::new();
        config.insert("instance".into(), toml::Value::try_from(&self.facts).expect("facts are a table"));
        let mut set = |table: &str, key: &str, value: toml::Value| {
            let entry = config.entry(table).or_insert_with(|| toml::Table::new().into());
            entry.as_table_mut().expect("a table").insert(key.into(), value);
        };
        set("api", "listen", SocketAddr::new(spec.address, 0).to_string().into());
        set("tls", "certificate", path("etc/tls/agent.pem"));
        set("tls", "key", path("etc/tls/agent.key"));
        set("tls", "client_ca", path("etc/tls/ca.pem"));
        set("paths", "state", path("state"));
        set("paths", "packs", path("packs"));
        set("paths", "runtime", path("run"));
        set("paths", "grants", path("etc/grants.toml"));
        set("paths", "pack_config", path("etc/packs"));
        set("repository", "url", format!("file://{}", site.repository().display()).into());
        set("repository", "root", path("etc/root.json"));
        set("repository", "channel", spec.channel.to_string().into());
        if let Some(accounts) = site.accounts() {
            let account = accounts.action.to_string();
            set("users", "api", accounts.api.to_string().into());
            set("users", "sync", accounts.sync.to_string().into());
            set("users", "map", toml::Table::from_iter([("cassandra".to_owned(), account.into())]).into());
        } else {
            // Without root nothing can be capped; the demo and the tests say so instead of refusing.
            set("execution", "require_limits", false.into());
        }
        for (table, key, value) in &spec.settings {
            set(table, key, value.clone());
        }
        toml::to_string(&config).expect("a table serialises")
    }

    fn read_address(&self) -> Option<SocketAddr> {
        let text = self.read_confined(&self.state().join("api.address"), 100)?;
        std::str::from_utf8(&text).ok()?.trim().parse().ok()
    }

    /// Reads a file that the api's or the sync's account writes.
    fn read_confined(&self, path: &Path, limit: u64) -> Option<Vec<u8>> {
        ConfinedDir::open(&self.directory).ok()?.read(path, limit).ok()
    }

    fn failed(&self, problem: String) -> LocalError {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let log = lines[lines.len().saturating_sub(20)..].join("\n");
        LocalError::Agent { id: self.facts.id.to_string(), problem, log }
    }
}

impl Drop for LocalAgent {
    fn drop(&mut self) {
        if self.launcher.is_some() {
            self.terminate();
            self.end_executions();
        }
    }
}

/// Asks a process to end, and makes it when it does not.
fn terminate_process(child: &mut Child) {
    let pid = i32::try_from(child.id()).map(Pid::from_raw);
    if let Ok(pid) = pid {
        let _ = kill(pid, Signal::SIGTERM);
    }
    let deadline = Instant::now() + STOP_WITHIN;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(child.kill());
    drop(child.wait());
}

/// Leaves a `kill` file to every shim that holds its lock, and waits until each has written its end. `agent` is the
/// agent's directory, which is ours; what is below it belongs to the api's account, and may have been prepared for us.
pub(crate) fn end_executions(agent: &Path) {
    end_executions_within(agent, STOP_WITHIN);
}

fn end_executions_within(agent: &Path, patience: Duration) {
    let Ok(confined) = ConfinedDir::open(agent) else { return };
    let directory = Path::new("state/exec");
    let Ok(entries) = confined.entries(directory) else { return };
    let executions = entries.into_iter().filter(|(_, meta)| meta.is_dir()).map(|(name, _)| directory.join(name));
    let running: Vec<PathBuf> = executions.filter(|path| is_running(&confined, path)).collect();
    for path in &running {
        // An existing file asks for the same.
        drop(confined.create(&path.join(execution::file::KILL), b"{}", 0o644));
    }
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline && running.iter().any(|path| is_running(&confined, path)) {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// True while a shim holds the execution's lock.
fn is_running(confined: &ConfinedDir, execution: &Path) -> bool {
    let Ok(lock) = confined.file(&execution.join(execution::file::LOCK)) else { return false };
    Flock::lock(lock, FlockArg::LockSharedNonblock).is_err()
}

fn copy(from: &Path, to: &Path) -> Result<(), LocalError> {
    fs::copy(from, to).map_err(file_error("write", to))?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o644)).map_err(file_error("open", to))
}

fn write(path: &Path, text: &str) -> Result<(), LocalError> {
    fs::write(path, text).map_err(file_error("write", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).map_err(file_error("open", path))
}

#[cfg(test)]
mod tests;
