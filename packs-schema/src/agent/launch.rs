//! What the unprivileged agent may ask of the privileged launcher, over an inherited socket pair.
//!
//! A frame is a length (`u32`, little endian, at most [`MAX_FRAME`]) and that many bytes of JSON. The
//! launcher answers each [`Request`] with one [`Reply`] that carries the same `seq`.
//!
//! The launcher also passes the api its listening sockets ([`LISTEN_FD`], [`HEALTH_LISTEN_FD`]), so that a restart refuses no
//! connection.
//!
//! There are four requests. Each names things; none carries a path, a command or an account.
//!
//! # Versions
//!
//! An upgrade replaces both binaries, but a launcher starts the api anew when it dies, so that an older launcher may meet a
//! newer api, and after a downgrade the other way round. Neither may break the other:
//!
//! - A field is added with `#[serde(default, skip_serializing_if = …)]`: it is sent only when it is used, and then under the
//!   next number of [`Request::format`].
//! - The launcher is strict: what it does not know it does not do. A request of a later format it refuses as
//!   [`Refusal::Unsupported`] ([`read_request`]), and goes on; one that claims to be of its own and is not comes from an
//!   api that is no longer itself, and ends the conversation.
//! - The api is not: it passes over fields of an answer that it does not know, and takes a reason that it does not know for
//!   [`Refusal::Other`].

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::base::name::{ActionName, Digest, ExecutionId, PackName, PackVersion, RunId};
use crate::base::strict;

/// The largest frame, in bytes: a request body at its limit, and what stands around it.
pub const MAX_FRAME: usize = 256 << 10;

/// The latest format of requests that this code knows.
pub const FORMAT: u32 = 2;

/// Variable of the api's environment with the descriptor of the socket that its interface listens on. Absent: the api binds
/// `api.listen` itself, as with a launcher of an earlier version.
pub const LISTEN_FD: &str = "BOLT_LISTEN_FD";
/// The same for the plain health listener, `api.health_listen`.
pub const HEALTH_LISTEN_FD: &str = "BOLT_HEALTH_LISTEN_FD";

/// One request of the api.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Chosen by the api, given back in the reply.
    pub seq: u64,
    /// The [`FORMAT`] that is needed to understand it.
    #[serde(default = "first_format", skip_serializing_if = "is_first_format")]
    pub format: u32,
    /// What is asked.
    #[serde(rename = "ask")]
    pub operation: Operation,
}

impl Request {
    /// A request, of the earliest format that has it: an older launcher understands what it can.
    pub fn new(seq: u64, operation: Operation) -> Request {
        let format = match operation {
            Operation::Start(_) | Operation::Kill { .. } | Operation::Sync => first_format(),
            Operation::Accept(_) => 2,
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

/// What the api may ask.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Operation {
    /// Start an execution, whose directory the api has made.
    Start(Box<Start>),
    /// Stop an execution: leave the `kill` file to its shim, or stop what is left of it when it has none.
    Kill {
        /// Which.
        execution: ExecutionId,
    },
    /// Record that an execution was accepted and waits, while its version is the active one: this request, and no other, may
    /// be started once when the version has been replaced. From format 2 on.
    Accept(Box<Start>),
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

/// Why a request is not one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestError {
    /// It is one of a newer api: to be refused under its number.
    Unsupported {
        /// Its number.
        seq: u64,
    },
    /// It is none: whoever sent it is not to be served.
    Broken {
        /// Where the reader stumbled. Not over what: that may be secret.
        column: usize,
    },
}

/// Reads a request.
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

/// The launcher's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// That of the request.
    pub seq: u64,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Start: a shim has it. Accept: it is on record. Kill: the shim has been told, or nothing is left. Sync: it runs, or will.
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
    /// The version is in the store and is not the active one, and the execution was not accepted while it was.
    NotActive,
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
    /// As many executions run as may; it may be asked again when one has ended.
    TooManyRunning,
    /// The launcher is of another version and does not know what was asked.
    Unsupported,
    /// A reason of a newer launcher; the message says which.
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
    fn what_a_newer_api_asks_is_refused_and_not_half_done() {
        let mut newer = start();
        newer["ask"]["start"]["dry"] = json!(true);
        let freeze = json!({"seq": 7, "ask": {"freeze": {"execution": "x"}}});
        let outside = json!({"seq": 7, "ask": "sync", "urgent": true});
        let known = json!({"seq": 7, "ask": "sync"});
        for mut request in [newer, freeze, outside, known] {
            let claims_to_be_ours = read(&request);
            assert!(matches!(claims_to_be_ours, Err(RequestError::Broken { .. }) | Ok(7)), "{request}");
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
    fn only_what_an_older_launcher_does_not_know_has_a_later_format() {
        let Ok(Request { operation: Operation::Start(start), .. }) = read_request(start().to_string().as_bytes())
        else {
            panic!()
        };
        let format = |ask| Request::new(1, ask).format;
        assert_eq!(
            (format(Operation::Sync), format(Operation::Start(start.clone())), format(Operation::Accept(start))),
            (1, 1, 2)
        );
    }

    #[test]
    fn an_answer_of_a_newer_launcher_is_understood() {
        let refused = json!({"refused": {"code": "host_on_fire", "message": "why", "since_ms": 5}});
        let reply: Reply = serde_json::from_value(json!({"seq": 7, "outcome": refused, "took_ms": 3})).unwrap();
        assert_eq!(reply.outcome, Outcome::Refused { code: Refusal::Other, message: "why".to_owned() });
    }
}
