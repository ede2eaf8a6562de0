//! Source of `bolt local`: the agent through its socket, or the execution directories while it does not answer.

use std::io;
use std::path::Path;

use packs_schema::agent::config::{Config, Paths};
use packs_schema::agent::rest::{ApiProcess, ApiState, Health};
use packs_schema::agent::store::API_STATE;
use packs_schema::base::name::InstanceId;

use super::{AGENT_CONFIG, HostArgs};
use crate::cli::failure::{Exit, Failure};
use crate::confined_dir::ConfinedDir;
use crate::connection::Agent;
use crate::errln;
use crate::error::Kind;
use crate::exec_dirs::ExecDirs;
use crate::files;
use crate::show;

/// Maximum size of agent.toml, as for the agent.
const MAX_CONFIG: u64 = 1 << 20;
/// Maximum size of the launcher's record about the api.
const MAX_STATE: u64 = 4 << 10;
/// Health code of an agent that answers no caller but local ones.
const CLOSED: &str = "interface_closed";

/// Source of everything that is printed.
pub(super) enum Source {
    /// The agent.
    Agent(Box<Agent>),
    /// Execution directories.
    Directories(ExecDirs),
}

impl Source {
    /// Returns its name for programs.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Source::Agent(_) => "agent",
            Source::Directories(_) => "directories",
        }
    }
}

/// Connects to the agent. If it does not answer, says why and opens the execution directories.
pub(super) async fn open(host: &HostArgs) -> Result<Source, Failure> {
    let (paths, id) = read_config(&host.agent_config)?;
    let socket = host.socket.clone().unwrap_or_else(|| paths.local_socket());
    let error = match Agent::on_host(&socket).await {
        Ok((agent, health)) => {
            report(&health);
            return Ok(Source::Agent(Box::new(agent)));
        }
        Err(error) => error,
    };
    if matches!(&error.kind, Kind::Connect(e) if e.kind() == io::ErrorKind::PermissionDenied) {
        let message = format!("local access is for root: no permission to use {}", show::path(&socket));
        return Err(Failure::new(Exit::Refused, message).hint("run it as root, or use `bolt ps` with a certificate"));
    }
    errln!("bolt: the agent does not answer: {}: {}", show::path(&socket), error.kind);
    errln!("bolt: {}", describe_api(&paths.runtime));
    let directories = ExecDirs::open(&paths.state, id).map_err(|e| cannot_read(&paths.executions(), &e))?;
    errln!(
        "bolt: reading {}; executions whose directory was removed, and archived output, only the agent has",
        show::path(directories.path())
    );
    Ok(Source::Directories(directories))
}

/// Returns the failure of a directory that cannot be read.
pub(super) fn cannot_read(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::new(Exit::Storage, format!("cannot read {}: {error}", show::path(path)));
    match error.kind() {
        io::ErrorKind::PermissionDenied => failure.hint("run it as root"),
        io::ErrorKind::NotFound => failure.hint("is the agent installed, and is --agent-config the right file?"),
        _ => failure,
    }
}

/// Returns paths and instance of agent.toml. A file that cannot be read is no reason to do nothing: it may be why no agent
/// runs. But where another file than the usual one is named, the default paths are those of another agent, and nothing must be
/// killed there. Nothing in the file is trusted: it only says where to look.
fn read_config(path: &Path) -> Result<(Paths, InstanceId), Failure> {
    let unknown = || InstanceId::new("localhost").expect("a valid id");
    let failed = |error: &(dyn std::error::Error + 'static)| Failure::from_error(Exit::Usage, error).to_string();
    let config = files::read_text(path, MAX_CONFIG)
        .map_err(|e| failed(&e))
        .and_then(|text| Config::parse_unchecked(&text).map_err(|e| format!("{}: {}", show::path(path), failed(&e))));
    match config {
        Ok(config) => Ok((config.paths, config.instance.id.unwrap_or_else(unknown))),
        Err(error) if path != Path::new(AGENT_CONFIG) => Err(Failure::new(Exit::Usage, show::visible_lines(&error))
            .hint("--agent-config names the agent.toml of the agent that is meant")),
        Err(error) => {
            errln!("bolt: {}; using the default paths", show::visible_lines(&error));
            Ok((Paths::default(), unknown()))
        }
    }
}

/// Says why the agent answers no other callers, where that is so.
fn report(health: &Health) {
    if !health.reasons.iter().any(|reason| reason.code == CLOSED) {
        return;
    }
    let codes = [CLOSED, "tls_invalid", "grants_invalid"];
    for reason in health.reasons.iter().filter(|reason| codes.contains(&reason.code.as_str())) {
        errln!("bolt: {}: {}", show::visible(&reason.code), show::visible_lines(&reason.message));
    }
}

/// Describes what the launcher says of the api.
fn describe_api(runtime: &Path) -> String {
    let read = ConfinedDir::open(runtime).and_then(|runtime| runtime.read(Path::new(API_STATE), MAX_STATE));
    let Ok(state) = read.map_err(|_| ()).and_then(|json| serde_json::from_slice::<ApiProcess>(&json).map_err(|_| ()))
    else {
        return format!("{} has no {API_STATE}: bolt-launch does not run", show::path(runtime));
    };
    let ended = match (state.status, state.signal) {
        _ if state.hung => ", the last because it hung (api.hang_after)".to_owned(),
        (Some(status), _) => format!(", the last with status {status}"),
        (_, Some(signal)) => format!(", the last by signal {signal}"),
        _ => String::new(),
    };
    let see = "its log says why (journalctl -u bolt-launch)";
    match state.state {
        ApiState::Running => format!("according to bolt-launch the api runs; {see}"),
        ApiState::Restarting => format!("the api is being restarted after {} failures{ended}; {see}", state.failures),
        ApiState::Failing => {
            format!("the api cannot be kept running: {} failures in a row{ended}; {see}", state.failures)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paths_of_another_agent_do_not_stand_in_for_a_named_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.toml");
        let failure = read_config(&path).unwrap_err().to_string();
        assert!(failure.contains("agent.toml: No such file or directory"), "{failure}");
        std::fs::write(&path, "ca = \"x\"\n").unwrap();
        let failure = read_config(&path).unwrap_err().to_string();
        assert!(failure.starts_with(&format!("{}: line 1", path.display())), "{failure}");
    }
}
