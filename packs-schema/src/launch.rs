//! What the unprivileged agent may ask of the privileged launcher, over an inherited socket pair.
//!
//! A frame is a length (`u32`, little endian, at most [`MAX_FRAME`]) and that many bytes of JSON. The
//! launcher answers each [`Request`] with one [`Reply`] that carries the same `seq`.
//!
//! There are three requests. Each names things; none carries a path, a command or an account.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::name::{ActionName, Digest, ExecutionId, PackName, PackVersion, RunId};
use crate::strict;

/// The largest frame, in bytes: a request body at its limit, and what stands around it.
pub const MAX_FRAME: usize = 256 << 10;

/// One request of the api.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Chosen by the api, given back in the reply.
    pub seq: u64,
    /// What is asked.
    pub ask: Ask,
}

/// What the api may ask.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// Start an execution, whose directory the api has made.
    Start(Box<Start>),
    /// Stop an execution: leave the `kill` file to its shim, or stop what is left of it when it has none.
    Kill {
        /// Which.
        execution: ExecutionId,
    },
    /// Run the sync process now; more than one ask while it runs is one more run.
    Sync,
}

/// An execution to be started. Has no `Debug`: parameters may be secret.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Its id, and the name of its directory.
    pub execution: ExecutionId,
    /// The pack …
    pub pack: PackName,
    /// … in this version …
    pub version: PackVersion,
    /// … with this digest.
    pub digest: Digest,
    /// The action of it.
    pub action: ActionName,
    /// What the caller gave, before defaults.
    #[serde(deserialize_with = "strict::object")]
    pub parameters: Map<String, Value>,
    /// Whether it is only to say what it would do.
    pub noop: bool,
    /// A shorter time-out than the action's, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// The fan-out that it belongs to.
    pub run: Option<RunId>,
    /// W3C Trace Context of the caller. What is not one is passed over, as the recommendation has it.
    #[serde(default, deserialize_with = "traceparent")]
    pub traceparent: Option<String>,
}

fn traceparent<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.filter(|text| is_traceparent(text)))
}

/// True if `text` is a `traceparent` of version 00 (W3C Trace Context, 3.2): what may stand in an action's environment.
pub fn is_traceparent(text: &str) -> bool {
    let hex = |part: &str, length| part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let some = |part: &str| part.bytes().any(|b| b != b'0');
    match text.split('-').collect::<Vec<_>>()[..] {
        ["00", trace, parent, flags] => {
            hex(trace, 32) && some(trace) && hex(parent, 16) && some(parent) && hex(flags, 2)
        }
        _ => false,
    }
}

/// The launcher's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// That of the request.
    pub seq: u64,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// Start: a shim has it. Kill: the shim has been told, or nothing is left. Sync: it runs, or will.
    Done,
    /// Nothing was started or stopped.
    Refused {
        /// A stable name.
        code: Refusal,
        /// What was wrong and what to do about it; no secrets.
        message: String,
    },
}

/// Why the launcher refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The execution has been started before.
    AlreadyStarted,
    /// The execution has no directory, or not one of the api's.
    NoDirectory,
    /// The pack in that version and digest is not in the store.
    UnknownPack,
    /// The pack has no such action.
    UnknownAction,
    /// The action is disabled.
    ActionDisabled,
    /// The parameters do not fit.
    InvalidParameters,
    /// The store, or something in it, is not owned or protected as it must be.
    StoreUntrusted,
    /// The entry point is not there.
    EntryPointMissing,
    /// The entry point may not be executed.
    EntryPointNotExecutable,
    /// The entry point is outside the pack, or a link.
    EntryPointOutside,
    /// The entry point, or a directory above it, may be written by others.
    EntryPointWritable,
    /// The account does not exist here.
    UnknownUser,
    /// Limits are required and cannot be set here.
    LimitsUnavailable,
    /// The host had no process, memory, descriptor or disk space for it.
    Resources,
}
