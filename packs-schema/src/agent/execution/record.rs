//! JSON records of an execution's directory, and their only reader.
//!
//! Shims outlive the agent that started them, and a host may be downgraded to an older agent, so readers encounter
//! records of other versions. Each record contains its format:
//!
//! - An optional field is added within a format, with `#[serde(default)]`; unknown fields are ignored.
//! - Any other change is a new format. A newer agent reads all older ones ([`OLDEST`] and later).
//! - A record of a later format is an error with its number ([`read_record`]), and the execution ends with that reason.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::base::name::{ActionRef, Digest, ExecutionId, IdempotencyKey, PackVersion, Principal, RunId};
use crate::delivery::pushed::PushInfo;

use super::State;

/// Format of the records that this code writes.
pub const FORMAT: u32 = 1;
/// Oldest format that this code reads.
pub const OLDEST: u32 = 1;

/// Error returned when a record cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Unsupported format.
    #[error("it has format {0}, but this version reads formats {OLDEST} to {FORMAT}")]
    Format(u64),
    /// Damaged record.
    #[error("it is damaged: {0}")]
    Damaged(String),
}

/// Parses a record of a supported format.
pub fn read_record<T: DeserializeOwned>(json: &[u8]) -> Result<T, RecordError> {
    #[derive(Deserialize)]
    struct Head {
        format: u64,
    }
    let damaged = |e: serde_json::Error| RecordError::Damaged(e.to_string());
    let Head { format } = serde_json::from_slice(json).map_err(damaged)?;
    if !(u64::from(OLDEST)..=u64::from(FORMAT)).contains(&format) {
        return Err(RecordError::Format(format));
    }
    serde_json::from_slice(json).map_err(damaged)
}

/// `spec`: the request. Contains no secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// [`FORMAT`].
    pub format: u32,
    /// Execution id.
    pub id: ExecutionId,
    /// Action …
    pub action: ActionRef,
    /// … in this version of its pack …
    pub version: PackVersion,
    /// … with this digest.
    pub digest: Digest,
    /// Present if that version was pushed and is not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<PushInfo>,
    /// Parameters of the caller, with secrets masked.
    pub parameters: Map<String, Value>,
    /// True if a secret was given, so that the parameters above are not complete.
    pub has_secrets: bool,
    /// True for a dry run.
    pub noop: bool,
    /// Time-out of the caller, in milliseconds, if shorter than the action's.
    pub timeout_ms: Option<u64>,
    /// Principal of the caller.
    pub principal: Principal,
    /// Note of the caller.
    pub note: Option<String>,
    /// Run that it belongs to.
    pub run: Option<RunId>,
    /// Idempotency key of the caller …
    pub idempotency_key: Option<IdempotencyKey>,
    /// … and a keyed hash of the request's body.
    pub fingerprint: Option<String>,
    /// W3C Trace Context of the caller.
    pub traceparent: Option<String>,
    /// Time of acceptance, in milliseconds since 1970.
    pub created_at_ms: u64,
    /// Time of acceptance in milliseconds since the host started (`CLOCK_BOOTTIME`), which clock changes do not affect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_boottime_ms: Option<u64>,
    /// Maximum time from acceptance to start, in milliseconds.
    pub start_within_ms: u64,
    /// `/proc/sys/kernel/random/boot_id` at acceptance.
    pub boot_id: String,
}

/// `started`: the start record, written by the shim just before the action exists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// [`FORMAT`].
    pub format: u32,
    /// `/proc/sys/kernel/random/boot_id` at the start.
    pub boot_id: String,
    /// Time of the start, in milliseconds since 1970.
    pub started_at_ms: u64,
    /// Effective time-out, in milliseconds.
    pub timeout_ms: u64,
    /// Limits that could not be enforced, such as `memory limit: no memory controller`.
    pub unenforced: Vec<String>,
}

/// `kill`, if it is not empty: who asked for the kill while no api ran, for the record that the api writes later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kill {
    /// [`FORMAT`].
    pub format: u32,
    /// Principal of local access.
    pub by: Principal,
    /// Note of the caller.
    pub note: Option<String>,
}

/// `exit`: the exit record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// [`FORMAT`].
    pub format: u32,
    /// Execution id.
    pub id: ExecutionId,
    /// Terminal state.
    pub state: State,
    /// Reason, if the state alone does not explain it.
    pub reason: Option<String>,
    /// Exit status of the action, if it exited.
    pub exit_status: Option<i32>,
    /// Signal that ended it, if one did.
    pub signal: Option<i32>,
    /// Time of the start, in milliseconds since 1970.
    pub started_at_ms: u64,
    /// Time of the end, in milliseconds since 1970: start plus duration.
    pub ended_at_ms: u64,
    /// Duration, in milliseconds of the monotonic clock.
    pub duration_ms: u64,
    /// Used resources.
    pub usage: Usage,
    /// Totals of standard output.
    pub stdout: StreamTotals,
    /// Totals of standard error.
    pub stderr: StreamTotals,
    /// Processes that were left when it was stopped; absent if none had to be stopped.
    pub leftovers: Option<Leftovers>,
    /// Limits that could not be enforced.
    pub unenforced: Vec<String>,
    /// Structured result, if there is one that fits the schema.
    pub result: Option<Map<String, Value>>,
    /// Reason why there is no structured result although something was written.
    pub result_error: Option<String>,
}

/// Resources used by all processes of an execution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Usage {
    /// Processor time in user mode, in microseconds.
    pub user_us: u64,
    /// Processor time in the kernel, in microseconds.
    pub system_us: u64,
    /// Current memory of a running execution, in bytes; absent in exit records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Peak memory, in bytes; absent if the host does not measure it.
    pub peak_memory_bytes: Option<u64>,
    /// Bytes read from disks; absent if the host does not measure it.
    pub read_bytes: Option<u64>,
    /// Bytes written to disks; absent if the host does not measure it.
    pub written_bytes: Option<u64>,
}

/// Totals of an output stream, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct StreamTotals {
    /// Bytes that the action wrote.
    pub written_bytes: u64,
    /// Bytes of these that were not kept.
    pub dropped_bytes: u64,
}

/// Processes of an execution that were alive when it ended or was stopped, and what was done with them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Leftovers {
    /// Number that remained after SIGTERM and the grace period.
    pub after_term: u32,
    /// Number that remained after the cgroup was killed.
    pub after_cgroup_kill: u32,
    /// Number that remained after the subreaper's children were killed; above 0, they could not be stopped.
    pub after_subreaper: u32,
    /// Number left running, because the action's file sets `leftovers: keep` and the exit status was 0.
    #[serde(default, skip_serializing_if = "is_none")]
    pub kept: u32,
    /// Program names as the kernel has them (up to 15 characters), each once, at most [`MAX_PROGRAMS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<String>,
}

/// Maximum number of programs in [`Leftovers`].
pub const MAX_PROGRAMS: usize = 8;

fn is_none(count: &u32) -> bool {
    *count == 0
}

impl Leftovers {
    /// Describes in a sentence what was done with the processes that remained when an execution ended in `state`;
    /// `None` if nothing remains and the state explains why.
    pub fn describe(&self, state: State) -> Option<String> {
        let counted = |count: u32| if count == 1 { "1 process".to_owned() } else { format!("{count} processes") };
        let named = match self.programs.join(", ") {
            names if names.is_empty() => String::new(),
            names => format!(" ({names})"),
        };
        if self.after_subreaper > 0 {
            return Some(format!("{}{named} could not be stopped", counted(self.after_subreaper)));
        }
        if self.kept > 0 {
            return Some(format!("{}{named} kept running after the exit", counted(self.kept)));
        }
        let by_itself = matches!(state, State::Succeeded | State::Failed | State::OutOfMemory);
        (by_itself && self.after_term > 0).then(|| {
            let were = if self.after_term == 1 { "was" } else { "were" };
            format!("{}{named} still running at the exit {were} stopped", counted(self.after_term))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTED: &str = r#"{"format":1,"boot_id":"b","started_at_ms":5,"timeout_ms":9,"unenforced":[]}"#;

    #[test]
    fn an_unknown_field_is_ignored() {
        let newer = STARTED.replacen('{', r#"{"colour":"red","#, 1);
        assert_eq!(read_record::<Started>(newer.as_bytes()), read_record::<Started>(STARTED.as_bytes()));
        assert_eq!(read_record::<Started>(STARTED.as_bytes()).unwrap().timeout_ms, 9);
    }

    #[test]
    fn a_later_format_is_an_error_with_its_number() {
        for format in [0, 2, u64::from(u32::MAX) + 2] {
            let other = STARTED.replacen('1', &format.to_string(), 1);
            let error = read_record::<Started>(other.as_bytes()).unwrap_err();
            assert_eq!(error, RecordError::Format(format));
            assert!(error.to_string().contains(&format!("format {format},")), "{error}");
        }
        // Even if no other field has the expected shape.
        assert_eq!(read_record::<Exit>(br#"{"format":7,"outcome":[]}"#), Err(RecordError::Format(7)));
    }

    #[test]
    fn a_truncated_record_is_damaged() {
        for half in ["", "{", "{}", "null", &STARTED[..40], r#"{"format":1}"#] {
            assert!(matches!(read_record::<Started>(half.as_bytes()), Err(RecordError::Damaged(_))), "{half}");
        }
    }
}
