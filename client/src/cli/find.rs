//! Where an execution is: asks the instances, since there is no central list.

use std::str::FromStr;

use packs_schema::name::ExecutionId;
use packs_schema::rest::{Code, Execution};

use super::context::{Answers, Context, nobody};
use super::failure::{Exit, Failure};
use super::select::SelectArgs;
use crate::connection::{Agent, ExecutionQuery};
use crate::error::{Error, Kind};
use crate::inventory::Instance;
use crate::show;

/// How many characters of an id tables show.
pub(super) const SHORT: usize = 12;
/// The fewest characters that may stand for an id.
const SHORTEST: usize = 6;
/// How many pages of an instance's history are searched for the end of an id.
const PAGES: usize = 4;

/// An execution id, or its last characters.
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
        Err("an execution id is a UUID, or at least the last six characters of one".to_owned())
    }
}

/// The end of an id: what tables show.
pub(super) fn short(id: &ExecutionId) -> &str {
    let id = id.as_str();
    &id[id.len() - SHORT..]
}

/// The one execution that `id` means, and where it is.
pub(super) async fn find(context: &Context, select: &SelectArgs, id: &IdArg) -> Result<(Instance, Execution), Failure> {
    let answers = context.ask(select, async |agent| search(agent, id).await).await?;
    let Answers { given, failed } = answers;
    let asked = given.len() + failed.len();
    let mut found: Vec<(Instance, Execution)> =
        given.into_iter().flat_map(|(instance, found)| found.into_iter().map(move |e| (instance.clone(), e))).collect();
    if found.len() > 1 {
        let ids: Vec<String> = found.iter().map(|(i, e)| format!("{} on {}", e.id, i.id())).collect();
        return Err(Failure::new(Exit::Usage, format!("{} is the end of {}", id.0, show::listed(&ids, 5)))
            .hint("give more of the id"));
    }
    if let Some(one) = found.pop() {
        return Ok(one);
    }
    if let Some(first) = failed.first() {
        if failed.len() == asked {
            return Err(nobody(&failed, first));
        }
        let mut message = format!("no instance that answered has an execution {}; those that did not answer:", id.0);
        for error in failed.iter().take(20) {
            message.push_str(&format!("\n  {error}"));
        }
        return Err(Failure::new(Exit::Failed, message).hint("it may be on one of them: try again when they answer"));
    }
    let (instances, whole) = (show::counted(asked, "instance"), ExecutionId::new(id.0.as_str()).is_ok());
    let failure = if whole {
        Failure::new(Exit::Refused, format!("{instances} asked, and none has an execution {} that you may see", id.0))
    } else {
        let searched = PAGES * packs_schema::rest::MAX_PAGE as usize;
        let message = format!(
            "{instances} asked, and none has an execution that ends in {} among the newest {searched} that you may see",
            id.0
        );
        Failure::new(Exit::Refused, message)
    };
    Err(failure.hint("`bolt ps` lists what runs and what ran lately; a whole id is found however old it is"))
}

async fn search(agent: &Agent, id: &IdArg) -> Result<Vec<Execution>, Error> {
    if let Ok(whole) = ExecutionId::new(id.0.as_str()) {
        return match agent.execution(&whole, None).await {
            Ok(execution) if execution.id == whole => Ok(vec![execution]),
            Ok(_) => Ok(Vec::new()),
            Err(error) => match &error.kind {
                Kind::Problem(problem) if problem.code == Code::UnknownExecution => Ok(Vec::new()),
                _ => Err(error),
            },
        };
    }
    let mut found = Vec::new();
    let mut query = ExecutionQuery { limit: Some(packs_schema::rest::MAX_PAGE), ..ExecutionQuery::default() };
    for _ in 0..PAGES {
        let page = agent.executions(&query).await?;
        found.extend(page.items.into_iter().filter(|e| e.id.as_str().ends_with(&id.0)));
        match page.next {
            Some(next) => query.cursor = Some(next),
            None => break,
        }
    }
    Ok(found)
}
