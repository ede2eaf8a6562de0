//! Executions over as many pages as it takes, and no more.

use std::collections::HashSet;

use packs_schema::agent::rest::{Code, Execution, Page};
use packs_schema::base::name::ExecutionId;

use super::{Agent, ExecutionQuery, Mismatch};
use crate::error::{Error, Kind};

/// Maximum number of executions that are looked at beyond those that were asked for.
const MOST_PASSED_OVER: usize = 100_000;

/// The newest executions that match, over all pages.
#[derive(Debug, Default)]
pub struct Newest {
    /// The executions, newest first.
    pub executions: Vec<Execution>,
    /// There are more.
    pub more: bool,
    /// The history was replaced between two pages, and the list was begun again.
    pub restarted: bool,
}

impl Agent {
    /// An agent's newest executions that match, at most `most`. An agent whose pages do not end is an error.
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
                    // An agent of an earlier version does not know the filter: its answers are filtered here.
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

/// Fails where a page does not lead on: a list that goes round, or on without end, would be read for ever.
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
        Some(_) if page.items.is_empty() => {
            Err(Kind::Protocol("a page without executions says that another one follows".to_owned()))
        }
        Some(next) if query.cursor.as_ref() == Some(next) => {
            Err(Kind::Protocol("a page says that it follows itself".to_owned()))
        }
        _ => Ok(()),
    }
}
