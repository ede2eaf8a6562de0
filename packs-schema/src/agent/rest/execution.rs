//! Executions on the wire. Times are milliseconds since 1970, UTC.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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
    /// What to run.
    pub action: ActionRef,
    /// Pack version that must be active; another one answers 409 (`version_mismatch`). Absent: whichever is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<PackVersion>,
    /// With what, by name.
    #[serde(default, deserialize_with = "strict::object")]
    pub parameters: Map<String, Value>,
    /// Only say what it would do. Refused for actions that do not understand it.
    #[serde(default)]
    pub noop: bool,
    /// The instance that is meant; another one answers 421.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// The fan-out that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// A shorter time-out than the action's, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Why, for those who read the history: at most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Body of `POST /v1/executions/{id}/kill`; may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct KillRequest {
    /// Why, for those who read the history: at most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Execution {
    /// Its id.
    pub id: ExecutionId,
    /// Where.
    pub instance: InstanceId,
    /// What.
    pub action: ActionRef,
    /// The pack's version.
    pub version: PackVersion,
    /// The pack's digest.
    pub digest: Digest,
    /// Set when it is of a version that was pushed and not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dev: Option<PushInfo>,
    /// Where it stands.
    pub state: State,
    /// Why it stands there, when the state alone does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// With what; secrets are shown as `[secret]`.
    pub parameters: Map<String, Value>,
    /// Whether it only says what it would do.
    pub noop: bool,
    /// Who asked.
    pub principal: Principal,
    /// Why, in the caller's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Who stopped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub killed_by: Option<Principal>,
    /// Why, in the words of the caller who stopped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_note: Option<String>,
    /// Why it has not started yet. Only `GET /v1/executions/{id}` of a queued execution tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// The fan-out that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// Accepted at.
    pub created_at_ms: u64,
    /// Started at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at_ms: Option<u64>,
    /// Ended at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at_ms: Option<u64>,
    /// How long it ran, by the monotonic clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// The action's exit status, when it exited by itself or after being told to: also of one that was killed or timed out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<i32>,
    /// The signal that ended it, when one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// What it used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What it wrote to standard output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<StreamTotals>,
    /// What it wrote to standard error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<StreamTotals>,
    /// How many processes were left at each step of stopping it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leftovers: Option<Leftovers>,
    /// What could not be enforced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unenforced: Vec<String>,
    /// Its structured result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Map<String, Value>>,
    /// Why it has none although it wrote something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_error: Option<String>,
}

/// Why a queued execution has not started yet, at the moment of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Waiting {
    /// What it waits for.
    pub reason: WaitingReason,
    /// The concurrency group of its action, if its action limits one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Number of running executions that count against the limit.
    pub running: u32,
    /// The limit: executions that may run at once, in the group or on the instance.
    pub max: u32,
    /// Number of queued executions that start before it: those of its group, or all of the instance.
    pub ahead: u32,
    /// Running executions that hold the slots, as far as the caller may see them; at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub behind: Vec<ExecutionId>,
}

/// What a queued execution waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WaitingReason {
    /// A slot of its concurrency group.
    Group,
    /// A slot of the instance.
    Slot,
    /// The launcher, which has been asked to start it.
    Launcher,
}

/// Some of a long list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Page<T> {
    /// The items, newest first.
    pub items: Vec<T>,
    /// `?cursor=` of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One line of `GET /v1/executions/{id}/output`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct OutputChunk {
    /// Which stream.
    pub stream: Stream,
    /// Bytes of this stream before it.
    pub offset: u64,
    /// When it was read from the action, in microseconds since 1970.
    pub at_us: u64,
    /// The bytes, when they are UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The bytes in base64 (RFC 4648, standard alphabet, padded), when they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
    /// In place of data: so many bytes from `offset` on were not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped_bytes: Option<u64>,
}

/// One line of `GET /v1/events`: an execution went over to a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct StateChange {
    /// Rises by one from event to event of one history file.
    pub event: u64,
    /// `?after=` for what follows this event; it names the history file as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Which execution.
    pub execution: ExecutionId,
    /// Of which action.
    pub action: ActionRef,
    /// To which state.
    pub state: State,
    /// It is of a version that was pushed and not signed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dev: bool,
}
