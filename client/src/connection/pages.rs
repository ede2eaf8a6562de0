//! Lists executions over all pages, within bounds.

use std::collections::HashSet;

use packs_schema::agent::rest::{Code, Execution, Page};
use packs_schema::base::name::ExecutionId;

use super::{Agent, ExecutionQuery, Mismatch};
use crate::error::{Error, Kind};

/// Maximum number of executions that are read beyond those that were asked for.
const MOST_PASSED_OVER: usize = 100_000;

/// Newest matching executions, over all pages.
#[derive(Debug, Default)]
pub struct Newest {
    /// Executions, newest first.
    pub executions: Vec<Execution>,
    /// True if there are more.
    pub more: bool,
    /// True if the history was replaced between two pages and the list was restarted.
    pub restarted: bool,
}

impl Agent {
    /// Returns the newest matching executions of an agent, at most `most`. Fails if the agent's pages do not end.
    pub async fn newest(&self, query: &ExecutionQuery, most: usize) -> Result<Newest, Error> {
        let only_ended = query.ended;
        let mut query = query.clone();
        let (mut found, mut seen) = (Newest::default(), HashSet::new());
        loop {
            let page = match self.executions(&query).await {
                Ok(page) => page,
                Err(error) => match &error.kind {
                    Kind::Problem(p) if p.code == Code::CursorGone && query.cursor.is_some() && !found.restarted => {
                        query.cursor = None;
                        (found, seen) = (Newest { restarted: true, ..Newest::default() }, HashSet::new());
                        continue;
                    }
                    // Agents of earlier versions do not know this filter: filter their answers here.
                    Kind::Problem(p) if p.code == Code::BadRequest && query.ended => {
                        query.ended = false;
                        continue;
                    }
                    _ => return Err(error),
                },
            };
            check(&page, &query, &mut seen, most).map_err(|kind| self.error(kind))?;
            found.executions.extend(page.items.into_iter().filter(|e| !only_ended || e.state.is_terminal()));
            match page.next {
                Some(cursor) if found.executions.len() < most => query.cursor = Some(cursor),
                next => {
                    found.more = next.is_some() || found.executions.len() > most;
                    found.executions.truncate(most);
                    return Ok(found);
                }
            }
        }
    }
}

/// Fails if a page makes no progress: a list that repeats itself or does not end must not be read for ever.
fn check(
    page: &Page<Execution>,
    query: &ExecutionQuery,
    seen: &mut HashSet<ExecutionId>,
    most: usize,
) -> Result<(), Kind> {
    for execution in &page.items {
        if !seen.insert(execution.id.clone()) {
            return Err(Mismatch::Twice { what: "execution", name: execution.id.to_string() }.into());
        }
    }
    if seen.len() > most.saturating_add(MOST_PASSED_OVER) {
        return Err(Kind::Protocol(format!("its list of executions does not end: {} were read", seen.len())));
    }
    match &page.next {
        Some(_) if page.items.is_empty() => Err(Kind::Protocol("an empty page announces another one".to_owned())),
        Some(next) if query.cursor.as_ref() == Some(next) => {
            Err(Kind::Protocol("a page announces itself as the next one".to_owned()))
        }
        _ => Ok(()),
    }
}
