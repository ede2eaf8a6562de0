//! Conversion between an execution and its row.

use packs_schema::agent::execution::{State, StreamTotals, Usage};
use packs_schema::agent::rest::Execution;
use packs_schema::base::name::{ActionRef, ExecutionId, InstanceId, RunId};
use rusqlite::Row;
use rusqlite::types::Type;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::compact::Compact;

/// Columns that [`read`] expects, in its order.
pub(super) const SELECT: &str = "
SELECT e.id, a.name, v.name, d.name, p.name, k.name, e.state, e.reason, e.parameters, e.noop, e.note, e.run,
    e.created_at_ms, e.created_at_ms + e.started_after_ms, e.created_at_ms + e.ended_after_ms, e.duration_ms, e.exit_status, e.signal, e.usage,
    e.stdout_written_bytes, e.stdout_dropped_bytes, e.stderr_written_bytes, e.stderr_dropped_bytes,
    e.leftovers, e.unenforced, e.result, e.result_error, e.seq, e.fingerprint, e.dev, e.kill_note
FROM executions e
JOIN actions a ON a.id = e.action
JOIN names v ON v.id = e.version
JOIN names d ON d.id = e.digest
JOIN names p ON p.id = e.principal
LEFT JOIN names k ON k.id = e.killed_by
";

/// Position of the fingerprint in [`SELECT`].
pub(super) const FINGERPRINT: usize = 28;
/// Position of `dev`, the push of the version, in [`SELECT`].
const DEV: usize = 29;
/// Position of the note of a kill in [`SELECT`].
const KILL_NOTE: usize = 30;

/// Converts an id to its stored form, 16 bytes.
pub(super) fn id_bytes(id: &ExecutionId) -> [u8; 16] {
    *Uuid::parse_str(id.as_str()).expect("an execution id is a UUID").as_bytes()
}

/// Converts 16 stored bytes to an id.
pub(super) fn id_from(bytes: [u8; 16]) -> ExecutionId {
    ExecutionId::new(Uuid::from_bytes(bytes).hyphenated().to_string()).expect("a UUID is an execution id")
}

/// Converts a state to its stored form.
pub(super) fn state_number(state: State) -> i64 {
    State::ALL.iter().position(|s| *s == state).map_or(-1, |at| at as i64)
}

/// Reads a state.
pub(super) fn state_at(row: &Row<'_>, column: usize) -> rusqlite::Result<State> {
    let number: usize = row.get(column)?;
    State::ALL.get(number).copied().ok_or_else(|| wrong(column, format!("{number} is not a state")))
}

/// Reads a name into its type.
pub(super) fn named<T: TryFrom<String>>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T::Error: std::fmt::Display,
{
    T::try_from(row.get::<_, String>(column)?).map_err(|e| wrong(column, e.to_string()))
}

fn named_option<T: TryFrom<String>>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>>
where
    T::Error: std::fmt::Display,
{
    let text: Option<String> = row.get(column)?;
    text.map(|t| T::try_from(t).map_err(|e| wrong(column, e.to_string()))).transpose()
}

fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    text.map(|t| serde_json::from_str(&t).map_err(|e| wrong(column, e.to_string()))).transpose()
}

/// Fields of [`Usage`] in stored order.
const USAGE: [&str; 5] = ["user_us", "system_us", "peak_memory_bytes", "read_bytes", "written_bytes"];

/// Converts a usage to its stored form: `12000,8000,9000000`, absent fields empty; JSON if it has other fields.
pub(super) fn usage_text(usage: &Usage) -> String {
    let value = serde_json::to_value(usage).expect("our own records serialise");
    let fields = value.as_object().map(|fields| fields.iter().filter(|(_, value)| !value.is_null()));
    let known = fields.is_some_and(|mut fields| fields.all(|(key, value)| USAGE.contains(&&**key) && value.is_u64()));
    if !known {
        return to_json(usage);
    }
    let text = |key: &&str| value.get(*key).filter(|value| value.is_u64()).map_or_else(String::new, Value::to_string);
    let texts: Vec<String> = USAGE.iter().map(text).collect();
    texts.join(",").trim_end_matches(',').to_owned()
}

fn usage(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Usage>> {
    let Some(text) = row.get::<_, Option<String>>(column)? else { return Ok(None) };
    let wrong = |e: String| wrong(column, e);
    if text.starts_with('{') {
        return serde_json::from_str(&text).map(Some).map_err(|e| wrong(e.to_string()));
    }
    let mut fields = Map::new();
    for (key, number) in USAGE.iter().zip(text.split(',')).filter(|(_, number)| !number.is_empty()) {
        let number: u64 = number.parse().map_err(|_| wrong(format!("{number:?} is not a number")))?;
        fields.insert((*key).to_owned(), number.into());
    }
    serde_json::from_value(Value::Object(fields)).map(Some).map_err(|e| wrong(e.to_string()))
}

/// Converts a value to JSON.
pub(super) fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("our own records serialise")
}

fn totals(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<StreamTotals>> {
    let (written, dropped): (Option<u64>, Option<u64>) = (row.get(column)?, row.get(column + 1)?);
    Ok(written.zip(dropped).map(|(written_bytes, dropped_bytes)| StreamTotals { written_bytes, dropped_bytes }))
}

fn wrong(column: usize, message: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, message.into())
}

/// Reads a row of [`SELECT`].
pub(super) fn read(row: &Row<'_>, instance: &InstanceId) -> rusqlite::Result<Execution> {
    Ok(Execution {
        id: id_from(row.get(0)?),
        instance: instance.clone(),
        action: named::<ActionRef>(row, 1)?,
        version: named(row, 2)?,
        digest: named(row, 3)?,
        principal: named(row, 4)?,
        killed_by: named_option(row, 5)?,
        state: state_at(row, 6)?,
        reason: row.get(7)?,
        parameters: json(row, 8)?.unwrap_or_default(),
        noop: row.get(9)?,
        note: row.get(10)?,
        run: row
            .get::<_, Option<Compact>>(11)?
            .map(|t| RunId::try_from(t.0).map_err(|e| wrong(11, e.to_string())))
            .transpose()?,
        created_at_ms: row.get(12)?,
        started_at_ms: row.get(13)?,
        ended_at_ms: row.get(14)?,
        duration_ms: row.get(15)?,
        exit_status: row.get(16)?,
        signal: row.get(17)?,
        usage: usage(row, 18)?,
        stdout: totals(row, 19)?,
        stderr: totals(row, 21)?,
        leftovers: json(row, 23)?,
        unenforced: json(row, 24)?.unwrap_or_default(),
        result: json(row, 25)?,
        result_error: row.get(26)?,
        dev: json(row, DEV)?,
        kill_note: row.get(KILL_NOTE)?,
        waiting: None,
        output: None,
        output_error: None,
    })
}
