//! The JSON records in an execution's directory, and the one place that reads them.
//!
//! Shims outlive the agent that started them, and a host may go back to an older agent: readers meet records of other
//! versions. Each carries its format:
//!
//! - A field that readers may do without is added within a format, with `#[serde(default)]`; unknown fields are passed over.
//! - Anything else is a new format. A newer agent goes on reading every older one ([`OLDEST`] on).
//! - A format from the future is not guessed at: [`read_record`] says so by its number, and the execution ends honestly.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::base::name::{ActionRef, Digest, ExecutionId, IdempotencyKey, PackVersion, Principal, RunId};
use crate::delivery::pushed::PushInfo;

use super::State;

/// The version of the records that this code writes.
pub const FORMAT: u32 = 1;
/// The oldest version that this code reads.
pub const OLDEST: u32 = 1;

/// Why a record says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It is of another version.
    #[error("it is in format {0}, and this version reads {OLDEST} to {FORMAT}")]
    Format(u64),
    /// It is damaged.
    #[error("it is damaged: {0}")]
    Damaged(String),
}

/// Reads a record of any format that is known.
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

/// `spec`: what is to be run, for whom. Holds no secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// [`FORMAT`].
    pub format: u32,
    /// Which execution.
    pub id: ExecutionId,
    /// The action …
    pub action: ActionRef,
    /// … of the pack in this version …
    pub version: PackVersion,
    /// … with this digest.
    pub digest: Digest,
    /// Set when that version was pushed and is not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<PushInfo>,
    /// What the caller gave, secrets masked.
    pub parameters: Map<String, Value>,
    /// A secret was given, so that the parameters above are not all there was.
    pub has_secrets: bool,
    /// Whether it is only to say what it would do.
    pub noop: bool,
    /// A shorter time-out than the action's, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Who asked.
    pub principal: Principal,
    /// Why, in the caller's words.
    pub note: Option<String>,
    /// The fan-out that it belongs to.
    pub run: Option<RunId>,
    /// The caller's key …
    pub idempotency_key: Option<IdempotencyKey>,
    /// … and a keyed hash of the body that came with it.
    pub fingerprint: Option<String>,
    /// W3C Trace Context of the caller.
    pub traceparent: Option<String>,
    /// Accepted at, in milliseconds since 1970.
    pub created_at_ms: u64,
    /// The same in milliseconds since the host started (`CLOCK_BOOTTIME`), which no clock setting changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_boottime_ms: Option<u64>,
    /// How long it may wait for its start, in milliseconds from then.
    pub start_within_ms: u64,
    /// `/proc/sys/kernel/random/boot_id` when it was accepted.
    pub boot_id: String,
}

/// `started`: a shim has it; the action exists or is about to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Started {
    /// [`FORMAT`].
    pub format: u32,
    /// `/proc/sys/kernel/random/boot_id` at the start.
    pub boot_id: String,
    /// Started at, in milliseconds since 1970.
    pub started_at_ms: u64,
    /// The time-out in force, in milliseconds.
    pub timeout_ms: u64,
    /// What could not be enforced, such as `memory limit: no memory controller`.
    pub unenforced: Vec<String>,
}

/// `exit`: how it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    /// [`FORMAT`].
    pub format: u32,
    /// Which execution.
    pub id: ExecutionId,
    /// A terminal state.
    pub state: State,
    /// Why, in words, when the state alone does not say.
    pub reason: Option<String>,
    /// The action's exit status, when it exited.
    pub exit_status: Option<i32>,
    /// The signal that ended it, when one did.
    pub signal: Option<i32>,
    /// Started at, in milliseconds since 1970.
    pub started_at_ms: u64,
    /// Ended at, in milliseconds since 1970: the start plus the duration.
    pub ended_at_ms: u64,
    /// How long it took, in milliseconds of the monotonic clock.
    pub duration_ms: u64,
    /// What it used.
    pub usage: Usage,
    /// What it wrote to standard output.
    pub stdout: StreamTotals,
    /// What it wrote to standard error.
    pub stderr: StreamTotals,
    /// How many processes were left as it was stopped; absent when nothing had to be stopped.
    pub leftovers: Option<Leftovers>,
    /// What could not be enforced.
    pub unenforced: Vec<String>,
    /// The structured result, when it wrote one that fits.
    pub result: Option<Map<String, Value>>,
    /// Why there is no structured result although it wrote something.
    pub result_error: Option<String>,
}

/// What an execution used, all its processes together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Usage {
    /// Processor time in user mode, in microseconds.
    pub user_us: u64,
    /// Processor time in the kernel, in microseconds.
    pub system_us: u64,
    /// Memory at the moment, in bytes, of one that runs; absent in records of ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// The most memory at once, in bytes; absent when the host does not count it.
    pub peak_memory_bytes: Option<u64>,
    /// Bytes read from disks; absent when the host does not count them.
    pub read_bytes: Option<u64>,
    /// Bytes written to disks; absent when the host does not count them.
    pub written_bytes: Option<u64>,
}

/// One output stream in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct StreamTotals {
    /// Written by the action.
    pub written_bytes: u64,
    /// Of these, not kept.
    pub dropped_bytes: u64,
}

/// The processes of an execution that were alive when it ended or was stopped, and what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Leftovers {
    /// After TERM and the grace time.
    pub after_term: u32,
    /// After the cgroup was killed.
    pub after_cgroup_kill: u32,
    /// After the subreaper's children were killed: 0, or the record is a confession.
    pub after_subreaper: u32,
    /// Left running, because the action's file says `leftovers: keep` and it ended with exit status 0.
    #[serde(default, skip_serializing_if = "is_none")]
    pub kept: u32,
    /// Names of programs among them as the kernel has them (up to 15 characters), at most [`MAX_PROGRAMS`], each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<String>,
}

/// How many programs [`Leftovers`] names.
pub const MAX_PROGRAMS: usize = 8;

fn is_none(count: &u32) -> bool {
    *count == 0
}

impl Leftovers {
    /// What became of the processes that an execution left when it ended in `state`, in a sentence; `None` when it was stopped
    /// and nothing is left, which its state says.
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
    fn a_field_of_a_newer_writer_is_passed_over() {
        let newer = STARTED.replacen('{', r#"{"colour":"red","#, 1);
        assert_eq!(read_record::<Started>(newer.as_bytes()), read_record::<Started>(STARTED.as_bytes()));
        assert_eq!(read_record::<Started>(STARTED.as_bytes()).unwrap().timeout_ms, 9);
    }

    #[test]
    fn a_format_from_the_future_is_named_and_not_guessed_at() {
        for format in [0, 2, u64::from(u32::MAX) + 2] {
            let other = STARTED.replacen('1', &format.to_string(), 1);
            let error = read_record::<Started>(other.as_bytes()).unwrap_err();
            assert_eq!(error, RecordError::Format(format));
            assert!(error.to_string().contains(&format!("format {format},")), "{error}");
        }
        // Also when nothing else of it is as we know it.
        assert_eq!(read_record::<Exit>(br#"{"format":7,"outcome":[]}"#), Err(RecordError::Format(7)));
    }

    #[test]
    fn half_a_record_is_damaged() {
        for half in ["", "{", "{}", "null", &STARTED[..40], r#"{"format":1}"#] {
            assert!(matches!(read_record::<Started>(half.as_bytes()), Err(RecordError::Damaged(_))), "{half}");
        }
    }
}
