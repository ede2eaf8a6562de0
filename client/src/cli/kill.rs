//! `bolt kill`: stop an execution, and say what became of it.

use std::time::Duration;

use clap::Args;
use packs_schema::rest::{Code, Execution};

use super::context::Context;
use super::failure::{Exit, Failure};
use super::find::{IdArg, find};
use super::select::SelectArgs;
use crate::connection::Agent;
use crate::error::Kind;
use crate::show;

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

/// Runs `bolt kill`.
pub(super) async fn run(command: KillCommand, context: Context) -> Result<Exit, Failure> {
    let (instance, execution) = find(&context, &command.select, &command.id).await?;
    let agent = Agent::new(&instance, &context.identity()?);
    let failed = |error: &crate::error::Error| Failure::from_instance(error);
    let now = match agent.kill(&execution.id, command.note.as_deref()).await {
        Ok(now) => now,
        Err(error) if matches!(&error.kind, Kind::Problem(p) if p.code == Code::AlreadyEnded) => {
            let ended = agent.execution(&execution.id, None).await.map_err(|e| failed(&e))?;
            if !context.json {
                eprintln!("it had ended already");
            }
            report(&context, &ended);
            return Ok(Exit::Success);
        }
        Err(error) => return Err(failed(&error)),
    };
    let end = if now.state.is_terminal() {
        now
    } else {
        agent.execution(&execution.id, Some(PATIENCE)).await.map_err(|e| failed(&e))?
    };
    report(&context, &end);
    Ok(if end.state.is_terminal() { Exit::Success } else { Exit::Failed })
}

fn report(context: &Context, execution: &Execution) {
    if context.json {
        println!("{}", show::json(execution));
        return;
    }
    let left = match execution.leftovers {
        Some(left) if left.after_subreaper == 1 => ", 1 process left".to_owned(),
        Some(left) => format!(", {} processes left", left.after_subreaper),
        None => String::new(),
    };
    let state = super::ps::state(execution);
    println!("{} on {}: {state}{left}", execution.id, execution.instance);
    if !execution.state.is_terminal() {
        eprintln!("it is being stopped; `bolt show {}` tells how that ends", super::find::short(&execution.id));
    }
}
