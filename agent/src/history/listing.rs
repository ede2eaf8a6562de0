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
//! A range costs as much as some rows, so where many would be merged and few rows are in a range that contains them all, this one
//! is read, and the rows of other actions are discarded.
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
/// Maximum number of actions and callers whose executions that have succeeded are read as a range for each.
const MAX_CALLERS: usize = 128;
/// Number of actions up to which each has a range.
const FEW_ACTIONS: usize = 4;
/// Number of rows of a range that can be read and discarded in the time that another range takes.
const ROWS_FOR_A_RANGE: u32 = 4;

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
    let found = find_ranges(connection, chosen.as_deref(), &shown, principal, wanted)?;
    let found = found.filter(|found| found.ranges.len() <= MAX_STREAMS).unwrap_or_else(|| {
        let action = chosen.as_deref().filter(|chosen| chosen.len() == 1).map(|chosen| chosen[0]);
        Ranges { ranges: vec![Range::of_action(action)], are_exact: false }
    });
    let is_exact = found.are_exact && run.is_none();
    Ok(Some(Plan { ranges: found.ranges, check: (!is_exact).then_some(check) }))
}

/// Ranges in which all wanted executions are.
struct Ranges {
    ranges: Vec<Range>,
    /// True if no others are in them.
    are_exact: bool,
}

impl Ranges {
    fn exact(ranges: Vec<Range>) -> Ranges {
        Ranges { ranges, are_exact: true }
    }

    fn extend(&mut self, other: Ranges) {
        self.ranges.extend(other.ranges);
        self.are_exact &= other.are_exact;
    }
}

/// Returns ranges in which the wanted executions are, and few others; `None` if there are too many ranges.
fn find_ranges(
    connection: &Connection,
    chosen: Option<&[i64]>,
    shown: &[i64],
    principal: Option<i64>,
    wanted: &Filter,
) -> Result<Option<Ranges>, HistoryError> {
    let each: Vec<Option<i64>> = chosen.map_or_else(|| vec![None], |ids| ids.iter().copied().map(Some).collect());
    if each.len() > MAX_STREAMS {
        return Ok(None);
    }
    // Of executions that have not ended, which are few, the table decides.
    let live = |state: State| Ranges { ranges: vec![Range::live(state_number(state))], are_exact: false };
    let of_actions = || each.iter().map(|action| Range::of_action(*action)).collect();
    Ok(Some(match (wanted.state, principal) {
        (Some(state), _) if !state.is_terminal() => live(state),
        (Some(State::Succeeded), Some(principal)) => {
            // A range for each action, also where all are visible.
            let actions = chosen.unwrap_or(shown);
            Ranges::exact(actions.iter().map(|action| Range::succeeded(*action, principal)).collect())
        }
        (Some(State::Succeeded), None) => match chosen.map(|chosen| succeeded(connection, chosen)).transpose()? {
            Some(Some(ranges)) => Ranges::exact(ranges),
            // Nearly all have succeeded.
            _ => Ranges { ranges: of_actions(), are_exact: false },
        },
        (Some(state), _) => unsuccessful(connection, state, &each, principal, wanted)?,
        (None, Some(principal)) => {
            let actions = chosen.unwrap_or(shown);
            let mut found = Ranges::exact(actions.iter().map(|action| Range::succeeded(*action, principal)).collect());
            if !wanted.ended {
                [State::Queued, State::Running].map(live).into_iter().for_each(|ranges| found.extend(ranges));
            }
            for state in State::ALL.into_iter().filter(|s| s.is_terminal() && *s != State::Succeeded) {
                found.extend(unsuccessful(connection, state, &each, Some(principal), wanted)?);
            }
            found
        }
        (None, None) => Ranges { ranges: of_actions(), are_exact: !wanted.ended },
    }))
}

/// Returns the ranges of executions of these actions that have succeeded; `None` if there are too many callers.
fn succeeded(connection: &Connection, actions: &[i64]) -> Result<Option<Vec<Range>>, HistoryError> {
    let mut ranges = Vec::new();
    for action in actions {
        let limit = MAX_CALLERS.saturating_sub(ranges.len());
        let principals = stream::principals_of_succeeded(connection, *action, limit)?;
        if principals.len() > limit {
            return Ok(None);
        }
        ranges.extend(principals.into_iter().map(|principal| Range::succeeded(*action, principal)));
    }
    Ok(Some(ranges))
}

/// Returns the ranges of executions in a state that is terminal and not `succeeded`: of each action, or of all if there are so few in
/// this state that reading those of other actions costs less than a range for each.
fn unsuccessful(
    connection: &Connection,
    state: State,
    each: &[Option<i64>],
    principal: Option<i64>,
    wanted: &Filter,
) -> Result<Ranges, HistoryError> {
    let state = state_number(state);
    if each.len() > FEW_ACTIONS {
        let of_all = Range::unsuccessful(state, None, principal);
        let few = u32::try_from(each.len()).unwrap_or(u32::MAX).saturating_mul(ROWS_FOR_A_RANGE);
        match stream::count_below(connection, &of_all, wanted, few)? {
            Some(0) => return Ok(Ranges::exact(Vec::new())),
            Some(_) => return Ok(Ranges { ranges: vec![of_all], are_exact: false }),
            None => {}
        }
    }
    Ok(Ranges::exact(each.iter().map(|action| Range::unsuccessful(state, *action, principal)).collect()))
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
