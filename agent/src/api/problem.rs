//! Errors of the interface, and the one place that says which code, status and words each becomes.
//!
//! The caller sees code, a safe message and the request id; the log sees the chain of causes.

use std::time::Duration;

use hyper::header::{ALLOW, CONTENT_RANGE, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use packs_schema::finding::Finding;
use packs_schema::name::{ActionRef, ExecutionId, InstanceId, PackName};
use packs_schema::param::bind::ParamError;
use packs_schema::rest::{ARCHIVE_TYPE, Code, MAX_BODY, PROBLEM_TYPE, Problem};

use super::body::Body;
use crate::exec::output::OutputError;
use crate::exec::{KillError, LauncherError, SubmitError};
use crate::history::HistoryError;
use crate::log::chain;
use crate::registry::RegistryError;

/// Everything that a request can end in but an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("{0}")]
    BadRequest(String),
    #[error("{0}")]
    InvalidBody(String),
    #[error("{0}")]
    Unauthenticated(String),
    #[error("{0}")]
    Forbidden(String),
    #[error("there is no resource {0}; GET /v1/openapi.json lists what there is")]
    NotFound(String),
    #[error("the instance has no pack {0}; GET /v1/packs lists those it has")]
    UnknownPack(PackName),
    #[error("the instance has no action {0}; GET /v1/actions lists those it has")]
    UnknownAction(ActionRef),
    #[error("the instance has no execution {0} that you may see")]
    UnknownExecution(ExecutionId),
    #[error("the resource takes {0}")]
    MethodNotAllowed(String),
    #[error("action {0} is disabled by its pack")]
    ActionDisabled(ActionRef),
    #[error("the body is larger than {MAX_BODY} bytes")]
    BodyTooLarge,
    #[error("send the body with content-type: application/json")]
    UnsupportedMediaType,
    #[error("send the pack's archive with content-type: {ARCHIVE_TYPE}")]
    NotAnArchive,
    #[error("{message}")]
    Push { code: Code, message: String, findings: Vec<Finding> },
    #[error("the output has {0} bytes")]
    RangeNotSatisfiable(u64),
    #[error("the request is for instance {asked}, this is {here}")]
    WrongInstance { asked: InstanceId, here: InstanceId },
    #[error("{} of the parameters do not fit", .0.len())]
    InvalidParameters(Vec<ParamError>),
    #[error("the agent is not ready")]
    NotReady,
    #[error(transparent)]
    Submit(#[from] SubmitError),
    #[error(transparent)]
    Kill(#[from] KillError),
    #[error(transparent)]
    Launcher(#[from] LauncherError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// What an agent's own failure is called to a caller; the log has the rest.
const OUR_FAULT: &str = "the agent failed; its log has the details under this request id";

impl ApiError {
    /// The code, and whether the message may be shown.
    fn code(&self) -> (Code, bool) {
        match self {
            ApiError::BadRequest(_) => (Code::BadRequest, true),
            ApiError::InvalidBody(_) => (Code::InvalidBody, true),
            ApiError::Unauthenticated(_) => (Code::Unauthenticated, true),
            ApiError::Forbidden(_) => (Code::Forbidden, true),
            ApiError::NotFound(_) => (Code::NotFound, true),
            ApiError::UnknownPack(_) => (Code::UnknownPack, true),
            ApiError::UnknownAction(_) => (Code::UnknownAction, true),
            ApiError::UnknownExecution(_) => (Code::UnknownExecution, true),
            ApiError::MethodNotAllowed(_) => (Code::MethodNotAllowed, true),
            ApiError::ActionDisabled(_) => (Code::ActionDisabled, true),
            ApiError::BodyTooLarge => (Code::BodyTooLarge, true),
            ApiError::UnsupportedMediaType | ApiError::NotAnArchive => (Code::UnsupportedMediaType, true),
            ApiError::Push { code, .. } => (*code, true),
            ApiError::RangeNotSatisfiable(_) => (Code::RangeNotSatisfiable, true),
            ApiError::WrongInstance { .. } => (Code::WrongInstance, true),
            ApiError::InvalidParameters(_) => (Code::InvalidParameters, true),
            ApiError::NotReady => (Code::Unavailable, true),
            ApiError::Submit(SubmitError::NotReady) => (Code::Unavailable, true),
            ApiError::Submit(SubmitError::NotPermitted) => (Code::Forbidden, true),
            ApiError::Submit(SubmitError::QueueFull(_)) => (Code::QueueFull, true),
            ApiError::Submit(SubmitError::Busy(_)) => (Code::Busy, true),
            ApiError::Submit(SubmitError::TooOften { .. }) => (Code::RateExceeded, true),
            ApiError::Submit(SubmitError::KeyMismatch(_)) => (Code::IdempotencyMismatch, true),
            ApiError::Submit(SubmitError::DiskFull) => (Code::InsufficientStorage, true),
            ApiError::Submit(SubmitError::History(HistoryError::DiskFull)) => (Code::InsufficientStorage, true),
            ApiError::Submit(
                SubmitError::Directory(_) | SubmitError::Watch(_) | SubmitError::History(_) | SubmitError::Task,
            ) => (Code::Internal, false),
            ApiError::Kill(KillError::Unknown(_)) => (Code::UnknownExecution, true),
            ApiError::Kill(KillError::Ended(_)) => (Code::AlreadyEnded, true),
            ApiError::Kill(KillError::NotPermitted) => (Code::Forbidden, true),
            ApiError::Kill(KillError::Refused(..)) => (Code::Internal, true),
            ApiError::Kill(KillError::Launcher(_)) => (Code::Unavailable, true),
            ApiError::Kill(KillError::History(_)) => (Code::Internal, false),
            ApiError::Launcher(_) => (Code::Unavailable, true),
            ApiError::History(HistoryError::Closed) => (Code::Unavailable, true),
            ApiError::History(
                HistoryError::OldSqlite(_)
                | HistoryError::Open { .. }
                | HistoryError::SetAside { .. }
                | HistoryError::DiskFull
                | HistoryError::Sqlite(_),
            ) => (Code::Internal, false),
            ApiError::Registry(_) => (Code::Internal, false),
            ApiError::Output(_) => (Code::Internal, false),
        }
    }

    /// A header that goes with it.
    fn header(&self) -> Option<(HeaderName, String)> {
        match self {
            ApiError::MethodNotAllowed(methods) => Some((ALLOW, methods.clone())),
            ApiError::RangeNotSatisfiable(length) => Some((CONTENT_RANGE, format!("bytes */{length}"))),
            ApiError::Submit(SubmitError::QueueFull(_)) => Some((RETRY_AFTER, "5".to_owned())),
            ApiError::Push { code: Code::QueueFull, .. } => Some((RETRY_AFTER, "5".to_owned())),
            ApiError::Submit(SubmitError::NotReady) | ApiError::NotReady => Some((RETRY_AFTER, "1".to_owned())),
            ApiError::Submit(SubmitError::TooOften { after, .. }) => {
                let seconds = (*after + Duration::from_millis(999)).as_secs().max(1);
                Some((RETRY_AFTER, seconds.to_string()))
            }
            _ => None,
        }
    }

    /// The answer.
    pub(super) fn respond(self, request_id: &str) -> Response<Body> {
        let (code, shown) = self.code();
        if !shown || code == Code::Internal {
            tracing::error!(request_id, error = chain(&self), "request failed");
        }
        let header = self.header();
        let detail = if shown { self.to_string() } else { OUR_FAULT.to_owned() };
        let mut problem = Problem::new(code, detail, request_id);
        match self {
            ApiError::InvalidParameters(errors) => problem.errors = errors,
            ApiError::Push { findings, .. } => problem.findings = findings,
            _ => {}
        }
        let bytes = serde_json::to_vec(&problem).expect("a problem serialises");
        let mut response = Response::new(Body::Whole(bytes.into()));
        *response.status_mut() = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_TYPE));
        if let Some((name, value)) = header
            && let Ok(value) = HeaderValue::from_str(&value)
        {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
