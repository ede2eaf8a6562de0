//! Executions in the REST interface. Times are milliseconds since 1970, UTC.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Code;
use crate::agent::execution::output::Stream;
use crate::agent::execution::{Leftovers, State, StreamTotals, Usage};
use crate::base::name::{ActionRef, Digest, ExecutionId, InstanceId, PackVersion, Principal, RunId};
use crate::base::strict;
use crate::delivery::pushed::PushInfo;

/// Body of `POST /v1/executions`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateExecution {
    /// Action to run.
    pub action: ActionRef,
    /// Version of the pack that must be active; otherwise the response is 409 (`version_mismatch`). Absent: the active version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<PackVersion>,
    /// Parameters by name.
    #[serde(default, deserialize_with = "strict::object")]
    pub parameters: Map<String, Value>,
    /// Dry run: report what would change. Refused for actions without support for it.
    #[serde(default)]
    pub noop: bool,
    /// Expected instance; any other instance answers 421.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// Run (fan-out over instances) that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// Time-out in milliseconds, if shorter than the action's.
    #[serde(default, deserialize_with = "strict::whole_number", skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Note for the history, at most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Body of `POST /v1/executions/{id}/kill`; optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct KillRequest {
    /// Note for the history, at most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// An execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Execution {
    /// Execution id.
    pub id: ExecutionId,
    /// Instance.
    pub instance: InstanceId,
    /// Action.
    pub action: ActionRef,
    /// Version of the pack.
    pub version: PackVersion,
    /// Digest of the pack archive.
    pub digest: Digest,
    /// Present if the version was pushed and is not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<PushInfo>,
    /// State.
    pub state: State,
    /// Reason, if the state alone does not explain it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Parameters; secrets are shown as `[secret]`.
    pub parameters: Map<String, Value>,
    /// True for a dry run.
    pub noop: bool,
    /// Principal that requested it.
    pub principal: Principal,
    /// Note of the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Principal that killed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub killed_by: Option<Principal>,
    /// Note of the caller who killed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_note: Option<String>,
    /// Reason why a queued execution has not started yet; only in `GET /v1/executions/{id}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// Run (fan-out over instances) that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// Time of acceptance.
    pub created_at_ms: u64,
    /// Time of the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at_ms: Option<u64>,
    /// Time of the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at_ms: Option<u64>,
    /// Duration by the monotonic clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Exit status of the action, if it exited, even after it was killed or timed out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<i32>,
    /// Signal that ended it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Used resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Totals of standard output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<StreamTotals>,
    /// Totals of standard error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<StreamTotals>,
    /// Processes that were left at each step of stopping it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leftovers: Option<Leftovers>,
    /// Limits that could not be enforced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unenforced: Vec<String>,
    /// Structured result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Map<String, Value>>,
    /// Reason why there is no structured result although something was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_error: Option<String>,
    /// First bytes of its output; only in answers to requests with `?output=`, once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Box<OutputStart>>,
    /// Reason why `output` is absent although it was requested: `forbidden` without a grant for the verb read,
    /// `output_gone`, or another code of a problem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_error: Option<Code>,
}

/// First bytes of both output streams of an execution that has ended. The totals are in `stdout` and `stderr` of the
/// execution.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct OutputStart {
    /// Standard output.
    pub stdout: StreamStart,
    /// Standard error.
    pub stderr: StreamStart,
}

/// First bytes of an output stream, as `GET /v1/executions/{id}/stdout` or `/stderr` returns them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct StreamStart {
    /// Bytes, if they are UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Bytes in base64 (RFC 4648, standard alphabet, padded), if they are not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// True if the stream has more bytes.
    pub truncated: bool,
}

/// Reason why a queued execution has not started yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Waiting {
    /// Resource that it waits for.
    pub reason: WaitingReason,
    /// Concurrency group of its action, if the action has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Number of running executions that count against the limit.
    pub running: u32,
    /// Maximum number of concurrent executions, in the group or on the instance.
    pub max: u32,
    /// Number of queued executions that start before it: those of its group, or all of the instance.
    pub ahead: u32,
    /// Running executions that hold the slots, as far as the caller may see them; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<ExecutionId>,
}

/// Resource that a queued execution waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WaitingReason {
    /// Slot of its concurrency group.
    Group,
    /// Slot of the instance.
    Slot,
    /// Launcher, which was asked to start it.
    Launcher,
}

/// Page of a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Page<T> {
    /// Items, newest first.
    pub items: Vec<T>,
    /// `?cursor=` of the next page; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Line of `GET /v1/executions/{id}/output`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct OutputChunk {
    /// Stream.
    pub stream: Stream,
    /// Offset in the stream, in bytes.
    pub offset: u64,
    /// Time when it was read from the action, in microseconds since 1970.
    pub at_us: u64,
    /// Data, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Data in base64 (RFC 4648, standard alphabet, padded), if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// Instead of data: number of bytes from `offset` on that were not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped_bytes: Option<u64>,
}

/// Line of `GET /v1/events`: an execution changed its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct StateChange {
    /// Number, which increases by one for each event of a history file.
    pub event: u64,
    /// `?after=` for the events after this one; includes the epoch of the history file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Time, in milliseconds since 1970.
    pub at_ms: u64,
    /// Execution id.
    pub execution: ExecutionId,
    /// Action.
    pub action: ActionRef,
    /// New state.
    pub state: State,
    /// True if the version was pushed and is not signed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dev: bool,
}
