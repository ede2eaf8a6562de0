//! `bolt kill`: stop an execution, and say what became of it.

use std::time::Duration;

use clap::Args;
use futures_util::future::join_all;
use packs_schema::agent::rest::{Code, Execution};
use packs_schema::base::name::ExecutionId;
use serde_json::{Value, json};

use super::context::{Answers, Context, error_json};
use super::failure::{Exit, Failure};
use super::find::{IdArg, claimed, find, nowhere, several};
use super::select::SelectArgs;
use crate::connection::Agent;
use crate::error::{Error, Kind};
use crate::inventory::Instance;
use crate::show;
use crate::{errln, outln};

/// How long the end is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// Stop an execution: TERM, a grace time, then all of its processes.
#[derive(Debug, Args)]
pub(super) struct KillCommand {
    /// Its id, or at least the last six characters of it.
    id: IdArg,
    /// Why, for those who read the instance's log.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    #[command(flatten)]
    select: SelectArgs,
}

/// What became of it on an instance that has it.
struct Stopped {
    instance: Instance,
    id: ExecutionId,
    end: Result<Execution, Error>,
}

/// Runs `bolt kill`. Each instance that says that it has the execution is asked to stop it: none of them can keep the
/// others from being asked.
pub(super) async fn run(command: KillCommand, context: Context) -> Result<Exit, Failure> {
    let stopped = match command.id.whole() {
        Some(id) => by_id(&command, &context, &id).await?,
        None => by_end(&command, &context).await?,
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

/// Asks and stops on all instances at once, so that one that does not answer holds up none of the others.
async fn by_id(command: &KillCommand, context: &Context, id: &ExecutionId) -> Result<Vec<Stopped>, Failure> {
    let question = async |agent: &Agent| match claimed(agent, id).await? {
        Some(_) => Ok(Some(stop(agent, id, command, context).await)),
        None => Ok(None),
    };
    let Answers { given, failed } = context.ask(&command.select, question).await?;
    let asked = given.len() + failed.len();
    let stopped: Vec<Stopped> =
        given.into_iter().filter_map(|(instance, end)| Some(Stopped { instance, id: id.clone(), end: end? })).collect();
    if stopped.is_empty() { Err(nowhere(&command.id, asked, &failed)) } else { Ok(stopped) }
}

async fn by_end(command: &KillCommand, context: &Context) -> Result<Vec<Stopped>, Failure> {
    let found = find(context, &command.select, &command.id).await?;
    let identity = context.identity()?;
    let stopping = found.into_iter().map(|(instance, execution)| {
        let agent = Agent::new(&instance, &identity);
        async move {
            let end = stop(&agent, &execution.id, command, context).await;
            Stopped { instance, id: execution.id, end }
        }
    });
    Ok(join_all(stopping).await)
}

/// Stops it on one instance, and prints how it ended there.
async fn stop(agent: &Agent, id: &ExecutionId, command: &KillCommand, context: &Context) -> Result<Execution, Error> {
    let (end, before) = match agent.kill(id, command.note.as_deref()).await {
        Ok(now) if now.state.is_terminal() => (now, false),
        Ok(_) => (agent.execution(id, Some(PATIENCE)).await?, false),
        Err(error) if matches!(&error.kind, Kind::Problem(p) if p.code == Code::AlreadyEnded) => {
            (agent.execution(id, None).await?, true)
        }
        Err(error) => return Err(error),
    };
    if !context.json {
        if before {
            errln!("it had ended already");
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

fn report(execution: &Execution) {
    let left = match &execution.leftovers {
        Some(left) if left.after_subreaper == 1 => ", 1 process left".to_owned(),
        Some(left) => format!(", {} processes left", left.after_subreaper),
        None => String::new(),
    };
    let state = super::ps::state(execution);
    outln!("{} on {}: {state}{left}", execution.id, execution.instance);
    if !execution.state.is_terminal() {
        errln!("it is being stopped; `bolt show {}` tells how that ends", super::find::short(&execution.id));
    }
}
