//! Problems that each operation may answer with, for `openapi.json`.
//!
//! A path or a method that no operation has is `not_found` or `method_not_allowed`, of which no operation can tell.
//! `bolt-attack schemathesis` holds the answers of a live agent against this list.

use packs_schema::agent::rest::Code;

use crate::api::routes::Operation;

/// Answers to any request: its query, its certificate, its grants.
const ANY: &[Code] = &[Code::BadRequest, Code::Unauthenticated, Code::Forbidden];
/// Faults of the agent or its host.
const HOST: &[Code] =
    &[Code::Internal, Code::Unavailable, Code::OutOfResources, Code::StorageFailed, Code::InsufficientStorage];

/// Returns the problems of an operation.
pub(super) fn of(operation: Operation) -> impl Iterator<Item = Code> {
    let host = if matches!(operation, Operation::Health | Operation::OpenApi) { &[] } else { HOST };
    ANY.iter().chain(own(operation)).chain(host).copied()
}

fn own(operation: Operation) -> &'static [Code] {
    match operation {
        Operation::Health
        | Operation::Info
        | Operation::ListPacks
        | Operation::ListActions
        | Operation::Access
        | Operation::Metrics
        | Operation::OpenApi => &[],
        Operation::GetPack => &[Code::UnknownPack],
        Operation::SyncPacks => &[Code::AuditUnavailable],
        Operation::PushPack => &[
            Code::PushNotAllowed,
            Code::AlreadySigned,
            Code::TooManyPushed,
            Code::BodyTooLarge,
            Code::UnsupportedMediaType,
            Code::InvalidPack,
            Code::TtlTooLong,
            Code::QueueFull,
            Code::AuditUnavailable,
        ],
        Operation::UnpushPack => &[Code::PushNotAllowed, Code::NotPushed, Code::QueueFull, Code::AuditUnavailable],
        Operation::GetAction => &[Code::UnknownAction],
        Operation::CreateExecution => &[
            Code::InvalidBody,
            Code::UnknownAction,
            Code::ActionDisabled,
            Code::VersionMismatch,
            Code::ClassMismatch,
            Code::Busy,
            Code::BodyTooLarge,
            Code::UnsupportedMediaType,
            Code::WrongInstance,
            Code::InvalidParameters,
            Code::IdempotencyMismatch,
            Code::RateExceeded,
            Code::QueueFull,
            Code::AuditUnavailable,
        ],
        Operation::ListExecutions | Operation::Events => &[Code::CursorGone],
        Operation::GetExecution => &[Code::UnknownExecution],
        Operation::GetOutput => &[Code::UnknownExecution, Code::OutputGone],
        Operation::GetStdout | Operation::GetStderr => {
            &[Code::UnknownExecution, Code::OutputGone, Code::RangeNotSatisfiable]
        }
        Operation::KillExecution => &[
            Code::InvalidBody,
            Code::UnknownExecution,
            Code::AlreadyEnded,
            Code::BodyTooLarge,
            Code::UnsupportedMediaType,
            Code::AuditUnavailable,
        ],
    }
}
