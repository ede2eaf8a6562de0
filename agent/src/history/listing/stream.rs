//! Ranges of indexes in the order of a page.
//!
//! | fixed | index |
//! |---|---|
//! | nothing; action; run | `executions_created`, `_action`, `_run` |
//! | queued or running | `executions_state`: few |
//! | succeeded, action and principal | `executions_succeeded` |
//! | another terminal state, and action or principal or both | `executions_state`, `executions_unsuccessful_…` |
//!
//! Nearly all executions have succeeded, so only one index has them by state. All of a caller are the union of those that have
//! succeeded, of each action, and the others.

use std::collections::VecDeque;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use super::super::HistoryError;
use super::super::compact::Compact;
use super::super::query::Filter;

/// Position of an execution in the order of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) created_at_ms: i64,
    pub(super) seq: i64,
}

/// Range of an index.
#[derive(Debug, Clone)]
pub(in crate::history) struct Range {
    index: &'static str,
    /// Columns that are fixed, in the order of the index.
    columns: &'static [&'static str],
    values: Vec<Value>,
    /// Condition of a partial index.
    condition: &'static str,
}

impl Range {
    /// Executions of an action, or all.
    pub(super) fn of_action(action: Option<i64>) -> Range {
        match action {
            Some(action) => Range::new("executions_action", &["action"], &[action], ""),
            None => Range::new("executions_created", &[], &[], ""),
        }
    }

    /// Executions of a run.
    pub(super) fn of_run(run: &Compact) -> Range {
        let values = vec![run.value()];
        Range { values, ..Range::new("executions_run", &["run"], &[], " AND run IS NOT NULL") }
    }

    /// Executions that are queued, or running.
    pub(super) fn live(state: i64) -> Range {
        Range::new("executions_state", &["state"], &[state], " AND state <> 2")
    }

    /// Executions of an action by a caller that have succeeded.
    pub(super) fn succeeded(action: i64, principal: i64) -> Range {
        Range::new("executions_succeeded", &["action", "principal"], &[action, principal], " AND state = 2")
    }

    /// Executions in a terminal state that is not `succeeded`, of an action, a caller, or both.
    pub(super) fn unsuccessful(state: i64, action: Option<i64>, principal: Option<i64>) -> Range {
        const ENDED: &str = " AND state > 2";
        match (action, principal) {
            (None, None) => Range::live(state),
            (Some(action), None) => {
                Range::new("executions_unsuccessful_action", &["state", "action"], &[state, action], ENDED)
            }
            (None, Some(principal)) => {
                let (columns, values) = (&["state", "principal"], &[state, principal]);
                Range::new("executions_unsuccessful_principal", columns, values, ENDED)
            }
            (Some(action), Some(principal)) => {
                let (columns, values) = (&["state", "action", "principal"], &[state, action, principal]);
                Range::new("executions_unsuccessful_action_principal", columns, values, ENDED)
            }
        }
    }

    fn new(index: &'static str, columns: &'static [&'static str], values: &[i64], condition: &'static str) -> Range {
        Range { index, columns, values: values.iter().copied().map(Value::Integer).collect(), condition }
    }

    /// Returns the statement that reads the range from a position on: fixed columns, lowest time, position, number of rows.
    pub(in crate::history) fn sql(&self) -> String {
        let fixed: String =
            self.columns.iter().enumerate().map(|(at, column)| format!("{column} = ?{} AND ", at + 1)).collect();
        let n = self.columns.len();
        format!(
            "SELECT created_at_ms, seq FROM executions INDEXED BY {} WHERE {fixed}created_at_ms >= ?{}
                AND (created_at_ms, seq) < (?{}, ?{}){} ORDER BY created_at_ms DESC, seq DESC LIMIT ?{}",
            self.index,
            n + 1,
            n + 2,
            n + 3,
            self.condition,
            n + 4
        )
    }
}

/// Numbers of rows read at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch {
    first: u32,
    most: u32,
}

impl Batch {
    /// Sizes the batches for a page of `limit` executions from `streams` streams.
    pub(super) fn of(limit: u32, streams: usize) -> Batch {
        let most = limit.saturating_add(1);
        let share = most / u32::try_from(streams).unwrap_or(u32::MAX).max(1);
        Batch { first: share.saturating_add(2).min(most), most }
    }
}

/// Entries of a range, newest first.
pub(super) struct Stream {
    range: Range,
    sql: String,
    lowest_ms: i64,
    /// Entries read and not returned yet.
    read: VecDeque<Position>,
    /// Position to continue after; `None` once all are read.
    after: Option<Position>,
    size: u32,
    most: u32,
}

impl Stream {
    pub(super) fn new(range: Range, wanted: &Filter, batch: Batch) -> Stream {
        let integer = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let until = wanted.until_ms.map(|until| Position { created_at_ms: integer(until), seq: i64::MIN });
        let cursor = wanted.after.as_ref();
        let cursor = cursor.map(|after| Position { created_at_ms: integer(after.created_at_ms), seq: after.seq });
        let end = Position { created_at_ms: i64::MAX, seq: i64::MAX };
        let after = [until, cursor].into_iter().flatten().min().unwrap_or(end);
        Stream {
            sql: range.sql(),
            range,
            lowest_ms: wanted.since_ms.map_or(i64::MIN, integer),
            read: VecDeque::new(),
            after: Some(after),
            size: batch.first,
            most: batch.most,
        }
    }

    /// Returns the next entry.
    pub(super) fn next(&mut self, connection: &Connection) -> Result<Option<Position>, HistoryError> {
        if self.read.is_empty()
            && let Some(after) = self.after
        {
            self.fill(connection, after)?;
        }
        Ok(self.read.pop_front())
    }

    fn fill(&mut self, connection: &Connection, after: Position) -> Result<(), HistoryError> {
        let bounds = [self.lowest_ms, after.created_at_ms, after.seq, self.size.into()];
        let values = self.range.values.iter().cloned().chain(bounds.map(Value::Integer));
        let mut statement = connection.prepare_cached(&self.sql)?;
        let mut rows = statement.query(params_from_iter(values))?;
        while let Some(row) = rows.next()? {
            self.read.push_back(Position { created_at_ms: row.get(0)?, seq: row.get(1)? });
        }
        let is_last = self.read.len() < self.size as usize;
        self.after = self.read.back().copied().filter(|_| !is_last);
        self.size = self.size.saturating_mul(2).min(self.most);
        Ok(())
    }
}

/// Returns how many entries of a range a listing has left, if fewer than `limit`.
pub(super) fn count_below(
    connection: &Connection,
    range: &Range,
    wanted: &Filter,
    limit: u32,
) -> Result<Option<usize>, HistoryError> {
    let mut stream = Stream::new(range.clone(), wanted, Batch { first: limit, most: limit });
    let first = stream.next(connection)?;
    Ok(stream.after.is_none().then_some(stream.read.len() + usize::from(first.is_some())))
}

/// True if a run has fewer than `limit` executions.
pub(super) fn has_fewer(connection: &Connection, run: &Compact, limit: u32) -> Result<bool, HistoryError> {
    let mut statement = connection.prepare_cached(
        "SELECT count(*) FROM (SELECT 1 FROM executions INDEXED BY executions_run WHERE run = ?1 LIMIT ?2)",
    )?;
    Ok(statement.query_row(params![run.value(), limit], |row| row.get::<_, u32>(0))? < limit)
}

/// Returns the callers for whom an action has succeeded, at most one more than `limit`: one step of the index for each.
pub(super) fn principals_of_succeeded(
    connection: &Connection,
    action: i64,
    limit: usize,
) -> Result<Vec<i64>, HistoryError> {
    let mut statement = connection.prepare_cached(
        "SELECT principal FROM executions INDEXED BY executions_succeeded
         WHERE state = 2 AND action = ?1 AND principal > ?2 ORDER BY principal LIMIT 1",
    )?;
    let mut found = Vec::new();
    let mut last = i64::MIN;
    while found.len() <= limit
        && let Some(next) = statement.query_row(params![action, last], |row| row.get(0)).optional()?
    {
        found.push(next);
        last = next;
    }
    Ok(found)
}
