//! Route table of the whole interface. Requests are routed by it, and `openapi.json` is made from it.

use hyper::Method;
use packs_schema::agent::grants::Verb;
#[cfg(test)]
use packs_schema::agent::rest::{
    AccessReview, ActionView, CreateExecution, Execution, Health, Info, KillRequest, OutputChunk, PackList, PackView,
    Page, Pushed, StateChange, SyncStatus, Unpushed,
};
#[cfg(test)]
use schemars::{Schema, SchemaGenerator};

/// Operation of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Health,
    Info,
    ListPacks,
    GetPack,
    SyncPacks,
    PushPack,
    UnpushPack,
    ListActions,
    GetAction,
    CreateExecution,
    ListExecutions,
    GetExecution,
    GetOutput,
    GetStdout,
    GetStderr,
    KillExecution,
    Events,
    Access,
    Metrics,
    OpenApi,
}

#[cfg(test)]
type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// Body of a request.
#[cfg(test)]
pub(super) enum Takes {
    /// JSON of this schema.
    Json(SchemaOf),
    /// Archive of a pack.
    Archive,
}

/// Body of a response.
#[cfg(test)]
pub(super) enum Content {
    /// JSON of this schema.
    Json(SchemaOf),
    /// Lines of JSON of this schema.
    Lines(SchemaOf),
    /// Prometheus's text.
    Text,
    /// Bytes as the action wrote them.
    Bytes,
    /// Some JSON document.
    Document,
}

/// Entry of the table. The program needs no more than what routes by it; the rest is for `openapi.json`.
pub(super) struct Route {
    pub(super) method: Method,
    /// Path, with `{name}` for one segment.
    pub(super) path: &'static str,
    /// Verbs of which a grant must give one; empty: any caller with a certificate.
    pub(super) verbs: &'static [Verb],
    pub(super) operation: Operation,
    /// Status of a success.
    #[cfg(test)]
    pub(super) status: u16,
    /// Query parameters, with their descriptions.
    pub(super) query: &'static [(&'static str, &'static str)],
    #[cfg(test)]
    pub(super) request: Option<Takes>,
    #[cfg(test)]
    pub(super) response: Content,
    #[cfg(test)]
    pub(super) doc: &'static str,
}

const WAIT: (&str, &str) = ("wait", "Wait for the end of the execution at most this long, such as 10s; at most 60s.");
const FOLLOW: (&str, &str) = ("follow", "true: stream until the end of the execution, as output is written.");
const START: (&str, &str) = (
    "output",
    "With the execution, return the first bytes of its output: at most this many of each stream, 1 to 65536. Needs the verb read.",
);
const CREATE: &[(&str, &str)] =
    &[WAIT, START, ("class", "Class that the action must have; otherwise 409, and nothing is started.")];
const GET: &[(&str, &str)] = &[WAIT, START];
const LIST: &[(&str, &str)] = &[
    ("action", "Only executions of this action."),
    ("state", "Only executions in this state."),
    ("ended", "true: only executions that have ended."),
    ("principal", "Only executions of this caller."),
    ("run", "Only executions of this run."),
    ("since_ms", "Only executions accepted at or after this time, in milliseconds since 1970."),
    ("until_ms", "Only executions accepted before this time, in milliseconds since 1970."),
    ("limit", "Maximum number of items, 1 to 500; default 50."),
    ("cursor", "Cursor `next` of the previous page; 410 if the history was replaced since."),
];
const OUTPUT: &[(&str, &str)] = &[
    FOLLOW,
    ("stdout_from", "Bytes of standard output to skip."),
    ("stderr_from", "Bytes of standard error to skip."),
];
const BYTES: &[(&str, &str)] = &[FOLLOW, ("offset", "With follow: bytes of the stream to skip.")];
const PUSH: &[(&str, &str)] = &[
    ("pack", "Name of the pack."),
    ("version", "Version of the pack."),
    ("digest", "SHA-256 of the archive; an archive with another digest is refused."),
    ("ttl", "Time to live, such as 2h; default dev.ttl of agent.toml."),
];
const EVENTS: &[(&str, &str)] = &[
    FOLLOW,
    (
        "after",
        "Only events after this cursor; with follow and without a cursor: only new events. 410 if the history was replaced since.",
    ),
];

const ACCESS: &[(&str, &str)] = &[
    ("verb", "Verb in question."),
    ("action", "Its object: <pack>.<action>, or <pack>.* for all actions of a pack; without it, anything at all."),
];

#[cfg(test)]
fn of<T: schemars::JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

#[cfg(test)]
use Content::{Bytes, Document, Json, Lines, Text};
use Operation as Op;
use Verb::{Kill, Metrics, Push, Read, Run, Sync};

macro_rules! routes {
    ($($method:ident $path:literal $verbs:expr, $operation:expr, $status:literal, $query:expr, $request:expr, $response:expr, $doc:literal;)*) => {
        /// Every route.
        pub(super) const ROUTES: &[Route] = &[$(Route {
            method: Method::$method, path: $path, verbs: $verbs, operation: $operation, #[cfg(test)] status: $status,
            query: $query, #[cfg(test)] request: $request, #[cfg(test)] response: $response, #[cfg(test)] doc: $doc,
        },)*];
    };
}

#[rustfmt::skip]
routes! {
    GET  "/v1/health"                 &[],              Op::Health,          200, &[],     None, Json(of::<Health>),            "Readiness and problems of the agent; 503 when it is not ready.";
    GET  "/v1/info"                   &[Read],          Op::Info,            200, &[],     None, Json(of::<Info>),              "Facts of the instance, and the limits enforced on actions.";
    GET  "/v1/packs"                  &[Read],          Op::ListPacks,       200, &[],     None, Json(of::<PackList>),          "Packs of which the caller may see an action, active and failed versions, and the last polls.";
    GET  "/v1/packs/{pack}"           &[Read],          Op::GetPack,         200, &[],     None, Json(of::<PackView>),          "One pack.";
    POST "/v1/packs/sync"             &[Sync],          Op::SyncPacks,       202, &[],     None, Json(of::<SyncStatus>),        "Poll the repository now; the response is the previous status.";
    POST "/v1/packs/push"             &[Push],          Op::PushPack,        200, PUSH,    Some(Takes::Archive), Json(of::<Pushed>), "Install an unsigned pack for a limited time, where [dev] push allows it. 200: it is active; 202: the outcome is not known yet.";
    POST "/v1/packs/{pack}/unpush"    &[Push],          Op::UnpushPack,      200, &[],     None, Json(of::<Unpushed>),          "Remove a pushed version before it expires.";
    GET  "/v1/actions"                &[Read, Run],     Op::ListActions,     200, &[],     None, Json(of::<Page<ActionView>>),  "Actions that the caller may see or run.";
    GET  "/v1/actions/{action}"       &[Read, Run],     Op::GetAction,       200, &[],     None, Json(of::<ActionView>),        "One action: parameters, limits, class.";
    POST "/v1/executions"             &[Run],           Op::CreateExecution, 202, CREATE,  Some(Takes::Json(of::<CreateExecution>)), Json(of::<Execution>), "Run an action. 202: it is recorded durably and will reach a terminal state; 200: it has ended.";
    GET  "/v1/executions"             &[Read],          Op::ListExecutions,  200, LIST,    None, Json(of::<Page<Execution>>),   "Executions, newest first.";
    GET  "/v1/executions/{id}"        &[Read],          Op::GetExecution,    200, GET,     None, Json(of::<Execution>),         "One execution.";
    GET  "/v1/executions/{id}/output" &[Read],          Op::GetOutput,       200, OUTPUT,  None, Lines(of::<OutputChunk>),      "Both output streams, interleaved and with times.";
    GET  "/v1/executions/{id}/stdout" &[Read],          Op::GetStdout,       200, BYTES,   None, Bytes,                         "Standard output as it was written; supports Range.";
    GET  "/v1/executions/{id}/stderr" &[Read],          Op::GetStderr,       200, BYTES,   None, Bytes,                         "Standard error as it was written; supports Range.";
    POST "/v1/executions/{id}/kill"   &[Kill],          Op::KillExecution,   202, &[],     Some(Takes::Json(of::<KillRequest>)), Json(of::<Execution>), "Stop an execution: SIGTERM, grace period, then SIGKILL to the whole cgroup.";
    GET  "/v1/events"                 &[Read],          Op::Events,          200, EVENTS,  None, Lines(of::<StateChange>),      "State changes of executions, resumable after an event.";
    GET  "/v1/access"                 Verb::ALL,        Op::Access,          200, ACCESS,  None, Json(of::<AccessReview>),      "Whether the grants let the caller do something, and which grant decides.";
    GET  "/v1/metrics"                &[Read, Metrics], Op::Metrics,         200, &[],     None, Text,                          "Metrics for Prometheus, of the actions that the caller may see.";
    GET  "/v1/openapi.json"           &[],              Op::OpenApi,         200, &[],     None, Document,                      "This document.";
}

/// Result of a lookup.
pub(super) enum RouteMatch<'a> {
    /// The route, with the path segment in the place of its `{name}`.
    Route(&'static Route, Option<&'a str>),
    /// The path exists with other methods only.
    OtherMethods(String),
    /// No such path exists.
    Nothing,
}

/// Finds the route of a request.
pub(super) fn find<'a>(method: &Method, path: &'a str) -> RouteMatch<'a> {
    let mut methods: Vec<&str> = Vec::new();
    // A literal path takes precedence over a `{name}` (OpenAPI 3.1, path templating).
    let literal = ROUTES.iter().any(|route| route.path == path);
    for route in ROUTES {
        if let Some(segment) = matches(route.path, path).filter(|segment| !literal || segment.is_none()) {
            if route.method == *method {
                return RouteMatch::Route(route, segment);
            }
            methods.push(route.method.as_str());
        }
    }
    methods.dedup();
    if methods.is_empty() { RouteMatch::Nothing } else { RouteMatch::OtherMethods(methods.join(", ")) }
}

/// Matches the path against the pattern; returns the segment for its `{name}`.
fn matches<'a>(pattern: &str, path: &'a str) -> Option<Option<&'a str>> {
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    let mut captured = None;
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(captured),
            (Some(name), Some(segment)) if name.starts_with('{') && !segment.is_empty() => captured = Some(segment),
            (Some(name), Some(segment)) if name == segment => {}
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_matched_segment_by_segment() {
        assert!(matches!(find(&Method::GET, "/v1/health"), RouteMatch::Route(r, None) if r.operation == Op::Health));
        assert!(
            matches!(find(&Method::GET, "/v1/executions/x"), RouteMatch::Route(r, Some("x")) if r.operation == Op::GetExecution)
        );
        assert!(
            matches!(find(&Method::POST, "/v1/packs/sync"), RouteMatch::Route(r, None) if r.operation == Op::SyncPacks)
        );
        for nothing in ["/", "", "/v1", "/v1/", "/v1/health/", "//v1/health", "/v1/executions/", "/v2/health"] {
            assert!(matches!(find(&Method::GET, nothing), RouteMatch::Nothing), "{nothing}");
        }
        for method in [Method::GET, Method::DELETE] {
            assert!(matches!(find(&method, "/v1/packs/sync"), RouteMatch::OtherMethods(m) if m == "POST"), "{method}");
        }
        assert!(matches!(find(&Method::DELETE, "/v1/executions"), RouteMatch::OtherMethods(m) if m == "POST, GET"));
    }

    #[test]
    fn no_two_routes_are_the_same_and_all_but_two_need_a_grant() {
        for (i, one) in ROUTES.iter().enumerate() {
            for other in &ROUTES[i + 1..] {
                assert!((&one.method, one.path) != (&other.method, other.path), "{}", one.path);
                assert!(one.operation != other.operation, "{}", one.path);
            }
        }
        let open: Vec<&str> = ROUTES.iter().filter(|r| r.verbs.is_empty()).map(|r| r.path).collect();
        assert_eq!(open, ["/v1/health", "/v1/openapi.json"]);
    }
}
