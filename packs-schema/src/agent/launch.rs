//! Requests of the unprivileged api to the privileged launcher, over an inherited socket pair.
//!
//! A frame is a length (`u32`, little endian, at most [`MAX_FRAME`]) and that many bytes of JSON. The launcher answers
//! each [`Request`] with one [`Reply`] of the same `seq`, except [`Operation::Prepare`], which it answers only if it refuses.
//!
//! The launcher also passes the listening sockets to the api ([`LISTEN_FD`], [`HEALTH_LISTEN_FD`],
//! [`LOCAL_LISTEN_FD`]), so that a restart refuses no connection, and a socket for signs of life ([`ALIVE_FD`]).
//!
//! There are five requests. They contain names and parameters; none contains a path, a command or an account.
//!
//! # Versions
//!
//! An upgrade replaces both binaries, but a running launcher restarts the api when it dies, so an older launcher may
//! talk to a newer api, and the reverse after a downgrade. Both must work:
//!
//! - A field is added with `#[serde(default, skip_serializing_if = …)]`: it is sent only if it is used, and then under
//!   the next number of [`Request::format`].
//! - The launcher is strict. It refuses a request of a later format as [`Refusal::Unsupported`] ([`read_request`]) and
//!   continues; an invalid request of its own format comes from a compromised or broken api and ends the connection.
//! - The api is lenient: it ignores unknown fields of a reply, and treats an unknown reason as [`Refusal::Other`].

pub mod alive;
mod stream;

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::base::name::{ActionName, Digest, ExecutionId, PackName, PackVersion, RunId};
use crate::base::strict;

pub use stream::{InvalidLength, RequestStream};

/// Maximum size of a frame, in bytes: the largest request body and its envelope.
pub const MAX_FRAME: usize = 256 << 10;

/// Latest format of requests that this code supports.
pub const FORMAT: u32 = 3;

/// Time after which the launcher discards a preparation without a start.
pub const PREPARED_FOR: Duration = Duration::from_millis(100);

/// Variable of the api's environment with the descriptor of its listening socket. If absent, the api binds `api.listen`
/// itself, as with an earlier launcher.
pub const LISTEN_FD: &str = "BOLT_LISTEN_FD";
/// Variable of the api's environment with the descriptor of the plain health listener, `api.health_listen`.
pub const HEALTH_LISTEN_FD: &str = "BOLT_HEALTH_LISTEN_FD";
/// Variable of the api's environment with the descriptor of the socket of local access, a Unix socket. If absent, as with an
/// earlier launcher, the api has none.
pub const LOCAL_LISTEN_FD: &str = "BOLT_LOCAL_LISTEN_FD";
/// Variable of the api's environment with the descriptor of its end of a socket pair for signs of life: its event loop answers
/// whatever the launcher writes there ([`alive`]) with one byte. The launcher replaces an api that did so and does not any
/// more. If absent, as with an earlier launcher, the api gives no signs.
pub const ALIVE_FD: &str = "BOLT_ALIVE_FD";
/// Name of the socket of local access in the run-time directory.
pub const LOCAL_SOCKET: &str = "local.sock";

/// Variable of launcher and api, and its value, by which glibc keeps no freed blocks for each thread. Those of a start would lie
/// between what stays, on pages that cannot be returned: 0.2 to 0.4 MB of an api at rest, and a quarter of a shim. The launcher sets
/// it for the api; its own is in the unit. Other C libraries ignore it.
pub const HEAP: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0");

/// Request of the api.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Sequence number, chosen by the api and returned in the reply.
    pub seq: u64,
    /// [`FORMAT`] that is needed to understand the request.
    #[serde(default = "first_format", skip_serializing_if = "is_first_format")]
    pub format: u32,
    /// Operation.
    #[serde(rename = "ask")]
    pub operation: Operation,
}

impl Request {
    /// Creates a request in the earliest format that supports it, so that an older launcher understands it if it can.
    pub fn new(seq: u64, operation: Operation) -> Request {
        let format = match operation {
            Operation::Start(_) | Operation::Kill { .. } | Operation::Sync => first_format(),
            Operation::Accept(_) => 2,
            Operation::Prepare(_) => 3,
        };
        Request { seq, format, operation }
    }
}

fn first_format() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_first_format(format: &u32) -> bool {
    *format == first_format()
}

/// Operation of a request.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Operation {
    /// Start an execution whose directory the api has created.
    Start(Box<Start>),
    /// Stop an execution: write the `kill` file for its shim, or kill what remains of it if it has no shim.
    Kill {
        /// Execution id.
        execution: ExecutionId,
    },
    /// Record an accepted execution that waits while its version is active: exactly this request may then be started
    /// once, even after the version was replaced. Requires format 2.
    Accept(Box<Start>),
    /// Make ready for an execution whose acceptance is being written to the disk: look everything up, create its cgroups, and perhaps
    /// a process that waits before it executes anything of the action. Exactly this request may be sent as [`Operation::Start`] within [`PREPARED_FOR`]; otherwise nothing is left of
    /// it. Not answered unless it is refused. Requires format 3.
    Prepare(Box<Start>),
    /// Run the sync process now. Requests during a run are combined into one more run.
    Sync,
}

/// Execution to start. Does not implement `Debug`: parameters may be secret.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Id, and name of its directory.
    pub execution: ExecutionId,
    /// Pack …
    pub pack: PackName,
    /// … in this version …
    pub version: PackVersion,
    /// … with this digest.
    pub digest: Digest,
    /// Action of the pack.
    pub action: ActionName,
    /// Parameters of the caller, before defaults.
    #[serde(deserialize_with = "strict::object")]
    pub parameters: Map<String, Value>,
    /// True for a dry run.
    pub noop: bool,
    /// Time-out of the caller, in milliseconds, if shorter than the action's.
    pub timeout_ms: Option<u64>,
    /// Run that it belongs to.
    pub run: Option<RunId>,
    /// W3C Trace Context of the caller. An invalid value is ignored, as the recommendation requires.
    #[serde(default, deserialize_with = "traceparent")]
    pub traceparent: Option<String>,
}

fn traceparent<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.filter(|text| is_traceparent(text)))
}

/// True for a `traceparent` of version 00 (W3C Trace Context, section 3.2), which is safe in an action's environment.
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

/// Error returned when a request cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestError {
    /// Request of a newer api, to be refused under its sequence number.
    Unsupported {
        /// Sequence number.
        seq: u64,
    },
    /// Invalid request; the connection must be closed.
    Broken {
        /// Column of the error. The text is not included, because it may be secret.
        column: usize,
    },
}

/// Parses a request.
pub fn read_request(json: &[u8]) -> Result<Request, RequestError> {
    #[derive(Deserialize)]
    struct Envelope {
        seq: u64,
        #[serde(default = "first_format")]
        format: u32,
    }
    if let Ok(Envelope { seq, format }) = serde_json::from_slice(json)
        && format > FORMAT
    {
        return Err(RequestError::Unsupported { seq });
    }
    serde_json::from_slice(json).map_err(|error| RequestError::Broken { column: error.column() })
}

/// Reply of the launcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Sequence number of the request.
    pub seq: u64,
    /// Outcome.
    pub outcome: Outcome,
}

/// Outcome of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Start: a shim runs it. Accept: it is recorded. Kill: the shim is notified, or nothing remains. Sync: it runs, or
    /// will.
    Done,
    /// Refused: nothing was started or stopped.
    Refused {
        /// Stable code.
        code: Refusal,
        /// Problem and remedy; contains no secrets.
        message: String,
    },
}

/// Reason for a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// The execution was started before.
    AlreadyStarted,
    /// The execution has no directory, or one that the api does not own.
    NoDirectory,
    /// The pack is not in the store in that version and digest.
    UnknownPack,
    /// The version is not active, and the execution was not accepted while it was.
    NotActive,
    /// The pack has no such action.
    UnknownAction,
    /// The action is disabled.
    ActionDisabled,
    /// The parameters do not fit the action.
    InvalidParameters,
    /// The store, or a file in it, has an unsafe owner or mode.
    StoreUntrusted,
    /// The entry point does not exist.
    EntryPointMissing,
    /// The entry point is not executable.
    EntryPointNotExecutable,
    /// The entry point is outside the pack, or a symbolic link.
    EntryPointOutside,
    /// The entry point, or a directory above it, is writable by others.
    EntryPointWritable,
    /// The account does not exist on this host.
    UnknownUser,
    /// Limits are required but cannot be set on this host.
    LimitsUnavailable,
    /// The host lacks processes, memory, descriptors or disk space.
    Resources,
    /// The maximum number of executions is running; the request may be repeated later.
    TooManyRunning,
    /// The launcher's version does not support the operation.
    Unsupported,
    /// Reason of a newer launcher; the message explains it.
    #[serde(other)]
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn start() -> serde_json::Value {
        json!({"seq": 7, "ask": {"start": {
            "execution": "01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa", "pack": "linux", "version": "1.0.0",
            "digest": "a".repeat(64), "action": "a", "parameters": {}, "noop": false, "timeout_ms": null, "run": null,
        }}})
    }

    fn read(request: &serde_json::Value) -> Result<u64, RequestError> {
        read_request(request.to_string().as_bytes()).map(|request| request.seq)
    }

    #[test]
    fn a_request_of_an_older_api_is_read() {
        assert_eq!(read(&start()), Ok(7), "without what came later, such as traceparent");
        assert_eq!(read(&json!({"seq": 8, "ask": "sync"})), Ok(8));
    }

    #[test]
    fn a_request_of_a_later_format_is_refused_as_a_whole() {
        let mut newer = start();
        newer["ask"]["start"]["dry"] = json!(true);
        let freeze = json!({"seq": 7, "ask": {"freeze": {"execution": "x"}}});
        let outside = json!({"seq": 7, "ask": "sync", "urgent": true});
        let known = json!({"seq": 7, "ask": "sync"});
        for mut request in [newer, freeze, outside, known] {
            let in_this_format = read(&request);
            assert!(matches!(in_this_format, Err(RequestError::Broken { .. }) | Ok(7)), "{request}");
            request["format"] = json!(FORMAT + 1);
            assert_eq!(read(&request), Err(RequestError::Unsupported { seq: 7 }), "{request}");
        }
        for broken in [json!({"ask": "sync"}), json!({"seq": 7}), json!({"seq": "7", "ask": "sync"}), json!([])] {
            assert!(matches!(read(&broken), Err(RequestError::Broken { .. })), "{broken}");
        }
        let sent = serde_json::to_value(Request::new(7, Operation::Sync)).unwrap();
        assert_eq!(sent, json!({"seq": 7, "ask": "sync"}), "an older launcher understands what it can");
    }

    #[test]
    fn each_operation_is_sent_in_its_earliest_format() {
        let Ok(Request { operation: Operation::Start(start), .. }) = read_request(start().to_string().as_bytes())
        else {
            panic!()
        };
        let format = |ask| Request::new(1, ask).format;
        assert_eq!(
            (
                format(Operation::Sync),
                format(Operation::Start(start.clone())),
                format(Operation::Accept(start.clone()))
            ),
            (1, 1, 2)
        );
        assert_eq!(format(Operation::Prepare(start)), 3);
    }

    #[test]
    fn an_answer_of_a_newer_launcher_is_understood() {
        let refused = json!({"refused": {"code": "host_on_fire", "message": "why", "since_ms": 5}});
        let reply: Reply = serde_json::from_value(json!({"seq": 7, "outcome": refused, "took_ms": 3})).unwrap();
        assert_eq!(reply.outcome, Outcome::Refused { code: Refusal::Other, message: "why".to_owned() });
    }
}
