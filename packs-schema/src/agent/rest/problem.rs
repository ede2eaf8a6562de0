//! Errors as RFC 9457 problem details.

use serde::{Deserialize, Serialize};

use crate::base::finding::Finding;
use crate::pack::param::bind::ParamError;

/// Media type of a [`Problem`].
pub const PROBLEM_TYPE: &str = "application/problem+json";

/// Error response (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Problem {
    /// URI of the kind of problem: `urn:bolt:problem:<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Title of the kind of problem.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// Problem with this request, and the remedy.
    pub detail: String,
    /// Stable code for programs.
    pub code: Code,
    /// Id of the request, which is also in the agent's log.
    pub request_id: String,
    /// For `cursor_gone`: cursor to continue with, which starts at the oldest kept event; absent: start without a
    /// cursor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin: Option<String>,
    /// Errors by parameter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ParamError>,
    /// Findings of the check of a pack.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal, $title:literal;)*) => {
        /// Kinds of problems. Codes never change; new ones may be added.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
        #[serde(rename_all = "snake_case")]
        pub enum Code {
            $($(#[$doc])* $name,)*
            /// Kind that this version does not know.
            #[serde(other)]
            Unknown,
        }

        impl Code {
            /// Returns the code on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* Code::Unknown => "unknown" }
            }
            /// Returns the HTTP status.
            pub fn status(self) -> u16 {
                match self { $(Code::$name => $status,)* Code::Unknown => 500 }
            }
            /// Returns the title.
            pub fn title(self) -> &'static str {
                match self { $(Code::$name => $title,)* Code::Unknown => "unknown problem" }
            }
            /// All kinds.
            pub const ALL: &[Code] = &[$(Code::$name,)*];
        }
    };
}

codes! {
    /// Invalid query or header.
    BadRequest = "bad_request", 400, "invalid request";
    /// Invalid body: not JSON, a duplicate key, or an unexpected shape.
    InvalidBody = "invalid_body", 400, "invalid body";
    /// The client certificate contains no principal.
    Unauthenticated = "unauthenticated", 401, "the client certificate contains no principal";
    /// No grant allows the request.
    Forbidden = "forbidden", 403, "no grant allows this";
    /// The instance does not allow pushed packs.
    PushNotAllowed = "push_not_allowed", 403, "the instance does not allow pushed packs";
    /// No such route.
    NotFound = "not_found", 404, "no such resource";
    /// No such pack on the instance.
    UnknownPack = "unknown_pack", 404, "the instance has no such pack";
    /// No pushed version of the pack on the instance.
    NotPushed = "not_pushed", 404, "the instance has no pushed version of the pack";
    /// No such action on the instance.
    UnknownAction = "unknown_action", 404, "the instance has no such action";
    /// No such execution on the instance, or none that the caller may see.
    UnknownExecution = "unknown_execution", 404, "the instance has no such execution";
    /// The route does not support the method.
    MethodNotAllowed = "method_not_allowed", 405, "the resource does not support this method";
    /// The action is disabled.
    ActionDisabled = "action_disabled", 409, "the action is disabled";
    /// The concurrency group is busy and does not queue.
    Busy = "busy", 409, "the action's concurrency group is busy";
    /// The active version of the pack is not the requested one.
    VersionMismatch = "version_mismatch", 409, "another version of the pack is active";
    /// The action has another class than the caller named.
    ClassMismatch = "class_mismatch", 409, "the action has another class";
    /// The execution has ended.
    AlreadyEnded = "already_ended", 409, "the execution has ended";
    /// The output was removed to keep the history within its budget.
    OutputGone = "output_gone", 410, "the output was removed";
    /// The cursor belongs to another history file, or is outside the kept events.
    CursorGone = "cursor_gone", 410, "the cursor is no longer valid";
    /// The pushed archive is on the instance as a signed version.
    AlreadySigned = "already_signed", 409, "the archive is already active as a signed version";
    /// The maximum number of packs is pushed.
    TooManyPushed = "too_many_pushed", 409, "too many pushed packs";
    /// The body exceeds its maximum size.
    BodyTooLarge = "body_too_large", 413, "the body is too large";
    /// The body has an unsupported media type.
    UnsupportedMediaType = "unsupported_media_type", 415, "unsupported media type of the body";
    /// The output does not have the requested range.
    RangeNotSatisfiable = "range_not_satisfiable", 416, "the output does not have this range";
    /// The request is for another instance.
    WrongInstance = "wrong_instance", 421, "the request is for another instance";
    /// The parameters do not fit the action.
    InvalidParameters = "invalid_parameters", 422, "the parameters do not fit the action";
    /// The pushed pack cannot be activated.
    InvalidPack = "invalid_pack", 422, "the pack cannot be activated";
    /// The time to live exceeds the instance's maximum.
    TtlTooLong = "ttl_too_long", 422, "the time to live is too long";
    /// The idempotency key was used with another body.
    IdempotencyMismatch = "idempotency_mismatch", 422, "the idempotency key was used for another request";
    /// The rate of the action, or a limit of the caller, is exceeded.
    RateExceeded = "rate_exceeded", 429, "too many executions were started, or have not ended";
    /// Internal error of the agent.
    Internal = "internal", 500, "internal error of the agent";
    /// The queue is full.
    QueueFull = "queue_full", 503, "the queue is full";
    /// The agent is starting or shutting down.
    Unavailable = "unavailable", 503, "the agent is not ready";
    /// The host lacks descriptors, memory or processes.
    OutOfResources = "out_of_resources", 503, "the host lacks memory, descriptors or processes";
    /// The disk reports errors.
    StorageFailed = "storage_failed", 503, "the disk reports errors";
    /// The audit log cannot be written, and what is not recorded is not done.
    AuditUnavailable = "audit_unavailable", 507, "the audit log cannot be written";
    /// The disk is full.
    InsufficientStorage = "insufficient_storage", 507, "the disk is full";
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Problem {
    /// Creates a problem of kind `code`.
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
    fn codes_parse_back() {
        for code in Code::ALL {
            assert_eq!(serde_json::to_string(code).unwrap(), format!("{:?}", code.as_str()));
        }
        assert_eq!(serde_json::from_str::<Code>("\"from_the_future\"").unwrap(), Code::Unknown);
    }
}
