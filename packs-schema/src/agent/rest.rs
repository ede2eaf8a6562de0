//! Messages of the REST interface, as the agent sends and accepts them and the client reads them.

mod access;
mod cursor;
mod execution;
mod instance;
mod problem;
mod push;

pub use access::{AccessReview, AccessTarget, ReviewedAction};
pub use cursor::{EventCursor, is_epoch};
pub use execution::{
    CreateExecution, Execution, KillRequest, OutputChunk, OutputStart, Page, StateChange, StreamStart, Waiting,
    WaitingReason,
};
pub use instance::{
    ActionView, ApiProcess, ApiState, BUILDING, BootMoment, CgroupDirectory, EmptyChannel, Enforcement, FailedVersion,
    Health, Info, PackList, PackView, Reason, Rollout, SignatureEnd, SyncEnd, SyncStatus, TotalLimits,
};
pub use problem::{Code, PROBLEM_TYPE, Problem};
pub use push::{ARCHIVE_TYPE, BYTES_TYPE, Pushed, Unpushed};

pub use crate::delivery::pushed::PushInfo;

/// Maximum size of a request's body, in bytes.
pub const MAX_BODY: usize = 64 << 10;
/// Maximum of `?wait=`, in seconds.
pub const MAX_WAIT_S: u64 = 60;
/// Maximum of `?output=`, in bytes of each stream.
pub const MAX_OUTPUT: usize = 64 << 10;
/// Maximum number of items on a page.
pub const MAX_PAGE: u32 = 500;
/// Default number of items on a page.
pub const DEFAULT_PAGE: u32 = 50;

/// Maximum length of a note, in characters.
pub const MAX_NOTE: usize = 500;

/// Response header with the id of the request, which is also in the agent's log.
pub const REQUEST_ID: &str = "bolt-request-id";
/// Response header of `events`: cursor at which the response starts.
pub const EVENT_CURSOR: &str = "bolt-event-cursor";
/// Request header with the idempotency key of a request.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Response header of `stdout` and `stderr`: number of bytes that were not kept.
pub const DROPPED_BYTES: &str = "bolt-dropped-bytes";
