//! `bolt kill`: stops one execution, or all that match, and reports what became of them.

mod many;

use clap::Args;
use futures_util::future::join_all;
use packs_schema::agent::rest::{Execution, MAX_NOTE};
use packs_schema::base::name::{ActionRef, ExecutionId, Principal, RunId};
use serde_json::{Value, json};

use super::context::{Answers, Context, error_json};
use super::failure::{Exit, Failure};
use super::find::{IdArg, claimed, find, nowhere, several};
use super::select::SelectArgs;
use crate::connection::Agent;
use crate::error::Error;
use crate::inventory::Instance;
use crate::runner;
use crate::show;
use crate::{errln, outln};

const EXAMPLES: &str = "\
Examples:
  bolt kill 6e1d4cf1b2aa --note \"wrong host\"      one execution
  bolt kill --run r-0193…                         all of a run that have not ended
  bolt kill --action cassandra.repair --where \"zone == 'us-east-1a'\"
  bolt kill --caller spiffe://example.org/cron --yes   without being asked

Killing several shows what would be killed and asks first. A `bolt run` that is still starting instances goes on: \
interrupt it as well.";

/// Kill executions: TERM, a grace period, then KILL for all of their processes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct KillCommand {
    /// The execution to kill: its id, or at least the last six characters of it.
    #[arg(conflicts_with_all = ["run", "action", "caller"])]
    id: Option<IdArg>,
    /// Kill the executions of this run that have not ended.
    #[arg(long, value_name = "RUN-ID")]
    run: Option<RunId>,
    /// Kill the executions of this action that have not ended.
    #[arg(long)]
    action: Option<ActionRef>,
    /// Kill the executions that this caller started and that have not ended.
    #[arg(long, value_name = "URI", alias = "principal")]
    caller: Option<Principal>,
    /// Why, for those who read the history.
    #[arg(long, value_name = "TEXT", value_parser = note)]
    note: Option<String>,
    /// Do not ask before several executions are killed.
    #[arg(short, long)]
    yes: bool,
    #[command(flatten)]
    select: SelectArgs,
}

/// Parses a note.
pub(super) fn note(text: &str) -> Result<String, String> {
    let fits = text.chars().count() <= MAX_NOTE;
    if fits { Ok(text.to_owned()) } else { Err(format!("a note has at most {MAX_NOTE} characters")) }
}

/// How a kill ended on an instance that has the execution.
struct Stopped {
    instance: Instance,
    id: ExecutionId,
    end: Result<Execution, Error>,
}

/// Runs `bolt kill`.
pub(super) async fn run(command: KillCommand, context: Context) -> Result<Exit, Failure> {
    match &command.id {
        Some(id) => one(id, &command, &context).await,
        None => many::run(&command, &context).await,
    }
}

/// Kills one execution. Each instance that claims to have it is asked: none of them can keep the others from being
/// asked.
async fn one(id: &IdArg, command: &KillCommand, context: &Context) -> Result<Exit, Failure> {
    let stopped = match id.whole() {
        Some(whole) => by_id(id, command, context, &whole).await?,
        None => by_end(id, command, context).await?,
    };
    if context.json {
        print_json(&stopped);
    }
    for Stopped { end, .. } in &stopped {
        if let (Err(error), false) = (end, stopped.len() == 1) {
            errln!("bolt: {error}");
        }
    }
    if let [Stopped { end: Err(error), .. }] = &stopped[..] {
        return Err(Failure::from_instance(error));
    }
    if stopped.len() > 1 {
        let instances: Vec<&Instance> = stopped.iter().map(|one| &one.instance).collect();
        errln!("bolt: {}; each was asked to stop it", several(&stopped[0].id, &instances));
    }
    let ended = |one: &Stopped| matches!(&one.end, Ok(execution) if execution.state.is_terminal());
    Ok(if stopped.iter().all(ended) { Exit::Success } else { Exit::Failed })
}

/// Searches and kills on all instances at once, so that one that does not answer delays none of the others.
async fn by_id(
    id: &IdArg,
    command: &KillCommand,
    context: &Context,
    whole: &ExecutionId,
) -> Result<Vec<Stopped>, Failure> {
    let question = async |agent: &Agent| match claimed(agent, whole).await? {
        Some(_) => Ok(Some(stop_and_report(agent, whole, command, context).await)),
        None => Ok(None),
    };
    let Answers { given, failed } = context.ask(&command.select, question).await?;
    let asked = given.len() + failed.len();
    let stopped: Vec<Stopped> = given
        .into_iter()
        .filter_map(|(instance, end)| Some(Stopped { instance, id: whole.clone(), end: end? }))
        .collect();
    if stopped.is_empty() { Err(nowhere(id, asked, &failed)) } else { Ok(stopped) }
}

async fn by_end(id: &IdArg, command: &KillCommand, context: &Context) -> Result<Vec<Stopped>, Failure> {
    let found = find(context, &command.select, id).await?;
    let identity = context.identity()?;
    let stopping = found.into_iter().map(|(instance, execution)| {
        let agent = Agent::new(&instance, &identity);
        async move {
            let end = stop_and_report(&agent, &execution.id, command, context).await;
            Stopped { instance, id: execution.id, end }
        }
    });
    Ok(join_all(stopping).await)
}

/// Kills the execution on one instance, and prints how it ended there.
async fn stop_and_report(
    agent: &Agent,
    id: &ExecutionId,
    command: &KillCommand,
    context: &Context,
) -> Result<Execution, Error> {
    stop(agent, id, command.note.as_deref(), context.json).await
}

/// Kills the execution on one instance, and prints for people how it ended there.
pub(super) async fn stop(agent: &Agent, id: &ExecutionId, note: Option<&str>, json: bool) -> Result<Execution, Error> {
    let (end, had_ended) = runner::kill(agent, id, note).await?;
    if !json {
        if had_ended {
            let unkept = if note.is_some() { ", and the note is not kept" } else { "" };
            errln!("{} on {} had already ended ({}); nothing was done{unkept}", end.id, end.instance, end.state);
        }
        report(&end);
    }
    Ok(end)
}

fn print_json(stopped: &[Stopped]) {
    match stopped {
        [Stopped { end: Ok(execution), .. }] => outln!("{}", show::json(execution)),
        [Stopped { end: Err(_), .. }] => {}
        _ => {
            let executions: Vec<&Execution> = stopped.iter().filter_map(|one| one.end.as_ref().ok()).collect();
            let failed: Vec<Value> = stopped.iter().filter_map(|one| one.end.as_ref().err()).map(error_json).collect();
            outln!("{}", show::json(&json!({ "executions": executions, "failed": failed })));
        }
    }
}

/// Prints how an execution ended that was killed.
pub(super) fn report(execution: &Execution) {
    let left = left_processes(execution).map_or_else(String::new, |count| format!(", {}", count));
    let state = super::ps::state(execution);
    outln!("{} on {}: {state}{left}", execution.id, execution.instance);
    if !execution.state.is_terminal() {
        errln!("it is being stopped; `bolt show {}` shows how that ends", super::find::short(&execution.id));
    }
}

/// Says how many processes the kill left, where that was counted.
fn left_processes(execution: &Execution) -> Option<String> {
    let count = execution.leftovers.as_ref()?.after_subreaper;
    Some(if count == 1 { "1 process left".to_owned() } else { format!("{count} processes left") })
}
