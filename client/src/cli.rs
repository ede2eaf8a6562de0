//! The `bolt` command: what can be asked, and who answers it.
//!
//! ```text
//!  arguments ──clap──▶ Cli ──Context: configuration, identity, inventory──▶ command ──▶ Exit | Failure
//! ```
//!
//! Data goes to standard output, everything else to standard error. With `--json` a command prints one JSON
//! value. Nothing that an instance said is printed but through [`crate::show`].

mod actions;
mod agent;
mod audit;
mod bucket_args;
mod can_i;
mod complete;
mod config;
mod context;
pub mod demo;
mod environment;
mod expiry;
mod external;
pub use crate::failure;
mod find;
mod grants;
mod instances;
mod inventory;
mod kill;
mod local;
mod logs;
mod man;
mod mask;
mod mistakes;
mod moment;
mod numbers;
mod of_run;
pub mod pack;
mod packs;
mod parse;
mod pki;
mod ps;
pub mod repo;
mod run;
mod run_store;
mod runs;
mod select;
mod show;
mod terminal;
mod wait;
mod waiting;

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use packs_schema::base::pem;

use crate::config::{Config, Setting};
use crate::{errln, outln};

pub use complete::answer as answer_completion;
pub use parse::parse;
pub use terminal::end_when_nothing_can_be_printed;

use context::Context;
use failure::{Exit, Failure};

/// End of every command's help.
const EXIT_CODES: &str = "\
Exit codes:
  0    everything that was asked for succeeded
  1    an execution did not succeed, a check found an error, or an instance was not reached
  2    the command line, a file it names or a parameter is wrong; nothing was done
  3    no instance could be reached, or its certificate was not the right one; nothing was done
  4    the agent refused: no grant, unknown action, busy, full; nothing was done
  5    a file, a key, a repository or a source of the inventory could not be read or written
  130  interrupted; what was started goes on

Files:
  $BOLT_CLIENT_CONFIG, else $XDG_CONFIG_HOME/bolt/client.toml, else ~/.config/bolt/client.toml:
  certificate, key, ca and inventory (a file, or [[inventory]] tables); under [repository] url,
  keys, state, root and passphrase_file; under [runs] store.
  Paths are relative to the file. `bolt config show` says what is in effect and from where.

Environment (flags take precedence over variables, variables over client.toml):
  BOLT_CLIENT_CONFIG, BOLT_CERT, BOLT_KEY, BOLT_CA, BOLT_INVENTORY, BOLT_RUN_STORE,
  BOLT_JSON, BOLT_COLOR
                       the global options
  BOLT_REPO, BOLT_REPO_KEYS, BOLT_REPO_STATE, BOLT_REPO_ROOT
                       the repository: --repo, --keys, --state and --root
  BOLT_KEY_PASSPHRASE, BOLT_KEY_PASSPHRASE_FILE
                       the passphrase of repository keys, or the file that holds it
  BOLT_LAUNCH          the bolt-launch that `bolt pack test` starts
  For a repository in a bucket and an inventory from AWS: AWS_*, HTTPS_PROXY, HTTP_PROXY, ALL_PROXY,
  NO_PROXY, SSL_CERT_FILE, SSL_CERT_DIR, AWS_CA_BUNDLE.
  A variable with an invalid value, or a BOLT_ variable that does not exist, is an error.";

/// Runs signed diagnostics and repairs on many instances, directly, over mutual TLS.
#[derive(Debug, Parser)]
#[command(name = "bolt", version, after_help = EXIT_CODES, max_term_width = 110, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Print one JSON value instead of text for people; `logs` prints one for each line [env: BOLT_JSON].
    #[arg(long, global = true)]
    json: bool,
    /// The client's configuration [default: see "Files"] [env: BOLT_CLIENT_CONFIG].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The list of instances (TOML or JSON) [env: BOLT_INVENTORY].
    #[arg(long, global = true, value_name = "FILE")]
    inventory: Option<PathBuf>,
    /// The client's certificate (PEM) [env: BOLT_CERT].
    #[arg(long, global = true, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The client's key (PEM), readable by its owner only [env: BOLT_KEY].
    #[arg(long, global = true, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The authority that signed the agents' certificates (PEM) [env: BOLT_CA].
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The record of runs: a directory, or s3://bucket/prefix with options after a ? [default: see `bolt runs --help`]
    /// [env: BOLT_RUN_STORE].
    #[arg(long, global = true, value_name = "DIR|URL")]
    run_store: Option<PathBuf>,
    /// When to use colour: auto, always or never; NO_COLOR means never [default: auto] [env: BOLT_COLOR].
    #[arg(long, global = true, value_enum, hide_possible_values = true, value_name = "WHEN")]
    color: Option<Color>,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run an action on instances, one at a time unless told otherwise.
    Run(Box<run::RunCommand>),
    /// List the recorded runs.
    Runs(runs::RunsCommand),
    /// Go on with a run whose command was interrupted or died.
    Resume(run::ResumeCommand),
    /// Repeat a run, as a new one, on the instances where it did not succeed.
    Retry(run::RetryCommand),
    /// List executions across instances, the newest first.
    Ps(ps::PsCommand),
    /// List executions that have ended, across instances.
    History(ps::HistoryCommand),
    /// Show one execution, or a run with its executions.
    Show(show::ShowCommand),
    /// Print the output of an execution, or of all of a run.
    Logs(logs::LogsCommand),
    /// Wait until an execution, or all of a run, have ended.
    Wait(wait::WaitCommand),
    /// Kill executions: TERM, a grace period, then KILL for all of their processes.
    Kill(kill::KillCommand),
    /// List what can be run, or show one action with its parameters.
    Actions(actions::ActionsCommand),
    /// List the instances of the inventory.
    Instances(instances::InstancesCommand),
    /// Sources of the inventory.
    #[command(subcommand)]
    Inventory(inventory::InventoryCommand),
    /// List the packs that are active on instances.
    Packs(packs::PacksCommand),
    /// Have agents poll their repository now.
    Sync(packs::SyncCommand),
    /// A small certificate authority, for those who have none.
    #[command(subcommand)]
    Pki(pki::PkiCommand),
    /// Ask instances whether their grants allow you something.
    CanI(can_i::CanICommand),
    /// Check grants on files, without an instance.
    #[command(subcommand)]
    Grants(grants::GrantsCommand),
    /// Check the agent of this host.
    #[command(subcommand)]
    Agent(agent::AgentCommand),
    /// Executions on this host, for root, without certificates: list, show, print output, kill.
    #[command(subcommand)]
    Local(local::LocalCommand),
    /// Verify and list the audit log of this host, on its files.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Show the configuration in effect: each value, and where it comes from.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Publish packs in a signed repository.
    #[command(subcommand)]
    Repo(repo::RepoCommand),
    /// Author packs: new, lint, test, build, push, check.
    #[command(subcommand)]
    Pack(pack::PackCommand),
    /// A small signed fleet on loopback, end to end, with nothing to set up.
    Demo(demo::DemoCommand),
    /// Print the script that completes commands, actions, parameters and instances in a shell.
    Completions(man::CompletionsCommand),
    /// Show the manual page of a command, or write all pages into a directory.
    Man(man::ManCommand),
}

/// Runs what the command line asked for, and reports a failure. Returns the exit code.
pub fn main(cli: Cli) -> Exit {
    let json = match environment::json() {
        Ok(json) => cli.global.json || json,
        Err(failure) => return report(&failure, cli.global.json),
    };
    match run(cli, json) {
        Ok(exit) => exit,
        Err(failure) => report(&failure, json),
    }
}

/// Runs `bolt-<name>` for a command that clap does not know, in place of this process. Returns `None` when there is no such
/// program.
pub fn run_external(error: &clap::Error) -> Option<Exit> {
    external::run(error).map(|failure| report(&failure, environment::json().unwrap_or(false)))
}

fn report(failure: &Failure, json: bool) -> Exit {
    if json {
        outln!("{}", crate::show::json(&failure.to_json()));
    }
    errln!("bolt: {failure}");
    failure.exit
}

/// Prints what clap has to say: help, which was asked for, or what is wrong with the command line. Returns the
/// exit code.
pub fn explain(mut error: clap::Error) -> Exit {
    let wrong = error.use_stderr();
    let json = std::env::args_os().any(|argument| argument == "--json") || environment::json().unwrap_or(false);
    // The library repeats an argument that it does not understand, and this one may be a private key.
    if wrong && std::env::args_os().any(|argument| pem::is_pem_content(Path::new(&argument))) {
        let problem = "an argument is the content of a PEM file: write it to a file and give the path";
        return report(&Failure::new(Exit::Usage, problem), json);
    }
    let arguments: Vec<String> = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let meant = mistakes::hint(&error, &arguments).filter(|_| wrong);
    if wrong && json {
        if meant.is_some() {
            mistakes::remove_tips(&mut error);
        }
        let text = error.to_string();
        let text = text.trim_start_matches("error: ");
        let message = text.split_once("\n\nFor more information").map_or(text, |(message, _)| message);
        let failure = Failure::new(Exit::Usage, message.trim_end())
            .hint(meant.as_deref().unwrap_or("`bolt --help` lists what there is"));
        outln!("{}", crate::show::json(&failure.to_json()));
    }
    if let Some(meant) = &meant {
        mistakes::replace_tips(&mut error, meant);
    }
    let plain = error.to_string();
    // The message repeats the arguments, and clap prints them unescaped.
    let printed = if wrong && crate::show::visible_lines(&plain) != plain {
        errln!("{}", plain.trim_end());
        Ok(())
    } else {
        error.print()
    };
    match printed {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(terminal::BROKEN_PIPE),
        Err(e) => {
            errln!("bolt: cannot print to stdout: {e}");
            Exit::Storage
        }
        Ok(()) if wrong => Exit::Usage,
        Ok(()) => Exit::Success,
    }
}

fn run(cli: Cli, json: bool) -> Result<Exit, Failure> {
    let Cli { global, command } = cli;
    if !matches!(command, Command::Completions(_) | Command::Man(_)) {
        environment::check(std::env::vars_os().map(|(name, _)| name))?;
    }
    let asks_for_json = global.json;
    let context = |global: Global| {
        let Global { json: _, config, inventory, cert, key, ca, run_store, color } = global;
        let flags = [
            (Setting::Certificate, cert),
            (Setting::Key, key),
            (Setting::Ca, ca),
            (Setting::Inventory, inventory),
            (Setting::RunStore, run_store),
        ];
        let config = Config::find(config.as_deref(), &flags).map_err(|e| context::from_config(&e))?;
        let color = color.map_or_else(environment::color, |color| Ok(Some(color)))?;
        Ok::<_, Failure>(Context::new(json, color.unwrap_or(Color::Auto), config))
    };
    let (name, verbs) = command.verbs();
    let result = match command {
        Command::Pki(command) => pki::run(command, json),
        Command::CanI(command) => block_on(can_i::run(command, context(global)?)),
        Command::Grants(command) => grants::run(command, json),
        Command::Agent(command) => agent::run(command, json),
        Command::Local(command) => block_on(local::run(command, json)),
        Command::Audit(command) => audit::run(command, json),
        Command::Inventory(command) => Ok(inventory::run(&command)),
        Command::Config(command) => config::run(&command, &context(global)?),
        Command::Repo(command) => repo::run(command, &context(global)?),
        Command::Pack(pack::PackCommand::Push(command)) => block_on(pack::push::push(command, context(global)?)),
        Command::Pack(pack::PackCommand::Unpush(command)) => block_on(pack::push::unpush(command, context(global)?)),
        Command::Pack(pack::PackCommand::Diff(command)) => pack::diff::run(&command, &context(global)?),
        Command::Pack(pack::PackCommand::Local(command)) => pack::run(command, json),
        Command::Demo(command) => demo::run(command, asks_for_json),
        Command::Completions(command) => man::completions(&command),
        Command::Man(command) => man::man(&command),
        Command::Run(command) => block_on(run::run(*command, context(global)?)),
        Command::Runs(command) => block_on(runs::run(command, context(global)?)),
        Command::Resume(command) => block_on(run::resume(command, context(global)?)),
        Command::Retry(command) => block_on(run::retry(command, context(global)?)),
        Command::Ps(command) => block_on(ps::run(command, context(global)?)),
        Command::History(command) => block_on(ps::history(command, context(global)?)),
        Command::Show(command) => block_on(show::run(command, context(global)?)),
        Command::Logs(command) => block_on(logs::run(command, context(global)?)),
        Command::Wait(command) => block_on(wait::run(command, context(global)?)),
        Command::Kill(command) => block_on(kill::run(command, context(global)?)),
        Command::Actions(command) => block_on(actions::run(command, context(global)?)),
        Command::Instances(command) => block_on(instances::run(command, context(global)?)),
        Command::Packs(command) => block_on(packs::run(command, context(global)?)),
        Command::Sync(command) => block_on(packs::sync(command, context(global)?)),
    };
    result.map_err(|failure| failure.needing(name, verbs))
}

impl Command {
    /// Its name, and the verbs that instances must grant for it.
    fn verbs(&self) -> (&'static str, &'static str) {
        match self {
            Command::Run(_) => ("run", "the verbs \"read\" and \"run\" on the action"),
            Command::Resume(_) => ("resume", "the verbs \"read\" and \"run\" on the action"),
            Command::Retry(_) => ("retry", "the verbs \"read\" and \"run\" on the action"),
            Command::Kill(_) => ("kill", "the verbs \"read\" and \"kill\" on the action"),
            Command::Sync(_) => ("sync", "the verb \"sync\""),
            Command::Pack(pack::PackCommand::Push(_)) => ("pack push", "the verb \"push\" on the whole pack"),
            Command::Pack(pack::PackCommand::Unpush(_)) => ("pack unpush", "the verb \"push\" on the whole pack"),
            Command::Ps(_) => ("ps", "the verb \"read\""),
            Command::History(_) => ("history", "the verb \"read\""),
            Command::Show(_) => ("show", "the verb \"read\" on the action"),
            Command::Wait(_) => ("wait", "the verb \"read\" on the action"),
            Command::Logs(_) => ("logs", "the verb \"read\" on the action"),
            Command::Actions(_) => ("actions", "the verb \"read\""),
            Command::Packs(_) => ("packs", "the verb \"read\""),
            Command::CanI(_) => ("can-i", "no verb"),
            Command::Instances(_) => ("instances", "no verb"),
            Command::Repo(_) => ("repo status --reached", "the verb \"read\""),
            Command::Runs(_)
            | Command::Pki(_)
            | Command::Grants(_)
            | Command::Pack(_)
            | Command::Config(_)
            | Command::Inventory(_)
            | Command::Agent(_)
            | Command::Local(_)
            | Command::Audit(_)
            | Command::Demo(_)
            | Command::Completions(_)
            | Command::Man(_) => ("", "no verb"),
        }
    }
}

/// Maximum number of threads that block: for look-ups of host names, and questions on the terminal.
const BLOCKING_THREADS: usize = 64;

/// A runtime for the commands that talk to agents; the others must not find themselves in one.
fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    // A thread for each core, for the handshakes of a fan-out; blocking ones look up host names.
    let threads = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(threads).max_blocking_threads(BLOCKING_THREADS).enable_all().build();
    let runtime = runtime.map_err(|e| Failure::new(Exit::Failed, format!("cannot start the runtime: {e}")))?;
    let result = runtime.block_on(command);
    // A look-up of a host name cannot be cancelled; nothing waits for it.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
#[path = "cli/parse_tests.rs"]
mod tests;
