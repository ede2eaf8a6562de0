//! Errors as RFC 9457 problem details.

use serde::{Deserialize, Serialize};

use crate::base::finding::Finding;
use crate::pack::param::bind::ParamError;

/// The media type of a [`Problem`].
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Problem {
    /// A URI that names the kind of problem: `urn:bolt:problem:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was wrong with this request and what to do about it.
    pub detail: String,
    /// A stable name for programs.
    pub code: Code,
    /// The id of the request, which the agent's log repeats.
    pub request_id: String,
    /// Of `cursor_gone`: the cursor to go on from, which begins with the oldest that is kept; absent: begin without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin: Option<String>,
    /// What is wrong with which parameter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ParamError>,
    /// What the check of a pack found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal, $title:literal;)*) => {
        /// The kinds of problem. Names never change; new ones may come.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
        #[serde(rename_all = "snake_case")]
        pub enum Code {
            $($(#[$doc])* $name,)*
            /// A kind that this version does not know.
            #[serde(other)]
            Unknown,
        }

        impl Code {
            /// Its name, as on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* Code::Unknown => "unknown" }
            }
            /// The HTTP status that it goes with.
            pub fn status(self) -> u16 {
                match self { $(Code::$name => $status,)* Code::Unknown => 500 }
            }
            /// The kind in words.
            pub fn title(self) -> &'static str {
                match self { $(Code::$name => $title,)* Code::Unknown => "unknown problem" }
            }
            /// Every kind.
            pub const ALL: &[Code] = &[$(Code::$name,)*];
        }
    };
}

codes! {
    /// A query or header that cannot be read.
    BadRequest = "bad_request", 400, "the request cannot be read";
    /// A body that is not JSON, has a key twice, or is not what the route takes.
    InvalidBody = "invalid_body", 400, "the body cannot be read";
    /// No name in the client certificate.
    Unauthenticated = "unauthenticated", 401, "the client certificate names no principal";
    /// No grant.
    Forbidden = "forbidden", 403, "no grant allows this";
    /// The instance takes no pushed packs.
    PushNotAllowed = "push_not_allowed", 403, "the instance takes no pushed packs";
    /// No such route.
    NotFound = "not_found", 404, "there is no such resource";
    /// No such pack here.
    UnknownPack = "unknown_pack", 404, "the instance has no such pack";
    /// No pushed version of the pack here.
    NotPushed = "not_pushed", 404, "the instance has no pushed version of the pack";
    /// No such action here.
    UnknownAction = "unknown_action", 404, "the instance has no such action";
    /// No such execution here, or none that the caller may see.
    UnknownExecution = "unknown_execution", 404, "the instance has no such execution";
    /// The route exists, the method does not.
    MethodNotAllowed = "method_not_allowed", 405, "the resource has no such method";
    /// The action may not be run.
    ActionDisabled = "action_disabled", 409, "the action is disabled";
    /// The group is busy and does not queue.
    Busy = "busy", 409, "the action's group is busy";
    /// Another version of the pack is active than the request names.
    VersionMismatch = "version_mismatch", 409, "another version of the pack is active";
    /// The execution has ended.
    AlreadyEnded = "already_ended", 409, "the execution has ended";
    /// The output was removed, to keep the history within its budget.
    OutputGone = "output_gone", 410, "the output is no longer there";
    /// The cursor is of another history file, or lies outside the events that are kept.
    CursorGone = "cursor_gone", 410, "the cursor leads nowhere any more";
    /// What was pushed is signed here already.
    AlreadySigned = "already_signed", 409, "the archive is here as a signed version";
    /// As many packs are pushed as may be.
    TooManyPushed = "too_many_pushed", 409, "the instance takes no more pushed packs";
    /// A body over its limit.
    BodyTooLarge = "body_too_large", 413, "the body is too large";
    /// A body that is not of the type that the route takes.
    UnsupportedMediaType = "unsupported_media_type", 415, "the body has another type than the route takes";
    /// A range that the output does not have.
    RangeNotSatisfiable = "range_not_satisfiable", 416, "the output does not have this range";
    /// The request was meant for another instance.
    WrongInstance = "wrong_instance", 421, "the request names another instance";
    /// Parameters that do not fit.
    InvalidParameters = "invalid_parameters", 422, "the parameters do not fit the action";
    /// What was pushed cannot be activated.
    InvalidPack = "invalid_pack", 422, "the archive is not a pack that can be activated";
    /// A longer time to live than the instance allows.
    TtlTooLong = "ttl_too_long", 422, "the instance allows no such time to live";
    /// The key was used with another body.
    IdempotencyMismatch = "idempotency_mismatch", 422, "the idempotency key was used for another request";
    /// The action's rate is exceeded.
    RateExceeded = "rate_exceeded", 429, "the action was started too often";
    /// A fault of the agent.
    Internal = "internal", 500, "the agent failed";
    /// The queue is full.
    QueueFull = "queue_full", 503, "the queue is full";
    /// The agent is going down or coming up.
    Unavailable = "unavailable", 503, "the agent is not ready";
    /// No descriptor, memory or process is left for it.
    OutOfResources = "out_of_resources", 503, "the host lacks memory, descriptors or processes";
    /// The disk does not do what it is told.
    StorageFailed = "storage_failed", 503, "the disk fails";
    /// The disk is full.
    InsufficientStorage = "insufficient_storage", 507, "the disk is full";
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Problem {
    /// A problem of kind `code`.
    pub fn new(code: Code, detail: impl Into<String>, request_id: impl Into<String>) -> Problem {
        Problem {
            kind: format!("urn:bolt:problem:{code}"),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            code,
            request_id: request_id.into(),
            begin: None,
            errors: Vec::new(),
            findings: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_reads_back_by_its_name() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_string(code).unwrap(), format!("{:?}", code.as_str()));
        }
        assert_eq!(serde_json::from_str::<Code>("\"from_the_future\"").unwrap(), Code::Unknown);
    }
}
