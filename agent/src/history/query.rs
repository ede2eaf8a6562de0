//! Queries of single executions and of events, and the filter of listings (`listing`).

use packs_schema::agent::execution::State;
use packs_schema::agent::rest::{Execution, StateChange, is_epoch};
use packs_schema::base::name::{ActionRef, ExecutionId, IdempotencyKey, InstanceId, Principal, RunId};
use rusqlite::{Connection, OptionalExtension, params};

use super::compact::{Compact, key_hash};
use super::row::{self, SELECT, id_bytes, id_from, named, state_at};
use super::{Accepted, BootTime, HistoryError};

/// Maximum number of acceptances that a rate is counted from.
const MAX_ACCEPTED: u32 = 10_000;

/// Filter of a listing; absent fields match everything.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Action.
    pub action: Option<ActionRef>,
    /// State.
    pub state: Option<State>,
    /// True to list ended executions only.
    pub ended: bool,
    /// Caller.
    pub principal: Option<Principal>,
    /// Fan-out.
    pub run: Option<RunId>,
    /// Accepted at or after this time, in milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// Accepted before this time, in milliseconds since 1970.
    pub until_ms: Option<u64>,
    /// Maximum number of executions.
    pub limit: u32,
    /// Position to continue after.
    pub after: Option<Cursor>,
}

/// Position in a listing: that of one execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Epoch of the history file; absent in cursors of earlier versions.
    pub epoch: Option<String>,
    /// Time of acceptance, in milliseconds since 1970.
    pub created_at_ms: u64,
    /// Row number.
    pub seq: i64,
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(epoch) = &self.epoch {
            write!(f, "{epoch}.")?;
        }
        write!(f, "{}.{}", self.created_at_ms, self.seq)
    }
}

impl std::str::FromStr for Cursor {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Cursor, &'static str> {
        const WRONG: &str = "not a cursor of this instance; start again without one";
        let (rest, seq) = text.rsplit_once('.').ok_or(WRONG)?;
        let (epoch, created) = rest.rsplit_once('.').map_or((None, rest), |(epoch, created)| (Some(epoch), created));
        if epoch.is_some_and(|epoch| !is_epoch(epoch)) {
            return Err(WRONG);
        }
        let (created_at_ms, seq) = (created.parse().map_err(|_| WRONG)?, seq.parse().map_err(|_| WRONG)?);
        Ok(Cursor { epoch: epoch.map(str::to_owned), created_at_ms, seq })
    }
}

/// Lists the actions that occur in the history.
pub(super) fn actions(connection: &Connection) -> Result<Vec<(i64, ActionRef)>, HistoryError> {
    let mut statement = connection.prepare_cached("SELECT id, name FROM actions")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, named(row, 1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns the number of a text that rows share.
pub(super) fn name_id(connection: &Connection, text: &str) -> Result<Option<i64>, HistoryError> {
    let mut statement = connection.prepare_cached("SELECT id FROM names WHERE name = ?1")?;
    Ok(statement.query_row([text], |row| row.get(0)).optional()?)
}

/// Returns an execution.
pub(super) fn get(
    connection: &Connection,
    instance: &InstanceId,
    id: &ExecutionId,
) -> Result<Option<Execution>, HistoryError> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE e.id = ?1"))?;
    Ok(statement.query_row([id_bytes(id)], |row| row::read(row, instance)).optional()?)
}

/// Returns the execution that a caller started with a key, and the fingerprint of its body.
pub(super) fn by_key(
    connection: &Connection,
    instance: &InstanceId,
    principal: &Principal,
    key: &IdempotencyKey,
) -> Result<Option<(Execution, String)>, HistoryError> {
    let sql = format!("{SELECT} WHERE e.key_hash = ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let found = statement.query_row([key_hash(principal.as_str(), key.as_str())], |row| {
        let fingerprint: Option<Compact> = row.get(row::FINGERPRINT)?;
        Ok((row::read(row, instance)?, fingerprint.map(|text| text.0).unwrap_or_default()))
    });
    Ok(found.optional()?)
}

/// Lists the executions that have not ended, oldest first.
pub(super) fn unfinished(connection: &Connection, instance: &InstanceId) -> Result<Vec<Execution>, HistoryError> {
    let mut statement =
        connection.prepare(&format!("{SELECT} WHERE e.state IN (0, 1) AND e.state <> 2 ORDER BY e.seq"))?;
    let rows = statement.query_map([], |row| row::read(row, instance))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// True if the execution is in the history.
pub(super) fn knows(connection: &Connection, id: &ExecutionId) -> Result<bool, HistoryError> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM executions WHERE id = ?1")?;
    Ok(statement.exists([id_bytes(id)])?)
}

/// Returns when executions of an action were accepted, since `since_ms` by the wall clock or since `since` by the clock of the
/// boot; at most the newest [`MAX_ACCEPTED`].
pub(super) fn accepted_since(
    connection: &Connection,
    action: &ActionRef,
    since_ms: u64,
    since: &BootTime,
) -> Result<Vec<Accepted>, HistoryError> {
    // Two subqueries, to use two indexes; a row in both counts once.
    let mut statement = connection.prepare_cached(
        "SELECT e.created_at_ms, b.name, e.created_boottime_ms
         FROM executions e LEFT JOIN names b ON b.id = e.boot
         WHERE e.seq IN (
            SELECT seq FROM executions
            WHERE action = (SELECT id FROM actions WHERE name = ?1) AND created_at_ms >= ?2
            UNION
            SELECT seq FROM executions
            WHERE action = (SELECT id FROM actions WHERE name = ?1) AND boot = (SELECT id FROM names WHERE name = ?3)
                AND created_boottime_ms IS NOT NULL AND created_boottime_ms >= ?4)
         ORDER BY e.seq DESC LIMIT ?5",
    )?;
    let values = params![action.as_str(), since_ms, since.boot_id, since.boottime_ms, MAX_ACCEPTED];
    let rows = statement.query_map(values, |row| {
        let (boot_id, boottime_ms): (Option<String>, Option<u64>) = (row.get(1)?, row.get(2)?);
        let boot_time = boot_id.zip(boottime_ms).map(|(boot_id, boottime_ms)| BootTime { boot_id, boottime_ms });
        Ok(Accepted { at_ms: row.get(0)?, boot_time })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Returns at most `limit` state changes of all actions after the event `after`, in order.
pub(super) fn events(connection: &Connection, after: u64, limit: u32) -> Result<Vec<StateChange>, HistoryError> {
    let mut statement = connection.prepare_cached(
        // An event without its own time has that of its row: 0 queued, 1 running, else an end.
        "SELECT v.event, CASE WHEN v.at_ms <> 0 THEN v.at_ms ELSE e.created_at_ms + CASE v.state
                WHEN 0 THEN 0 WHEN 1 THEN coalesce(e.started_after_ms, 0) ELSE coalesce(e.ended_after_ms, 0) END END,
            e.id, a.name, v.state, e.dev IS NOT NULL
         FROM events v JOIN executions e ON e.seq = v.seq JOIN actions a ON a.id = e.action
         WHERE v.event > ?1 ORDER BY v.event LIMIT ?2",
    )?;
    let rows = statement.query_map(params![after, limit], |row| {
        Ok(StateChange {
            event: row.get(0)?,
            cursor: None,
            at_ms: row.get(1)?,
            execution: id_from(row.get(2)?),
            action: named(row, 3)?,
            state: state_at(row, 4)?,
            dev: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
