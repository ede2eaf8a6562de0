//! Handlers of the routes. A handler is called only after its verb was granted; it asks the [`Caller`] which actions and
//! executions the caller may see or change.

pub(super) mod access;
pub(super) mod create;
pub(super) mod executions;
pub(super) mod instance;
pub(super) mod output;
pub(super) mod push;
pub(super) mod scope;
mod start;
pub(super) mod stream;

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};
use packs_schema::agent::rest::Execution;
use packs_schema::base::name::ExecutionId;
use serde::Serialize;

use super::App;
use super::body::{self, Body};
use super::live_access::LiveAccess;
use super::problem::ApiError;
use super::query::Query;
use super::refusal::Subject;
use super::visibility::covers;
use crate::access::Caller;
use crate::history::HistoryError;

/// Request whose route is known and whose verb is granted.
pub(super) struct Call {
    pub(super) app: Arc<App>,
    pub(super) caller: Caller,
    /// Name of the authority that vouches for the caller.
    pub(super) authority: Option<String>,
    /// Action that the request is about, for the log.
    pub(super) subject: Subject,
    /// Access of the caller, checked again for as long as the request takes.
    pub(super) live_access: Arc<LiveAccess>,
    /// Path segment in the place of the route's `{name}`.
    pub(super) segment: String,
    pub(super) query: Query,
    pub(super) headers: HeaderMap,
    pub(super) body: Incoming,
}

/// Returns a JSON response.
pub(super) fn json<T: Serialize>(status: u16, value: &T) -> Response<Body> {
    let bytes = serde_json::to_vec(value).expect("our own messages serialise");
    content(status, "application/json", Body::Whole(bytes.into()))
}

/// Returns a response of another type.
pub(super) fn content(status: u16, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Returns the execution in the path if the caller may see it; one that it may not see is reported as unknown.
async fn visible(call: &Call) -> Result<Execution, ApiError> {
    let id = execution_id(call)?;
    let Some(record) = call.app.exec.view(&id).await? else { return Err(ApiError::UnknownExecution(id)) };
    call.subject.set(&record.action);
    if covers(&call.app.registry, &call.caller, &record.action) {
        call.live_access.require(&record.action);
        return Ok(record);
    }
    let reason = format!("no grant lets {} read {}", call.caller.principal(), record.action);
    Err(hidden(ApiError::UnknownExecution(id), reason))
}

/// Waits for the end of an execution, at most for `most` and until the agent stops; returns its state then.
async fn wait_for_end(app: &App, id: &ExecutionId, most: Duration) -> Result<Option<Execution>, HistoryError> {
    let mut stopping = app.stopping.clone();
    tokio::select! {
        ended = app.exec.wait(id, most) => ended,
        () = body::stopped(&mut stopping) => app.exec.view(id).await,
    }
}

/// Returns the error for something that the caller may not see: the same as if it did not exist.
fn hidden(shown: ApiError, reason: String) -> ApiError {
    ApiError::Hidden { shown: Box::new(shown), reason }
}

fn execution_id(call: &Call) -> Result<ExecutionId, ApiError> {
    ExecutionId::new(call.segment.as_str()).map_err(|e| ApiError::BadRequest(e.to_string()))
}
