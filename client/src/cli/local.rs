//! `bolt local`: executions on this host, for root, through the agent's Unix socket: no certificates, no grants, no inventory.
//!
//! ```text
//!  agent.toml ─▶ paths ─▶ socket ── answers ──────────▶ the requests of the remote commands, printed by the same code
//!                           └────── does not answer ──▶ execution directories, with what they say
//! ```

mod source;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Execution;
use packs_schema::base::name::ExecutionId;
use serde_json::json;

use super::failure::{Exit, Failure};
use super::find::{IdArg, search};
use super::kill::{self, note};
use super::logs::{self, OutputArgs, Printer, cannot_print, read_mask};
use super::mask::{MaskArgs, mask_execution};
use super::ps::{self, ListArgs, StateArgs};
use crate::exec_dirs::{ExecDirError, ExecDirs};
use crate::show::{self, when};
use crate::{errln, outln};
use source::{Source, open};

const ABOUT: &str = "\
Root on an instance needs no certificate: these commands use the agent's Unix socket. They work also while certificates or \
grants.toml are broken. While no agent answers, they read the execution directories, and say so.

There is no `bolt local run`: root can run any program without Bolt, and what runs through the agent has a grant.

Examples:
  sudo bolt local ps --state running
  sudo bolt local logs -f 6e1d4cf1b2aa
  sudo bolt local kill 6e1d4cf1b2aa --note \"wrong host\"";

/// Executions on this host, for root, without certificates.
#[derive(Debug, Subcommand)]
#[command(after_help = ABOUT)]
pub(super) enum LocalCommand {
    /// List the executions on this host, the newest first.
    Ps(LocalPs),
    /// Show one execution.
    Show(LocalShow),
    /// Print the output of an execution.
    Logs(LocalLogs),
    /// Kill an execution: TERM, a grace period, then KILL for all of its processes.
    Kill(LocalKill),
}

/// The agent's configuration, unless another file is named.
const AGENT_CONFIG: &str = "/etc/bolt/agent.toml";

/// Where the agent of this host is.
#[derive(Debug, Args)]
pub(super) struct HostArgs {
    /// The agent's socket [default: local.sock in paths.runtime of agent.toml].
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
    /// The agent's configuration, which says where its directories are.
    #[arg(long, value_name = "FILE", default_value = AGENT_CONFIG)]
    agent_config: PathBuf,
}

/// List the executions on this host, the newest first.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sudo bolt local ps\n  sudo bolt local ps --state running --sort duration\n  sudo bolt local ps --since 2h --failed --wide"
)]
pub(super) struct LocalPs {
    #[command(flatten)]
    states: StateArgs,
    #[command(flatten)]
    list: ListArgs,
    #[command(flatten)]
    host: HostArgs,
}

/// Show one execution.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sudo bolt local show 6e1d4cf1b2aa\n  sudo bolt local show 6e1d4cf1b2aa --json")]
pub(super) struct LocalShow {
    /// The execution: its id, or at least the last six characters of it.
    id: IdArg,
    #[command(flatten)]
    secrets: MaskArgs,
    #[command(flatten)]
    host: HostArgs,
}

/// Print the output of an execution.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  sudo bolt local logs 6e1d4cf1b2aa\n  sudo bolt local logs -f 6e1d4cf1b2aa --stream stderr"
)]
pub(super) struct LocalLogs {
    /// The execution: its id, or at least the last six characters of it.
    id: IdArg,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    secrets: MaskArgs,
    #[command(flatten)]
    host: HostArgs,
}

/// Kill an execution: TERM, a grace period, then KILL for all of its processes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sudo bolt local kill 6e1d4cf1b2aa --note \"wrong host\"")]
pub(super) struct LocalKill {
    /// The execution to kill: its id, or at least the last six characters of it.
    id: IdArg,
    /// Why, for those who read the history.
    #[arg(long, value_name = "TEXT", value_parser = note)]
    note: Option<String>,
    #[command(flatten)]
    host: HostArgs,
}

/// Time that a kill without an agent waits for the end; a shim's grace period is shorter by default.
const KILL_PATIENCE: Duration = Duration::from_secs(30);
/// Maximum size of the executions that are listed from directories, as JSON, in bytes.
const MAX_LIST_BYTES: usize = 64 << 20;
/// Pause between two looks at a directory.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Runs `bolt local …`.
pub(super) async fn run(command: LocalCommand, json: bool) -> Result<Exit, Failure> {
    match command {
        LocalCommand::Ps(command) => list(command, json).await,
        LocalCommand::Show(command) => show(command, json).await,
        LocalCommand::Logs(command) => print_output(command, json).await,
        LocalCommand::Kill(command) => stop(command, json).await,
    }
}

async fn list(command: LocalPs, json: bool) -> Result<Exit, Failure> {
    let LocalPs { states, list, host } = command;
    let (wanted, now) = (states.wanted(), when::now_ms());
    let (query, most) = list.query(&wanted)?;
    let source = open(&host).await?;
    let (mut executions, mut more, exit) = match &source {
        Source::Agent(agent) => {
            let found = ps::newest(agent, &query, &wanted, most).await.map_err(|e| Failure::from_instance(&e))?;
            (found.executions, found.more, Exit::Success)
        }
        Source::Directories(directories) => {
            read_all(directories, |execution| query.matches(execution) && wanted.takes(execution.state))?
        }
    };
    more |= list.choose(&wanted, &mut executions, now);
    if json {
        outln!("{}", show::json(&json!({ "executions": executions, "more": more, "source": source.name() })));
    } else if executions.is_empty() {
        errln!("no executions match");
    } else {
        list.print(&executions, more, now);
    }
    Ok(exit)
}

/// Reads the directories, the newest first, and returns the executions that `takes` accepts, and true if there may be more. Those
/// that cannot be read are named, and the exit code is 1.
fn read_all(
    directories: &ExecDirs,
    takes: impl Fn(&Execution) -> bool,
) -> Result<(Vec<Execution>, bool, Exit), Failure> {
    let ids = directories.ids().map_err(|e| source::cannot_read(directories.path(), &e))?;
    let (mut found, mut exit, mut left) = (Vec::new(), Exit::Success, MAX_LIST_BYTES);
    for id in ids {
        match directories.read(&id) {
            Ok(execution) if takes(&execution) => {
                // Records may have a megabyte each, and belong to an account that is not trusted here.
                let size = serde_json::to_vec(&execution).map_or(usize::MAX, |json| json.len());
                let Some(rest) = left.checked_sub(size) else { return Ok((found, true, exit)) };
                left = rest;
                found.push(execution);
            }
            Ok(_) => {}
            // Removed meanwhile, or its acceptance was not completed.
            Err(ExecDirError::Unknown(..)) => {}
            Err(error) => {
                errln!("bolt: {}", Failure::from_error(Exit::Failed, &error));
                exit = Exit::Failed;
            }
        }
    }
    Ok((found, false, exit))
}

async fn show(command: LocalShow, json: bool) -> Result<Exit, Failure> {
    let mask = command.secrets.read()?;
    let source = open(&command.host).await?;
    let mut execution = find(&source, &command.id).await?;
    mask_execution(&mut execution, &mask);
    if json {
        outln!("{}", show::json(&execution));
    } else {
        super::show::print(&[&execution]);
    }
    Ok(Exit::Success)
}

async fn print_output(command: LocalLogs, json: bool) -> Result<Exit, Failure> {
    let mask = read_mask(&command.secrets, json)?;
    let source = open(&command.host).await?;
    let id = find(&source, &command.id).await?.id;
    let mut printer = Printer::new(&command.output, &mask, json);
    let directories = match &source {
        Source::Agent(agent) => return logs::print(agent, &id, &command.output, printer).await,
        Source::Directories(directories) => directories,
    };
    let mut output = directories.output(&id).map_err(|e| Failure::from_error(Exit::Storage, &e))?;
    while let Some(chunk) = output.next() {
        printer.print(&chunk).map_err(|e| cannot_print(&e))?;
    }
    printer.finish().map_err(|e| cannot_print(&e))?;
    if command.output.follow {
        errln!("bolt: this is its output so far: without the agent it is not followed");
    }
    Ok(Exit::Success)
}

async fn stop(command: LocalKill, json: bool) -> Result<Exit, Failure> {
    let source = open(&command.host).await?;
    let id = find(&source, &command.id).await?.id;
    let end = match &source {
        Source::Agent(agent) => {
            let end = kill::stop(agent, &id, command.note.as_deref(), json).await;
            end.map_err(|e| Failure::from_instance(&e))?
        }
        Source::Directories(directories) => {
            let end = kill_in(directories, &id, command.note.as_deref()).await?;
            if !json {
                kill::report(&end);
            }
            end
        }
    };
    if json {
        outln!("{}", show::json(&end));
    }
    Ok(if end.state.is_terminal() { Exit::Success } else { Exit::Failed })
}

/// Records a kill in the execution's directory; where a shim sees it, waits for the end.
async fn kill_in(directories: &ExecDirs, id: &ExecutionId, note: Option<&str>) -> Result<Execution, Failure> {
    let failed = |error: ExecDirError| {
        let exit = if matches!(error, ExecDirError::Ended(_)) { Exit::Refused } else { Exit::Storage };
        Failure::from_error(exit, &error)
    };
    let has_shim = directories.kill(id, note).map_err(failed)?;
    let begun = Instant::now();
    loop {
        let execution = directories.read(id).map_err(failed)?;
        if !has_shim || execution.state != State::Running || begun.elapsed() > KILL_PATIENCE {
            return Ok(execution);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Finds the execution with this id, or with an id that ends so.
async fn find(source: &Source, id: &IdArg) -> Result<Execution, Failure> {
    let mut found = match source {
        Source::Agent(agent) => search(agent, id).await.map_err(|e| Failure::from_instance(&e))?,
        Source::Directories(directories) => {
            let read = match id.whole() {
                // Found whatever else is there.
                Some(id) => match directories.read(&id) {
                    Err(ExecDirError::Unknown(..)) => Ok(Vec::new()),
                    read => read.map(|execution| vec![execution]),
                },
                None => {
                    let ids = directories.ids().map_err(|e| source::cannot_read(directories.path(), &e))?;
                    ids.iter().filter(|known| id.fits(known)).take(20).map(|id| directories.read(id)).collect()
                }
            };
            read.map_err(|e| Failure::from_error(Exit::Storage, &e))?
        }
    };
    match (found.pop(), found.len()) {
        (Some(one), 0) => Ok(one),
        (None, _) => Err(Failure::new(Exit::Refused, format!("this host has no execution {id}")).hint(
            "`bolt local ps` lists recent executions; with its whole id an execution is found however old it is",
        )),
        (Some(_), more) => {
            let message = format!("{id} is the end of {} executions", more + 1);
            Err(Failure::new(Exit::Usage, message).hint("give more of the id"))
        }
    }
}
