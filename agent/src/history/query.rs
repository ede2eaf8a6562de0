//! What is asked of the history. Every listing goes along an index, newest first.

use packs_schema::name::{ActionRef, ExecutionId, IdempotencyKey, InstanceId, Principal, RunId};
use packs_schema::rest::{Execution, StateChange};
use packs_schema::run::State;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use super::HistoryError;
use super::row::{self, SELECT, id_bytes, id_from, named, state_at, state_number};

/// Which executions a listing wants.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Of this action.
    pub action: Option<ActionRef>,
    /// In this state.
    pub state: Option<State>,
    /// Of this caller.
    pub principal: Option<Principal>,
    /// Of this fan-out.
    pub run: Option<RunId>,
    /// Accepted at or after.
    pub since_ms: Option<u64>,
    /// Accepted before.
    pub until_ms: Option<u64>,
    /// At most so many.
    pub limit: u32,
    /// After this place.
    pub after: Option<Place>,
}

/// A place in a listing: that of one execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its time of acceptance.
    pub created_at_ms: u64,
    /// Its row.
    pub seq: i64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.created_at_ms, self.seq)
    }
}

impl std::str::FromStr for Place {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Place, &'static str> {
        const WRONG: &str = "it is not a cursor that this instance gave; start without one";
        let (created, seq) = text.split_once('.').ok_or(WRONG)?;
        Ok(Place { created_at_ms: created.parse().map_err(|_| WRONG)?, seq: seq.parse().map_err(|_| WRONG)? })
    }
}

/// The actions that stand in the history.
pub(super) fn actions(connection: &Connection) -> Result<Vec<(i64, ActionRef)>, HistoryError> {
    let mut statement = connection.prepare_cached("SELECT id, name FROM actions")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, named(row, 1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A page of executions whose actions are `visible`, and the place of the next page.
pub(super) fn list(
    connection: &Connection,
    instance: &InstanceId,
    wanted: &Wanted,
    visible: &dyn Fn(&ActionRef) -> bool,
) -> Result<(Vec<Execution>, Option<Place>), HistoryError> {
    let mut clauses: Vec<String> = Vec::new();
    let mut values: Vec<Value> = Vec::new();
    let (shown, hidden): (Vec<_>, Vec<_>) = actions(connection)?.into_iter().partition(|(_, name)| visible(name));
    match &wanted.action {
        Some(action) => match shown.iter().find(|(_, name)| name == action) {
            Some((id, _)) => clauses.push(format!("e.action = {id}")),
            None => return Ok((Vec::new(), None)),
        },
        None if shown.is_empty() => return Ok((Vec::new(), None)),
        None if hidden.is_empty() => {}
        None => {
            let ids: Vec<String> = shown.iter().map(|(id, _)| id.to_string()).collect();
            // The plus keeps the listing on the index of its order.
            clauses.push(format!("+e.action IN ({})", ids.join(",")));
        }
    }
    if let Some(state) = wanted.state {
        clauses.push(format!("e.state = {}", state_number(state)));
    }
    let mut clause = |text: &str, value: Value| {
        values.push(value);
        clauses.push(format!("{text} ?{}", values.len()));
    };
    if let Some(principal) = &wanted.principal {
        match name_id(connection, principal.as_str())? {
            Some(id) => clause("e.principal =", Value::Integer(id)),
            None => return Ok((Vec::new(), None)),
        }
    }
    if let Some(run) = &wanted.run {
        clause("e.run =", Value::Text(run.to_string()));
    }
    if let Some(since) = wanted.since_ms {
        clause("e.created_at_ms >=", integer(since));
    }
    if let Some(until) = wanted.until_ms {
        clause("e.created_at_ms <", integer(until));
    }
    if let Some(after) = wanted.after {
        values.push(integer(after.created_at_ms));
        values.push(Value::Integer(after.seq));
        clauses.push(format!("(e.created_at_ms, e.seq) < (?{}, ?{})", values.len() - 1, values.len()));
    }
    let filter = if clauses.is_empty() { String::new() } else { format!("WHERE {}", clauses.join(" AND ")) };
    let limit = usize::try_from(wanted.limit).unwrap_or(usize::MAX);
    let sql = format!("{SELECT} {filter} ORDER BY e.created_at_ms DESC, e.seq DESC LIMIT {}", limit.saturating_add(1));
    let mut statement = connection.prepare(&sql)?;
    let rows = statement
        .query_map(params_from_iter(values), |row| Ok((row::read(row, instance)?, row.get::<_, i64>(row::SEQ)?)))?;
    let mut found: Vec<(Execution, i64)> = rows.collect::<Result<_, _>>()?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found
        .last()
        .filter(|_| more)
        .map(|(execution, seq)| Place { created_at_ms: execution.created_at_ms, seq: *seq });
    Ok((found.into_iter().map(|(execution, _)| execution).collect(), next))
}

fn integer(value: u64) -> Value {
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}

fn name_id(connection: &Connection, text: &str) -> Result<Option<i64>, HistoryError> {
    let mut statement = connection.prepare_cached("SELECT id FROM names WHERE name = ?1")?;
    Ok(statement.query_row([text], |row| row.get(0)).optional()?)
}

/// One execution.
pub(super) fn get(
    connection: &Connection,
    instance: &InstanceId,
    id: &ExecutionId,
) -> Result<Option<Execution>, HistoryError> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE e.id = ?1"))?;
    Ok(statement.query_row([id_bytes(id)], |row| row::read(row, instance)).optional()?)
}

/// The execution that a caller made with a key, and the fingerprint of its body.
pub(super) fn by_key(
    connection: &Connection,
    instance: &InstanceId,
    principal: &Principal,
    key: &IdempotencyKey,
) -> Result<Option<(Execution, String)>, HistoryError> {
    let Some(principal) = name_id(connection, principal.as_str())? else { return Ok(None) };
    let sql = format!("{SELECT} WHERE e.principal = ?1 AND e.idempotency_key = ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_row(params![principal, key.as_str()], |row| {
        Ok((row::read(row, instance)?, row.get::<_, Option<String>>(row::FINGERPRINT)?.unwrap_or_default()))
    });
    Ok(found.optional()?)
}

/// Every execution that has not ended, oldest first.
pub(super) fn unfinished(connection: &Connection, instance: &InstanceId) -> Result<Vec<Execution>, HistoryError> {
    let mut statement = connection.prepare(&format!("{SELECT} WHERE e.state IN (0, 1) ORDER BY e.seq"))?;
    let rows = statement.query_map([], |row| row::read(row, instance))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// True if the execution is remembered.
pub(super) fn knows(connection: &Connection, id: &ExecutionId) -> Result<bool, HistoryError> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM executions WHERE id = ?1")?;
    Ok(statement.exists([id_bytes(id)])?)
}

/// When an action's executions since `since_ms` were accepted, oldest first.
pub(super) fn accepted_since(
    connection: &Connection,
    action: &ActionRef,
    since_ms: u64,
) -> Result<Vec<u64>, HistoryError> {
    let mut statement = connection.prepare_cached(
        "SELECT e.created_at_ms FROM executions e JOIN actions a ON a.id = e.action
         WHERE a.name = ?1 AND e.created_at_ms >= ?2 ORDER BY e.created_at_ms LIMIT 10000",
    )?;
    let rows = statement.query_map(params![action.as_str(), since_ms], |row| row.get(0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// At most `limit` state changes after the event `after`, of whatever action, in order.
pub(super) fn events(connection: &Connection, after: u64, limit: u32) -> Result<Vec<StateChange>, HistoryError> {
    let mut statement = connection.prepare_cached(
        "SELECT v.event, v.at_ms, e.id, a.name, v.state, e.dev IS NOT NULL
         FROM events v JOIN executions e ON e.seq = v.seq JOIN actions a ON a.id = e.action
         WHERE v.event > ?1 ORDER BY v.event LIMIT ?2",
    )?;
    let rows = statement.query_map(params![after, limit], |row| {
        Ok(StateChange {
            event: row.get(0)?,
            at_ms: row.get(1)?,
            execution: id_from(row.get(2)?),
            action: named(row, 3)?,
            state: state_at(row, 4)?,
            dev: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
