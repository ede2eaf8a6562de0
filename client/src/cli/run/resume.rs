//! `bolt resume` and `bolt retry`: a recorded run goes on, or is repeated where it did not succeed.

use std::path::PathBuf;

use clap::Args;
use packs_schema::agent::rest::ActionView;
use packs_schema::base::name::{PackVersion, RunId};
use packs_schema::delivery::facts::Facts;
use packs_schema::pack::action::Class;
use serde_json::{Map, Value};

use super::args::{View, Wanted as WantedAction};
use super::carry_out::{Wanted, carry_out};
use super::{params, prepare, recording};
use crate::cli::context::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::run_store;
use crate::cli::terminal;
use crate::definitions::Definitions;
use crate::fleet::{self, Before, Earlier, Ending, Plan, Run};
use crate::inventory::Instance;
use crate::runs::{Entry, StoredRun, TakenOver, take_over};
use crate::show::when::now_ms;
use crate::show::{self, Mask};
use crate::tls::Identity;
use crate::{err, errln};

const RESUME_EXAMPLES: &str = "\
Examples:
  bolt resume r-0193…
  bolt resume r-0193… token=@FILE      a run with a secret parameter, which the record does not hold

Instances that were asked to start are asked again: they start nothing twice, and answer with the execution that they have.";

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
    /// Also on instances that were not reached.
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
    let store = run_store::require()?;
    // Before anything is read: another client may be about to write.
    let lease = store.acquire(&command.run).await.map_err(run_store::failure)?;
    let stored = store.load(&command.run).await.map_err(run_store::failure)?;
    let identity = context.identity()?;
    let (taken, mask) = take(&stored, &command.again, &identity).await?;
    let TakenOver { run, earlier, .. } = taken;
    let count = |wanted: fn(&Before) -> bool| earlier.before.iter().filter(|before| wanted(before)).count();
    let ended = count(|before| matches!(before, Before::Ended(_)));
    let started = count(|before| *before == Before::Started);
    let left = run.targets.len() - ended - started;
    if !context.json && !command.again.view.quiet {
        let unclear = if started > 0 { format!(", {started} to be asked how it ended") } else { String::new() };
        let all = show::counted(run.targets.len(), "instance");
        errln!("run {} of {} on {all}: {ended} ended{unclear}, {left} not started", run.id, run.request.action);
    }
    if left > 0 {
        agree(&stored, &run, left, command.again.yes).await?;
    }
    let recorder = recording::recorder(store, &run, lease);
    recorder.add(Entry::Resumed { at_ms: now_ms() });
    let wanted = Wanted {
        run: &run,
        earlier,
        is_diagnostic: stored.head.class == Class::Diagnostic,
        mask: &mask,
        view: &command.again.view,
        recorder: Some(recorder),
    };
    carry_out(wanted, &identity, &context, &mut Definitions::open(context.config())).await
}

/// Runs `bolt retry`.
pub(in crate::cli) async fn retry(command: RetryCommand, context: Context) -> Result<Exit, Failure> {
    let store = run_store::require()?;
    let stored = store.load(&command.run).await.map_err(run_store::failure)?;
    let identity = context.identity()?;
    let (TakenOver { run: old, earlier, .. }, mask) = take(&stored, &command.again, &identity).await?;
    let is_wanted = |target: &usize| match &earlier.endings[*target] {
        Some(Ending::Unreachable { may_run: false, .. }) => command.unreachable,
        Some(ending) => !ending.succeeded(),
        None if earlier.before[*target] == Before::Started => command.unreachable,
        None => command.not_started,
    };
    let targets: Vec<Instance> =
        (0..old.targets.len()).filter(is_wanted).map(|target| old.targets[target].clone()).collect();
    if targets.is_empty() {
        return Err(Failure::new(Exit::Usage, format!("run {} failed on no instance", old.id)).hint(
            "--unreachable repeats it on instances that were not reached, --not-started where it did not begin",
        ));
    }
    let facts: Vec<&Facts> = targets.iter().map(|target| &target.facts).collect();
    let plan = Plan::new(&facts, old.plan.strategy());
    let run = Run { id: fleet::new_run_id(), targets, plan, ..old };
    agree(&stored, &run, run.targets.len(), command.again.yes).await?;
    let wanted_action = WantedAction { action: run.request.action.clone(), version: run.request.version.clone() };
    let ActionView { action, .. } = prepare::schema(&wanted_action, &run.targets, &identity).await?;
    let recorder = recording::begin(&run, &action, false).await?;
    let wanted = Wanted {
        run: &run,
        earlier: Earlier::default(),
        is_diagnostic: action.class == Class::Diagnostic,
        mask: &mask,
        view: &command.again.view,
        recorder,
    };
    carry_out(wanted, &identity, &context, &mut Definitions::open(context.config())).await
}

/// Returns the recorded run with its secrets, and the mask for them. Instances are asked for the schema only if there are secrets.
async fn take(stored: &StoredRun, again: &Again, identity: &Identity) -> Result<(TakenOver, Mask), Failure> {
    let wrong = |error: &dyn std::error::Error| Failure::new(Exit::Usage, error.to_string());
    if stored.plan.secrets().is_empty() {
        if !again.parameters.is_empty() || again.params_file.is_some() {
            let message = format!("run {} has no secret parameters: its parameters are recorded", stored.head.run);
            return Err(Failure::new(Exit::Usage, message).hint("leave out the parameters"));
        }
        return Ok((take_over(stored, Map::new()).map_err(|e| wrong(&e))?, Mask::default()));
    }
    let wanted = WantedAction {
        action: stored.head.action.clone(),
        version: stored.head.version.clone() as Option<PackVersion>,
    };
    let ActionView { action, .. } = prepare::schema(&wanted, &stored.plan.instances(), identity).await?;
    let mut input = params::Input::read(again.params_file.as_deref())?;
    let (mut given, unread) = params::collect(&again.parameters, &input, &action.parameters)?;
    if let Some(error) = unread.first() {
        return Err(Failure::new(Exit::Usage, show::visible(&error.to_string())));
    }
    params::ask_for_secrets(&action.parameters, &mut given, &mut input).await?;
    let secrets: Map<String, Value> = given;
    let hint = "give each as NAME=@FILE, or all in --params-file";
    let taken = take_over(stored, secrets).map_err(|e| wrong(&e).hint(hint))?;
    let mask = Mask::of_parameters(&action.parameters, &taken.run.request.parameters);
    Ok((taken, mask))
}

/// Asks for confirmation before more instances are changed.
async fn agree(stored: &StoredRun, run: &Run, count: usize, yes: bool) -> Result<(), Failure> {
    if stored.head.class == Class::Diagnostic || run.request.noop || yes {
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
