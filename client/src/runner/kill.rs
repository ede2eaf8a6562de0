//! Executions that have not ended: finding them on an instance, and killing one.

use std::time::Duration;

use packs_schema::agent::execution::State;
use packs_schema::agent::rest::{Code, Execution, MAX_PAGE};
use packs_schema::base::name::ExecutionId;

use crate::connection::{Agent, ExecutionQuery};
use crate::error::{Error, Kind};

/// Time to wait for an execution to end after the kill.
const PATIENCE: Duration = Duration::from_secs(30);
/// Maximum number of executions that are found on one instance.
const MAX_OF_INSTANCE: usize = 10_000;

/// Returns the executions that match `query` and are queued or running.
pub async fn unended(agent: &Agent, query: &ExecutionQuery) -> Result<Vec<Execution>, Error> {
    let mut found: Vec<Execution> = Vec::new();
    for state in [State::Queued, State::Running] {
        let query = ExecutionQuery { state: Some(state), limit: Some(MAX_PAGE), ..query.clone() };
        // An execution that starts between the two requests is in both answers.
        let more = agent.newest(&query, MAX_OF_INSTANCE).await?.executions;
        found.retain(|known| more.iter().all(|other| other.id != known.id));
        found.extend(more);
    }
    Ok(found)
}

/// Kills an execution and waits for its end. True if it had ended before.
pub async fn kill(agent: &Agent, id: &ExecutionId, note: Option<&str>) -> Result<(Execution, bool), Error> {
    match agent.kill(id, note).await {
        Ok(now) if now.state.is_terminal() => Ok((now, false)),
        Ok(_) => Ok((agent.execution(id, Some(PATIENCE)).await?, false)),
        Err(error) if matches!(&error.kind, Kind::Problem(p) if p.code == Code::AlreadyEnded) => {
            Ok((agent.execution(id, None).await?, true))
        }
        Err(error) => Err(error),
    }
}
