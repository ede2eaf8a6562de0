//! `bolt wait`: waits until an execution, or all of a run, have ended.

use std::time::Duration;

use clap::Args;
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Execution;
use packs_schema::base::name::RunId;
use packs_schema::base::quantity::{format_duration, parse_duration};
use serde_json::json;

use super::context::{Context, error_json, grouped, say_unanswered};
use super::failure::{Exit, Failure};
use super::find::{FoundExecution, Which, find_one};
use super::of_run::{self, Discovery, for_each};
use super::ps;
use super::select::SelectArgs;
use crate::connection::Agent;
use crate::error::Error;
use crate::fleet::{self, DEFAULT_PARALLEL};
use crate::inventory::Instance;
use crate::show;
use crate::tls::Identity;
use crate::{errln, outln};

const EXAMPLES: &str = "\
Examples:
  bolt wait 6e1d4cf1b2aa                    until one execution has ended
  bolt wait --run r-0193… --timeout 30m     until all of a run have ended
  bolt run linux.disk_usage --everywhere --at-once --detach --json | jq -r .run | xargs bolt wait

Exit code 0: all succeeded. 1: one did not succeed, did not end within --timeout, or an instance was not reached.";

/// Wait until an execution, or all of a run, have ended.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct WaitCommand {
    /// The execution: its id, or at least the last six characters of it; or a run (r-…).
    #[arg(value_name = "ID|RUN-ID", required_unless_present = "run", conflicts_with = "run")]
    which: Option<Which>,
    /// Wait for all executions of this run, also those that are still to be started.
    #[arg(long, value_name = "RUN-ID")]
    run: Option<RunId>,
    /// Give up after this time, such as 30m. Running executions continue.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    select: SelectArgs,
}

/// Runs `bolt wait`.
pub(super) async fn run(command: WaitCommand, context: Context) -> Result<Exit, Failure> {
    let waiting = async {
        match Which::of(command.which.as_ref(), command.run.as_ref()) {
            Which::Execution(id) => one(find_one(&context, &command.select, &id).await?, &context).await,
            Which::Run(run) => all(&run, &command.select, &context).await,
        }
    };
    let within = tokio::time::timeout(command.timeout.unwrap_or(Duration::MAX), waiting);
    tokio::select! {
        biased;
        Ok(()) = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
        ended = within => ended.unwrap_or_else(|_| Err(too_late(command.timeout.unwrap_or_default()))),
    }
}

fn too_late(timeout: Duration) -> Failure {
    Failure::new(
        Exit::Failed,
        format!("not all had ended within {}; running executions continue", format_duration(timeout)),
    )
    .hint("`bolt ps --state running` lists what runs")
}

async fn one((instance, execution): FoundExecution, context: &Context) -> Result<Exit, Failure> {
    let end = wait_for_end(instance.clone(), context.identity()?, execution).await;
    let end = end.map_err(|error| Failure { exit: Exit::Failed, ..Failure::from_instance(&error) })?;
    if context.json {
        outln!("{}", show::json(&end));
    } else {
        outln!("{} on {}: {}", end.id, instance.id(), ps::state(&end));
    }
    Ok(if end.state == State::Succeeded { Exit::Success } else { Exit::Failed })
}

async fn all(run: &RunId, select: &SelectArgs, context: &Context) -> Result<Exit, Failure> {
    let (mut discovery, found) = Discovery::begin(context, select, run).await?;
    let identity = discovery.identity();
    let each = |(instance, execution): FoundExecution| {
        let identity = identity.clone();
        async move { wait_for_end(instance.clone(), identity, execution).await.map(|end| (instance, end)) }
    };
    let (mut ended, mut lost) = (Vec::new(), Vec::new());
    for end in for_each(&mut discovery, found, DEFAULT_PARALLEL, true, each).await {
        match end {
            Ok(found) => ended.push(found),
            Err(error) => lost.push(error),
        }
    }
    ended.sort_by(|(a, _), (b, _)| a.id().cmp(b.id()));
    for line in grouped(&lost) {
        errln!("bolt: contact was lost: {line}");
    }
    let (without, asked) = discovery.without();
    // Read again: the run has ended meanwhile.
    let recorded = match discovery.recorded() {
        Some(_) => of_run::Recorded::find(context, run).await?,
        None => None,
    };
    let unanswered = discovery.into_failed();
    say_unanswered(&unanswered, asked);
    lost.extend(unanswered);
    if context.json {
        let executions: Vec<&Execution> = ended.iter().map(|(_, execution)| execution).collect();
        let failed: serde_json::Value = lost.iter().map(error_json).collect();
        let mut value = json!({ "run": run, "executions": executions, "without": without, "failed": failed });
        if let Some(recorded) = &recorded {
            value["record"] = recorded.json(&without);
        }
        outln!("{}", show::json(&context.with_missing(value)));
    } else {
        of_run::by_state(&ended).iter().for_each(|line| outln!("{line}"));
        if let Some(recorded) = &recorded {
            recorded.describe(&without).iter().for_each(|line| outln!("{line}"));
        } else if let Some(line) = of_run::describe_without(&without, asked) {
            outln!("{line}");
            errln!("{}", of_run::WHY_WITHOUT);
        }
    }
    // An instance of a recorded run that has no execution has not succeeded.
    let is_complete = recorded.is_none() || without.is_empty();
    Ok(if is_complete { of_run::exit(&ended, &lost) } else { Exit::Failed })
}

/// Waits until the execution has ended, also across restarts of its agent.
async fn wait_for_end(instance: Instance, identity: Identity, execution: Execution) -> Result<Execution, Error> {
    let agent = Agent::new(&instance, &identity);
    fleet::wait_for_end(&agent, execution).await
}
