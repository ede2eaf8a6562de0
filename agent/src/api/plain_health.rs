//! Responses of the plain health listener: `GET /v1/health` with the state and codes, and 404 to everything else.
//!
//! Whoever reaches the listener may ask, without a certificate: an answer has no instance id, no version and no message.

use hyper::{Method, Request, Response, StatusCode};
use packs_schema::agent::rest::{Health, Reason};
use serde::Serialize;

use super::body::Body;
use super::handlers::json;

/// Body of a response.
#[derive(Serialize)]
struct PlainHealth<'a> {
    live: bool,
    ready: bool,
    degraded: bool,
    reasons: Vec<Code<'a>>,
    notes: Vec<Code<'a>>,
}

/// Problem or note without its message.
#[derive(PartialEq, Serialize)]
struct Code<'a> {
    code: &'a str,
}

/// Responds to a request; `health` is called for a probe only.
pub(super) fn respond<T>(request: &Request<T>, health: impl FnOnce() -> Health) -> Response<Body> {
    if request.method() == Method::GET && request.uri().path() == "/v1/health" {
        let Health { live, ready, degraded, reasons, notes, instance: _, version: _ } = &health();
        let (reasons, notes) = (codes(reasons), codes(notes));
        let body = PlainHealth { live: *live, ready: *ready, degraded: *degraded, reasons, notes };
        return json(if *ready { 200 } else { 503 }, &body);
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

/// Returns each code once: two failed packs have the same.
fn codes(reasons: &[Reason]) -> Vec<Code<'_>> {
    let mut codes: Vec<Code> = reasons.iter().map(|reason| Code { code: &reason.code }).collect();
    codes.dedup();
    codes
}
