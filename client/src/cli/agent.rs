//! `bolt agent check`: a front for `bolt-agent check-config`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::external;
use super::failure::{Exit, Failure};

/// Commands for the agent of this host.
#[derive(Debug, Subcommand)]
pub(super) enum AgentCommand {
    /// Check agent.toml, grants.toml, certificates and modes before a start. Exit code 1 when something is wrong.
    Check(CheckCommand),
}

/// Check the agent's configuration.
#[derive(Debug, Args)]
#[command(after_help = "\
Runs `bolt-agent check-config` of this host: the program beside bolt, or on the path.

Examples:
  bolt agent check
  bolt agent check --config /etc/bolt/agent.toml.new && \\
    mv /etc/bolt/agent.toml.new /etc/bolt/agent.toml")]
pub(super) struct CheckCommand {
    // The name of a global option, which means something else here.
    /// The agent's configuration [default: that of bolt-agent].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs `bolt agent check`, in place of this process.
pub(super) fn run(command: AgentCommand, json: bool) -> Result<Exit, Failure> {
    let AgentCommand::Check(CheckCommand { config }) = command;
    let Some(program) = external::find("agent") else {
        let problem = "bolt-agent is neither beside bolt nor on the path";
        return Err(Failure::new(Exit::Storage, problem).hint("run this on an instance, where the agent is installed"));
    };
    let mut arguments: Vec<OsString> = vec!["check-config".into()];
    if let Some(config) = config {
        arguments.extend(["--config".into(), config.into_os_string()]);
    }
    arguments.extend(json.then(|| "--json".into()));
    Err(external::replace_with(&program, arguments))
}
