//! Finds the instance that has an execution: asks all, since there is no central list.

use std::str::FromStr;

use packs_schema::agent::rest::{Code, Execution};
use packs_schema::base::name::{ExecutionId, RunId};

use super::context::{Answers, Context, grouped, none_answered};
use super::failure::{Exit, Failure};
use super::select::SelectArgs;
use crate::connection::{Agent, ExecutionQuery};
use crate::error::{Error, Kind};
use crate::inventory::Instance;
use crate::show;

/// Number of characters of an id in tables.
pub(super) const SHORT: usize = 12;
/// Minimum number of characters of an abbreviated id.
const SHORTEST: usize = 6;
/// Number of pages of an instance's history that are searched for an abbreviated id.
const PAGES: usize = 4;

/// Execution id, or its last characters.
#[derive(Debug, Clone)]
pub(super) struct IdArg(String);

impl FromStr for IdArg {
    type Err = String;
    fn from_str(text: &str) -> Result<IdArg, String> {
        let text = text.to_ascii_lowercase();
        let hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'));
        if hex && (SHORTEST..=36).contains(&text.len()) {
            return Ok(IdArg(text));
        }
        let problem = "an execution id is a UUID, or at least the last six characters of one";
        if text.starts_with("r-") {
            return Err(format!(
                "{problem}; this is the id of a run: give it with --run, as in `bolt ps --run {text}`"
            ));
        }
        Err(problem.to_owned())
    }
}

impl std::fmt::Display for IdArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl IdArg {
    /// True if the id of an execution is this one, or ends in it.
    pub(super) fn fits(&self, id: &ExecutionId) -> bool {
        id.as_str().ends_with(&self.0)
    }

    /// Returns the id, if it is not abbreviated.
    pub(super) fn whole(&self) -> Option<ExecutionId> {
        ExecutionId::new(self.0.as_str()).ok()
    }
}

/// Subject of a command: one execution, or all executions of a run.
#[derive(Debug, Clone)]
pub(super) enum Which {
    /// A single execution.
    Execution(IdArg),
    /// All executions of a run.
    Run(RunId),
}

impl FromStr for Which {
    type Err = String;
    /// Reads a run id as `bolt run` makes them, with `r-` before it, or an execution id.
    fn from_str(text: &str) -> Result<Which, String> {
        if text.starts_with("r-") {
            return RunId::new(text).map(Which::Run).map_err(|e| e.to_string());
        }
        text.parse().map(Which::Execution)
    }
}

impl Which {
    /// Returns the positional argument, or what `--run` gives in its place: clap has seen to it that there is one.
    pub(super) fn of(which: Option<&Which>, run: Option<&RunId>) -> Which {
        let run = run.cloned().map(Which::Run);
        which.cloned().or(run).expect("clap demands one of the two")
    }
}

/// Returns the end of an id, as tables show it.
pub(super) fn short(id: &ExecutionId) -> &str {
    let id = id.as_str();
    &id[id.len() - SHORT..]
}

/// Execution with its instance.
pub(super) type FoundExecution = (Instance, Execution);

/// Finds the execution with this id. Several instances may claim to have it: ids are unique, so all but one of them are
/// wrong, but only the user can know which.
pub(super) async fn find(context: &Context, select: &SelectArgs, id: &IdArg) -> Result<Vec<FoundExecution>, Failure> {
    let Answers { given, failed } = context.ask(select, async |agent| search(agent, id).await).await?;
    let asked = given.len() + failed.len();
    let found: Vec<FoundExecution> =
        given.into_iter().flat_map(|(instance, found)| found.into_iter().map(move |e| (instance.clone(), e))).collect();
    match found.first() {
        None => Err(nowhere(id, asked, &failed)),
        Some((_, first)) if found.iter().any(|(_, other)| other.id != first.id) => Err(ambiguous(id, &found)),
        Some(_) => Ok(found),
    }
}

/// Finds the execution on exactly one instance.
pub(super) async fn find_one(context: &Context, select: &SelectArgs, id: &IdArg) -> Result<FoundExecution, Failure> {
    let mut found = find(context, select, id).await?;
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        (None, _) => Err(nowhere(id, 0, &[])),
        (Some(one), false) => {
            found.push(one);
            let instances: Vec<&Instance> = found.iter().map(|(instance, _)| instance).collect();
            Err(Failure::new(Exit::Usage, several(&found[0].1.id, &instances)).hint("choose one of them with --on"))
        }
    }
}

/// Warns that more than one instance claims the execution.
pub(super) fn several(id: &ExecutionId, instances: &[&Instance]) -> String {
    let ids: Vec<&str> = instances.iter().map(|instance| instance.id().as_str()).collect();
    let count = show::counted(ids.len(), "instance");
    format!("{count} claim to have execution {id}, and only one can have it: {}", show::listed(&ids, 20))
}

/// Returns the failure for an abbreviated id of several executions. One instance must not push the others out of the list.
fn ambiguous(id: &IdArg, found: &[FoundExecution]) -> Failure {
    let mut by_instance: Vec<(&Instance, &ExecutionId, usize)> = Vec::new();
    for (instance, execution) in found {
        match by_instance.last_mut() {
            Some((last, _, count)) if last.id() == instance.id() => *count += 1,
            _ => by_instance.push((instance, &execution.id, 1)),
        }
    }
    let ids: Vec<String> = by_instance
        .iter()
        .map(|(instance, id, count)| match count - 1 {
            0 => format!("{id} on {}", instance.id()),
            more => format!("{id} and {more} more on {}", instance.id()),
        })
        .collect();
    Failure::new(Exit::Usage, format!("{} is the end of {}", id.0, show::listed(&ids, 20)))
        .hint("give more of the id, or the instance with --on")
}

/// Returns the failure for an execution that no instance has, as far as is known.
pub(super) fn nowhere(id: &IdArg, asked: usize, failed: &[Error]) -> Failure {
    if let Some(first) = failed.first() {
        if failed.len() == asked {
            return none_answered(failed, first);
        }
        let mut message = format!("no instance that answered has an execution {}; those that did not answer:", id.0);
        for line in grouped(failed).iter().take(20) {
            message.push_str(&format!("\n  {line}"));
        }
        return Failure::new(Exit::Failed, message).hint("it may be on one of them: try again when they answer");
    }
    let instances = show::counted(asked, "instance");
    let failure = if id.whole().is_some() {
        Failure::new(Exit::Refused, format!("{instances} asked, and none has an execution {} that you may see", id.0))
    } else {
        let searched = PAGES * packs_schema::agent::rest::MAX_PAGE as usize;
        let message = format!(
            "{instances} asked, and none has an execution that ends in {} among the newest {searched} that you may see",
            id.0
        );
        Failure::new(Exit::Refused, message)
    };
    failure.hint("`bolt ps` lists recent executions; with its whole id an execution is found however old it is")
}

/// Returns the execution `id` of this agent, if it has it.
pub(super) async fn claimed(agent: &Agent, id: &ExecutionId) -> Result<Option<Execution>, Error> {
    match agent.execution(id, None).await {
        Ok(execution) => Ok(Some(execution)),
        Err(error) => match &error.kind {
            Kind::Problem(problem) if problem.code == Code::UnknownExecution => Ok(None),
            _ => Err(error),
        },
    }
}

pub(super) async fn search(agent: &Agent, id: &IdArg) -> Result<Vec<Execution>, Error> {
    if let Some(whole) = id.whole() {
        return Ok(claimed(agent, &whole).await?.into_iter().collect());
    }
    let mut found = Vec::new();
    let mut query = ExecutionQuery { limit: Some(packs_schema::agent::rest::MAX_PAGE), ..ExecutionQuery::default() };
    for _ in 0..PAGES {
        let page = agent.executions(&query).await?;
        found.extend(page.items.into_iter().filter(|e| id.fits(&e.id)));
        match page.next {
            Some(next) => query.cursor = Some(next),
            None => break,
        }
    }
    Ok(found)
}
