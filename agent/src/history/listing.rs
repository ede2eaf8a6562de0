//! Pages of executions, newest first, for any combination of filters.
//!
//! ```text
//!  filter ─▶ streams, one for each range of an index ─▶ merged by time ─▶ rows
//! ```
//!
//! A stream reads one range of one index, in which every entry matches and the order is that of the page, so that a page costs as
//! many reads as it has rows, however many others there are. What an action, caller and state have in common is in such a
//! range (see `stream`); a filter without one is the union of several, which are merged: an action of a caller in any state, or
//! what is visible to a caller who may not see all.
//!
//! Few filters have no such union, such as a run with anything else. Their rows are read one by one. After [`MAX_DISCARDED`] rows that
//! did not match, the page ends with what it has, and the cursor of the next one. It is never empty then, because clients of
//! earlier versions take an empty page with a cursor for an error.

mod stream;

use std::collections::BinaryHeap;

use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Execution;
use packs_schema::base::name::{ActionRef, InstanceId};
use rusqlite::Connection;

use super::HistoryError;
use super::compact::Compact;
use super::query::{Cursor, Filter, actions, name_id};
use super::row::{self, SELECT, state_number};
pub(super) use stream::Range;
use stream::{Position, Stream};

/// Maximum number of rows that are looked at and not listed before other readers have their turn.
const MAX_DISCARDED: u32 = 1_000;
/// Number of executions on one instance from which on a run is not small: its other filters are read from their streams.
const SMALL_RUN: u32 = 2_000;
/// Maximum number of streams that are merged.
const MAX_STREAMS: usize = 512;

/// Part of a listing.
pub(super) struct Part {
    pub(super) items: Vec<Execution>,
    /// Position to continue after; `None` at the end.
    pub(super) next: Option<Cursor>,
}

/// Streams of a listing.
pub(super) struct Plan {
    pub(super) ranges: Vec<Range>,
    /// Filter for what the ranges do not decide.
    check: Option<Check>,
}

/// Filter of rows, by columns of the table.
struct Check {
    /// Actions, unless all.
    actions: Option<Vec<i64>>,
    principal: Option<i64>,
    state: Option<i64>,
    ended: bool,
    run: Option<Compact>,
}

/// Lists executions whose actions are `visible`, until the page is full, all have been seen, or too many rows were looked at.
pub(super) fn list(
    connection: &Connection,
    instance: &InstanceId,
    wanted: &Filter,
    visible: &dyn Fn(&ActionRef) -> bool,
) -> Result<Part, HistoryError> {
    // A snapshot for all streams: an execution that changes its state is in exactly one of them.
    let transaction = connection.unchecked_transaction()?;
    let nothing = Part { items: Vec::new(), next: None };
    let Some(plan) = plan(&transaction, wanted, visible)? else { return Ok(nothing) };
    let limit = usize::try_from(wanted.limit).unwrap_or(usize::MAX);
    let mut merged = Merge::open(&transaction, plan.ranges, wanted)?;
    let mut read = transaction.prepare_cached(&format!("{SELECT} WHERE e.seq = ?1"))?;
    let (mut items, mut listed, mut discarded, mut last) = (Vec::new(), 0, 0, None);
    while let Some(position) = merged.next()? {
        if listed == limit || discarded == MAX_DISCARDED {
            return Ok(Part { items, next: last.map(cursor) });
        }
        last = Some(position);
        if let Some(check) = &plan.check
            && !check.passes(&transaction, position)?
        {
            discarded += 1;
            continue;
        }
        listed += 1;
        match read.query_row([position.seq], |row| row::read(row, instance)) {
            Ok(execution) => items.push(execution),
            Err(error @ rusqlite::Error::SqliteFailure(..)) => return Err(error.into()),
            // A damaged row does not hide the others.
            Err(error) => tracing::error!(?last, %error, "an execution's row is damaged and not listed"),
        }
    }
    Ok(Part { items, next: None })
}

fn cursor(position: Position) -> Cursor {
    let created_at_ms = u64::try_from(position.created_at_ms).unwrap_or(0);
    Cursor { epoch: None, created_at_ms, seq: position.seq }
}

/// Chooses the streams of a listing; `None` when nothing can match.
pub(super) fn plan(
    connection: &Connection,
    wanted: &Filter,
    visible: &dyn Fn(&ActionRef) -> bool,
) -> Result<Option<Plan>, HistoryError> {
    if wanted.ended && wanted.state.is_some_and(|state| !state.is_terminal()) {
        return Ok(None);
    }
    let all = actions(connection)?;
    let shown: Vec<i64> = all.iter().filter(|(_, name)| visible(name)).map(|(id, _)| *id).collect();
    // `None`: all of them.
    let mut chosen = (shown.len() < all.len()).then_some(shown.clone());
    if let Some(action) = &wanted.action {
        let id = all.iter().find(|(_, name)| name == action).map(|(id, _)| *id);
        chosen = Some(id.filter(|id| shown.contains(id)).into_iter().collect());
    }
    if shown.is_empty() || chosen.as_ref().is_some_and(Vec::is_empty) {
        return Ok(None);
    }
    let principal = match &wanted.principal {
        Some(principal) => match name_id(connection, principal.as_str())? {
            Some(id) => Some(id),
            None => return Ok(None),
        },
        None => None,
    };
    let run = wanted.run.as_ref().map(|run| Compact(run.to_string()));
    let check = Check {
        actions: chosen.clone(),
        principal,
        state: wanted.state.map(state_number),
        ended: wanted.ended,
        run: run.clone(),
    };
    let is_any = chosen.is_none() && principal.is_none() && wanted.state.is_none() && !wanted.ended;
    if let Some(run) = &run
        && (is_any || stream::has_fewer(connection, run, SMALL_RUN)?)
    {
        return Ok(Some(Plan { ranges: vec![Range::of_run(run)], check: (!is_any).then_some(check) }));
    }
    let ranges = exact(connection, chosen.as_deref(), &shown, principal, wanted)?;
    let ranges = ranges.filter(|ranges| ranges.len() <= MAX_STREAMS);
    let is_exact = ranges.as_ref().is_some_and(|ranges| {
        // Of executions that have not ended, and of `ended`, the table decides; there are few that do not pass.
        run.is_none() && !ranges.iter().any(Range::is_live) && !(wanted.ended && wanted.state.is_none())
    });
    let ranges = ranges.unwrap_or_else(|| {
        let action = chosen.as_deref().filter(|chosen| chosen.len() == 1).map(|chosen| chosen[0]);
        vec![Range::of_action(action)]
    });
    Ok(Some(Plan { ranges, check: (!is_exact).then_some(check) }))
}

/// Returns the ranges in which exactly the wanted executions are; `None` if there are too many of them.
fn exact(
    connection: &Connection,
    chosen: Option<&[i64]>,
    shown: &[i64],
    principal: Option<i64>,
    wanted: &Filter,
) -> Result<Option<Vec<Range>>, HistoryError> {
    let each: Vec<Option<i64>> = chosen.map_or_else(|| vec![None], |ids| ids.iter().copied().map(Some).collect());
    if each.len() > MAX_STREAMS {
        return Ok(None);
    }
    let live = |state: State| Range::live(state_number(state));
    let mut ranges = Vec::new();
    match (wanted.state, principal) {
        (Some(state), _) if !state.is_terminal() => ranges.push(live(state)),
        (Some(State::Succeeded), Some(principal)) => {
            // A range for each action, also where all are visible.
            let actions = chosen.unwrap_or(shown);
            ranges.extend(actions.iter().map(|action| Range::succeeded(*action, principal)));
        }
        (Some(State::Succeeded), None) => {
            let Some(chosen) = chosen else { return Ok(None) };
            for action in chosen {
                for principal in stream::principals_of_succeeded(connection, *action, MAX_STREAMS)? {
                    ranges.push(Range::succeeded(*action, principal));
                }
            }
        }
        (Some(state), _) => {
            ranges.extend(each.iter().map(|action| Range::unsuccessful(state_number(state), *action, principal)));
        }
        (None, Some(principal)) => {
            if !wanted.ended {
                ranges.extend([State::Queued, State::Running].map(live));
            }
            ranges.extend(chosen.unwrap_or(shown).iter().map(|action| Range::succeeded(*action, principal)));
            for state in State::ALL.into_iter().filter(|s| s.is_terminal() && *s != State::Succeeded) {
                ranges.extend(
                    each.iter().map(|action| Range::unsuccessful(state_number(state), *action, Some(principal))),
                );
            }
        }
        (None, None) => ranges.extend(each.iter().map(|action| Range::of_action(*action))),
    }
    Ok(Some(ranges))
}

impl Check {
    fn passes(&self, connection: &Connection, position: Position) -> rusqlite::Result<bool> {
        let mut statement =
            connection.prepare_cached("SELECT action, principal, state, run FROM executions WHERE seq = ?1")?;
        statement.query_row([position.seq], |row| {
            let (action, principal, state): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let run: Option<Compact> = row.get(3)?;
            Ok(self.actions.as_ref().is_none_or(|actions| actions.contains(&action))
                && self.principal.is_none_or(|wanted| wanted == principal)
                && self.state.is_none_or(|wanted| wanted == state)
                && (!self.ended || state > state_number(State::Running))
                && self.run.as_ref().is_none_or(|wanted| Some(wanted) == run.as_ref()))
        })
    }
}

/// Streams merged by time, newest first.
struct Merge<'a> {
    connection: &'a Connection,
    streams: Vec<Stream>,
    /// First position of each stream that has one.
    heads: BinaryHeap<(Position, usize)>,
}

impl<'a> Merge<'a> {
    fn open(connection: &'a Connection, ranges: Vec<Range>, wanted: &Filter) -> Result<Merge<'a>, HistoryError> {
        let batch = stream::Batch::of(wanted.limit, ranges.len());
        let mut streams: Vec<Stream> = ranges.into_iter().map(|range| Stream::new(range, wanted, batch)).collect();
        let mut heads = BinaryHeap::with_capacity(streams.len());
        for (at, stream) in streams.iter_mut().enumerate() {
            heads.extend(stream.next(connection)?.map(|position| (position, at)));
        }
        Ok(Merge { connection, streams, heads })
    }

    fn next(&mut self) -> Result<Option<Position>, HistoryError> {
        let Some((position, at)) = self.heads.pop() else { return Ok(None) };
        self.heads.extend(self.streams[at].next(self.connection)?.map(|position| (position, at)));
        Ok(Some(position))
    }
}
