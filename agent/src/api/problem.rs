//! Errors of the interface, and the one place that maps each to code, status and message.
//!
//! The caller sees code, a safe message and the request id; the log sees the chain of causes.

use std::time::Duration;

use hyper::header::{ALLOW, CONTENT_RANGE, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use packs_schema::agent::rest::{ARCHIVE_TYPE, Code, MAX_BODY, PROBLEM_TYPE, Problem};
use packs_schema::base::finding::Finding;
use packs_schema::base::name::{ActionRef, ExecutionId, InstanceId, PackName};
use packs_schema::pack::param::bind::ParamError;

use super::body::Body;
use crate::audit::AuditError;
use crate::exec::output::OutputError;
use crate::exec::{HostFault, KillError, LauncherError, SubmitError, seconds_to_wait};
use crate::history::HistoryError;
use crate::log::chain;
use crate::registry::RegistryError;

/// Error of a request.
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
    /// Answered like `shown`, which does not reveal that it exists; the log has the reason.
    #[error("{shown}")]
    Hidden { shown: Box<ApiError>, reason: String },
    #[error("there is no resource {0}; GET /v1/openapi.json lists what there is")]
    NotFound(String),
    #[error("the instance has no pack {0} that you may see; GET /v1/packs lists those")]
    UnknownPack(PackName),
    #[error("the instance has no action {0} that you may see; GET /v1/actions lists those")]
    UnknownAction(ActionRef),
    #[error("the instance has no execution {0} that you may see")]
    UnknownExecution(ExecutionId),
    #[error("the resource accepts {0}")]
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
    #[error("{} of the parameters are invalid", .0.len())]
    InvalidParameters(Vec<ParamError>),
    #[error("{message}")]
    CursorGone { message: String, begin: Option<String> },
    #[error("the agent is not ready")]
    NotReady,
    #[error(transparent)]
    Submit(#[from] SubmitError),
    #[error(transparent)]
    Kill(#[from] KillError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error(transparent)]
    Launcher(#[from] LauncherError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Message for a fault of the agent; the log has the details.
const OUR_FAULT: &str = "the agent failed; its log has the details under this request id";

/// Retry after a shortage of descriptors or memory.
const SOON: Duration = Duration::from_secs(5);
/// Retry after a fault of the disk, which needs an operator.
const LATER: Duration = Duration::from_secs(60);

fn retry_after(after: Duration) -> (HeaderName, String) {
    (RETRY_AFTER, seconds_to_wait(after).to_string())
}

/// Returns the code of a shortage of the host.
fn code_of_shortage(shortage: Option<HostFault>) -> (Code, bool) {
    match shortage {
        Some(HostFault::Storage) => (Code::InsufficientStorage, true),
        Some(HostFault::Resources) => (Code::OutOfResources, true),
        Some(HostFault::Device) => (Code::StorageFailed, true),
        None => (Code::Internal, false),
    }
}

fn code_of_history(error: &HistoryError) -> (Code, bool) {
    match error {
        // Damaged: the agent ends, and its next start sets the file aside.
        HistoryError::Closed | HistoryError::Damaged(_) => (Code::Unavailable, true),
        HistoryError::DiskFull | HistoryError::ReadOnly => code_of_shortage(Some(HostFault::Storage)),
        HistoryError::OutOfResources(_) => code_of_shortage(Some(HostFault::Resources)),
        HistoryError::Device(_) => code_of_shortage(Some(HostFault::Device)),
        HistoryError::OldSqlite(_)
        | HistoryError::Open { .. }
        | HistoryError::Quarantine { .. }
        | HistoryError::Sqlite(_) => code_of_shortage(None),
    }
}

fn code_of_audit(error: &AuditError) -> (Code, bool) {
    match error {
        AuditError::Unavailable(_) => (Code::AuditUnavailable, true),
        AuditError::Closed => (Code::Unavailable, true),
    }
}

impl ApiError {
    /// Returns the code, and whether the caller may see the message.
    pub(super) fn code(&self) -> (Code, bool) {
        match self {
            ApiError::BadRequest(_) => (Code::BadRequest, true),
            ApiError::InvalidBody(_) => (Code::InvalidBody, true),
            ApiError::Unauthenticated(_) => (Code::Unauthenticated, true),
            ApiError::Forbidden(_) => (Code::Forbidden, true),
            ApiError::Hidden { shown, .. } => shown.code(),
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
            ApiError::CursorGone { .. } => (Code::CursorGone, true),
            ApiError::NotReady => (Code::Unavailable, true),
            ApiError::Submit(SubmitError::NotReady) => (Code::Unavailable, true),
            ApiError::Submit(SubmitError::NotPermitted) => (Code::Forbidden, true),
            ApiError::Submit(SubmitError::VersionMismatch { .. }) => (Code::VersionMismatch, true),
            ApiError::Submit(SubmitError::ClassMismatch { .. }) => (Code::ClassMismatch, true),
            ApiError::Submit(SubmitError::QueueFull { .. }) => (Code::QueueFull, true),
            ApiError::Submit(SubmitError::Busy { .. }) => (Code::Busy, true),
            ApiError::Submit(
                SubmitError::TooOften { .. } | SubmitError::CallerTooOften { .. } | SubmitError::CallerTooMany { .. },
            ) => (Code::RateExceeded, true),
            ApiError::Submit(SubmitError::KeyMismatch(_)) => (Code::IdempotencyMismatch, true),
            ApiError::Submit(SubmitError::Audit(error)) | ApiError::Audit(error) => code_of_audit(error),
            ApiError::Submit(SubmitError::DiskFull) => (Code::InsufficientStorage, true),
            ApiError::Submit(SubmitError::Directory(error)) => code_of_shortage(HostFault::classify(error)),
            ApiError::Submit(SubmitError::History(error)) => code_of_history(error),
            ApiError::Submit(SubmitError::Task) | ApiError::Kill(KillError::Task) => (Code::Internal, false),
            ApiError::Kill(KillError::Unknown(_)) => (Code::UnknownExecution, true),
            ApiError::Kill(KillError::Ended(_)) => (Code::AlreadyEnded, true),
            ApiError::Kill(KillError::NotPermitted) => (Code::Forbidden, true),
            // The caller sees the reason and may retry: usually the host lacks disk space or descriptors for a moment.
            ApiError::Kill(KillError::Refused(..)) => (Code::Unavailable, true),
            ApiError::Kill(KillError::Launcher(_)) => (Code::Unavailable, true),
            ApiError::Kill(KillError::Unwritten(_, error)) => code_of_shortage(HostFault::classify(error)),
            ApiError::Kill(KillError::History(error)) => code_of_history(error),
            ApiError::Launcher(_) => (Code::Unavailable, true),
            ApiError::History(error) => code_of_history(error),
            ApiError::Registry(RegistryError::Read { source, .. }) => code_of_shortage(HostFault::classify(source)),
            ApiError::Registry(RegistryError::Damaged { .. }) => code_of_shortage(None),
            ApiError::Output(OutputError::Gone) => (Code::OutputGone, true),
            ApiError::Output(OutputError::History(error)) => code_of_history(error),
            ApiError::Output(OutputError::Segment(error)) => code_of_shortage(HostFault::classify(error.cause())),
            ApiError::Output(OutputError::Archive(_) | OutputError::Task) => code_of_shortage(None),
        }
    }

    /// True if the caller lacks a name or a grant, or the instance takes no pushes.
    pub(super) fn is_denied(&self) -> bool {
        match self {
            ApiError::Hidden { .. } => true,
            _ => matches!(self.code().0, Code::Unauthenticated | Code::Forbidden | Code::PushNotAllowed),
        }
    }

    /// Returns the reason for the log; `None` where the message could repeat a body, a query or a path of the caller, which may
    /// be secret.
    pub(super) fn reason_for_log(&self) -> Option<String> {
        match self {
            ApiError::Hidden { reason, .. } => Some(reason.clone()),
            ApiError::BadRequest(_)
            | ApiError::InvalidBody(_)
            | ApiError::NotFound(_)
            | ApiError::InvalidParameters(_)
            | ApiError::WrongInstance { .. } => None,
            other => other.code().1.then(|| other.to_string()),
        }
    }

    /// Returns the header that belongs to the error.
    fn header(&self) -> Option<(HeaderName, String)> {
        match self {
            ApiError::MethodNotAllowed(methods) => Some((ALLOW, methods.clone())),
            ApiError::RangeNotSatisfiable(length) => Some((CONTENT_RANGE, format!("bytes */{length}"))),
            ApiError::Submit(SubmitError::NotReady) | ApiError::NotReady => Some(retry_after(Duration::ZERO)),
            ApiError::Submit(
                SubmitError::TooOften { after, .. }
                | SubmitError::CallerTooOften { after, .. }
                | SubmitError::CallerTooMany { after, .. }
                | SubmitError::QueueFull { after, .. }
                | SubmitError::Busy { after, .. },
            ) => Some(retry_after(*after)),
            ApiError::Push { code: Code::QueueFull, .. } => Some(retry_after(SOON)),
            _ => match self.code().0 {
                Code::OutOfResources => Some(retry_after(SOON)),
                Code::StorageFailed => Some(retry_after(LATER)),
                _ => None,
            },
        }
    }

    /// Builds the response.
    pub(super) fn respond(self, request_id: &str) -> Response<Body> {
        if let ApiError::Hidden { shown, .. } = self {
            return shown.respond(request_id);
        }
        let (code, shown) = self.code();
        if !shown || matches!(code, Code::Internal | Code::OutOfResources | Code::StorageFailed) {
            tracing::error!(request_id, error = chain(&self), "request failed");
        }
        let header = self.header();
        let detail = if shown { self.to_string() } else { OUR_FAULT.to_owned() };
        let mut problem = Problem::new(code, detail, request_id);
        match self {
            ApiError::InvalidParameters(errors) => problem.errors = errors,
            ApiError::CursorGone { begin, .. } => problem.begin = begin,
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

#[cfg(test)]
mod bodies;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn answer(error: ApiError) -> (Code, u16, Option<u64>) {
        let (code, response) = (error.code().0, error.respond("r-1"));
        let after = response.headers().get(RETRY_AFTER).map(|after| after.to_str().unwrap().parse().unwrap());
        (code, response.status().as_u16(), after)
    }

    #[test]
    fn a_shortage_of_the_host_is_not_an_internal_error() {
        let (full, out, failed) = (
            (Code::InsufficientStorage, 507, None),
            (Code::OutOfResources, 503, Some(5)),
            (Code::StorageFailed, 503, Some(60)),
        );
        // ENOSPC, EDQUOT, EROFS; EMFILE, ENFILE, ENOMEM, EAGAIN; EIO.
        for (number, expected) in
            [(28, full), (122, full), (30, full), (24, out), (23, out), (12, out), (11, out), (5, failed)]
        {
            let error = || io::Error::from_raw_os_error(number);
            assert_eq!(answer(SubmitError::Directory(error()).into()), expected, "{}", error());
            let id = ExecutionId::new("01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa").unwrap();
            assert_eq!(answer(KillError::Unwritten(id, error()).into()), expected, "{}", error());
        }
        for (error, expected) in [
            (HistoryError::DiskFull, full),
            (HistoryError::ReadOnly, full),
            (HistoryError::OutOfResources(String::new()), out),
            (HistoryError::Device(String::new()), failed),
        ] {
            assert_eq!(answer(error.clone().into()), expected);
            assert_eq!(answer(SubmitError::History(error.clone()).into()), expected);
            assert_eq!(answer(KillError::History(error).into()), expected);
        }
        assert_eq!(answer(SubmitError::DiskFull.into()), full);
        let other = SubmitError::Directory(io::Error::from_raw_os_error(13));
        assert_eq!(answer(other.into()).0, Code::Internal, "a wrong owner is an internal error");
    }

    #[test]
    fn a_refusal_for_lack_of_capacity_says_when_to_retry() {
        let after = Duration::from_millis(41_200);
        let busy = SubmitError::Busy { group: "g".to_owned(), after };
        assert_eq!(answer(busy.into()), (Code::Busy, 409, Some(42)));
        assert_eq!(answer(SubmitError::QueueFull { max: 3, after }.into()), (Code::QueueFull, 503, Some(42)));
        assert_eq!(answer(SubmitError::NotReady.into()), (Code::Unavailable, 503, Some(1)));
    }
}
