//! `bolt resume` and `bolt retry`: a recorded run goes on, or is repeated where it did not succeed.

use std::path::PathBuf;

use clap::Args;
use packs_schema::base::name::RunId;

use super::args::View;
use super::carry_out::{Wanted, carry_out};
use super::input::Arguments;
use super::params;
use super::recording::{self, say_unwritten};
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::run_store;
use crate::cli::terminal;
use crate::definitions::Definitions;
use crate::fleet::Run;
use crate::runner::{self, Resumable, Retried};
use crate::show;
use crate::{err, errln};

const RESUME_EXAMPLES: &str = "\
Examples:
  bolt resume r-0193…
  bolt resume r-0193… token=@FILE      a run with a secret parameter, which the record does not hold

Instances that were asked to start are asked again: they start nothing twice, and answer with the execution that they have. \
Instances that another principal has asked are left as they are: only that principal can ask them again.";

/// Go on with a run whose command was interrupted or died.
#[derive(Debug, Args)]
#[command(after_help = RESUME_EXAMPLES)]
pub(in crate::cli) struct ResumeCommand {
    /// The run: `bolt runs` lists them.
    #[arg(value_name = "RUN-ID")]
    run: RunId,
    #[command(flatten)]
    again: Again,
}

const RETRY_EXAMPLES: &str = "\
Examples:
  bolt retry r-0193…                    where the action failed
  bolt retry r-0193… --unreachable      where it failed, and on instances that were not reached
  bolt retry r-0193… --not-started      also on those that the run did not come to";

/// Repeat a run, as a new one, on the instances where it did not succeed.
#[derive(Debug, Args)]
#[command(after_help = RETRY_EXAMPLES)]
pub(in crate::cli) struct RetryCommand {
    /// The run: `bolt runs` lists them.
    #[arg(value_name = "RUN-ID")]
    run: RunId,
    /// Also on instances that were not reached, or whose end is not known: an execution may still run there.
    #[arg(long)]
    unreachable: bool,
    /// Also on instances that the run did not come to.
    #[arg(long)]
    not_started: bool,
    #[command(flatten)]
    again: Again,
}

/// Options that both commands have.
#[derive(Debug, Args)]
struct Again {
    /// Secret parameters of the run, in files: NAME=@FILE.
    #[arg(value_name = "NAME=@FILE")]
    parameters: Vec<params::Given>,
    /// Read the secret parameters from a file with one JSON object; - is standard input.
    #[arg(long, value_name = "FILE")]
    params_file: Option<PathBuf>,
    /// Change instances without asking for confirmation.
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    view: View,
}

/// Runs `bolt resume`.
pub(in crate::cli) async fn resume(command: ResumeCommand, context: Context) -> Result<Exit, Failure> {
    let store = run_store::require(context.config())?;
    let identity = context.identity()?;
    let Again { parameters, params_file, yes, view } = &command.again;
    let mut input = Arguments::new(parameters, params_file.as_deref(), &[], !context.json)?;
    view.check()?;
    let mut found = runner::resumable(store.clone(), &command.run, &identity, &mut input).await?;
    let Resumable { run, ended, started, others, left, .. } = &found;
    if !context.json && !view.quiet {
        let unclear = if *started > 0 { format!(", {started} to be asked how it ended") } else { String::new() };
        let others = match others {
            0 => String::new(),
            _ => format!(", {others} asked by another principal and left as they are"),
        };
        let all = show::counted(run.targets.len(), "instance");
        errln!("run {} of {} on {all}: {ended} ended{unclear}{others}, {left} not started", run.id, run.request.action);
    }
    if *left > 0 && found.changes() {
        agree(run, *left, *yes).await?;
    }
    let files = view.files(&mut found.run)?;
    // Last: until here, a client that carries out the run goes on.
    run_store::say_wait(&*store, &command.run).await;
    let job = found.take_over(say_unwritten(command.run.clone())).await?;
    let mut definitions = Definitions::open(context.config());
    carry_out(Wanted { job, files, view }, &identity, &context, &mut definitions).await
}

/// Runs `bolt retry`.
pub(in crate::cli) async fn retry(command: RetryCommand, context: Context) -> Result<Exit, Failure> {
    let store = run_store::require(context.config())?;
    let identity = context.identity()?;
    let Again { parameters, params_file, yes, view } = &command.again;
    let mut input = Arguments::new(parameters, params_file.as_deref(), &[], !context.json)?;
    let which = Retried { unreachable: command.unreachable, not_started: command.not_started };
    view.check()?;
    let mut prepared = runner::retry(&*store, &command.run, which, &identity, &mut input).await?;
    if prepared.changes() {
        agree(&prepared.run, prepared.run.targets.len(), *yes).await?;
    }
    let files = view.files(&mut prepared.run)?;
    let job = recording::begin(prepared, &context, false).await?;
    carry_out(Wanted { job, files, view }, &identity, &context, &mut Definitions::open(context.config())).await
}

/// Asks for confirmation before more instances are changed.
async fn agree(run: &Run, count: usize, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let what = format!("{} changes {}", run.request.action, show::counted(count, "instance"));
    if !terminal::can_ask() {
        return Err(Failure::new(Exit::Usage, what).hint("add --yes"));
    }
    err!("{what}\n");
    match terminal::confirm("Go ahead?").await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::new(Exit::Usage, "not confirmed; nothing was done")),
        Err(e) if e.kind() == std::io::ErrorKind::Interrupted => Err(Failure::interrupted()),
        Err(e) => Err(Failure::new(Exit::Usage, format!("cannot ask for confirmation: {e}")).hint("add --yes")),
    }
}
