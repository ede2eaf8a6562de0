//! The executions of a run: found by asking its instances, which its record names; without a record, all of the inventory.

mod follow;
mod recorded;

use std::collections::BTreeMap;

use packs_schema::agent::execution::State;
use packs_schema::agent::rest::{Execution, MAX_PAGE};
use packs_schema::base::name::{InstanceId, RunId};

use super::context::{Answers, Context, ask, grouped};
use super::failure::{Exit, Failure};
use super::find::FoundExecution;
use super::ps;
use super::select::SelectArgs;
use crate::connection::{Agent, ExecutionQuery};
use crate::errln;
use crate::error::Error;
use crate::inventory::Instance;
use crate::show;

pub(super) use follow::{Discovery, for_each};
pub(super) use recorded::Recorded;

/// Maximum number of executions of one run on one instance; `bolt run` starts one.
const MAX_OF_INSTANCE: usize = 1000;
/// Number of instances that a line names before the rest is counted.
const NAMED: usize = 12;

/// Executions of a run, as the instances that were asked know them.
pub(super) struct Found {
    /// The executions: at least one, unless the run is recorded.
    pub(super) executions: Vec<FoundExecution>,
    /// Instances that answered and have no execution of the run that the caller may see.
    pub(super) without: Vec<InstanceId>,
    /// Errors of the instances that did not answer.
    pub(super) failed: Vec<Error>,
    /// Record of the run, if there is one.
    pub(super) recorded: Option<Recorded>,
}

/// Finds the executions of `run`: at least one, unless it is recorded.
pub(super) async fn find(context: &Context, select: &SelectArgs, run: &RunId) -> Result<Found, Failure> {
    let recorded = Recorded::find(context, run).await?;
    let instances = to_ask(context, select, recorded.as_ref()).await?;
    let answers = ask(&instances, &context.identity()?, async |agent| search(agent, run).await).await;
    match (answers.report(), &recorded) {
        (Err(failure), Some(_)) => errln!("bolt: {}", failure.message),
        (Err(failure), None) => return Err(failure),
        (Ok(_), _) => {}
    }
    let Answers { given, failed } = answers;
    let asked = given.len() + failed.len();
    let is_without = |(_, found): &&(Instance, Vec<Execution>)| found.is_empty();
    let without = given.iter().filter(is_without).map(|(instance, _)| instance.id().clone()).collect();
    let executions: Vec<FoundExecution> =
        given.into_iter().flat_map(|(instance, found)| found.into_iter().map(move |e| (instance.clone(), e))).collect();
    if executions.is_empty() && recorded.is_none() {
        return Err(nowhere(run, asked, &failed));
    }
    Ok(Found { executions, without, failed, recorded })
}

/// Returns the instances that may have executions of a run.
async fn to_ask(context: &Context, select: &SelectArgs, recorded: Option<&Recorded>) -> Result<Vec<Instance>, Failure> {
    match recorded {
        Some(recorded) => recorded.instances(context, select).await,
        None => context.select(select).await,
    }
}

/// Describes the instances that have no execution of a run, of `asked`, where no record says whether it was for them.
pub(super) fn describe_without(without: &[InstanceId], asked: usize) -> Option<String> {
    let ids: Vec<&str> = without.iter().map(InstanceId::as_str).collect();
    (!ids.is_empty()).then(|| {
        format!("none on {} of {}: {}", ids.len(), show::counted(asked, "instance"), show::listed(&ids, NAMED))
    })
}

/// Explains [`describe_without`].
pub(super) const WHY_WITHOUT: &str =
    "an instance without an execution was not in the run, or the run stopped before it: no record says which";

async fn search(agent: &Agent, run: &RunId) -> Result<Vec<Execution>, Error> {
    let query = ExecutionQuery { run: Some(run.clone()), limit: Some(MAX_PAGE), ..ExecutionQuery::default() };
    Ok(agent.newest(&query, MAX_OF_INSTANCE).await?.executions)
}

fn nowhere(run: &RunId, asked: usize, failed: &[Error]) -> Failure {
    let answered = show::counted(asked - failed.len(), "instance");
    let mut message = format!("{answered} answered, and none has an execution of run {run} that you may see");
    for line in grouped(failed).iter().take(20) {
        message.push_str(&format!("\n  not reached: {line}"));
    }
    let exit = if failed.is_empty() { Exit::Refused } else { Exit::Failed };
    Failure::new(exit, message).hint("`bolt ps` lists executions; `bolt ps --wide` shows their runs")
}

/// Returns a line for each state: how many executions are in it, and on which instances.
pub(super) fn by_state(found: &[FoundExecution]) -> Vec<String> {
    let mut groups: BTreeMap<(usize, String), Vec<&str>> = BTreeMap::new();
    for (instance, execution) in found {
        let place = State::ALL.iter().position(|state| *state == execution.state).unwrap_or(usize::MAX);
        groups.entry((place, ps::state(execution))).or_default().push(instance.id().as_str());
    }
    let line = |((_, state), ids): (&(usize, String), &Vec<&str>)| {
        format!("{} {state}: {}", ids.len(), show::listed(&show::tallied(ids), NAMED))
    };
    groups.iter().map(line).collect()
}

/// Returns the exit code of `bolt run` for executions that were waited for.
pub(super) fn exit(found: &[FoundExecution], failed: &[Error]) -> Exit {
    let succeeded = found.iter().all(|(_, execution)| execution.state == State::Succeeded);
    if succeeded && failed.is_empty() { Exit::Success } else { Exit::Failed }
}
