//! The messages of the REST interface: what the agent sends and takes, and what the client reads.

mod access;
mod cursor;
mod execution;
mod instance;
mod problem;
mod push;

pub use access::{AccessReview, AccessTarget, ReviewedAction};
pub use cursor::{EventCursor, is_epoch};
pub use execution::{CreateExecution, Execution, KillRequest, OutputChunk, Page, StateChange, Waiting, WaitingReason};
pub use instance::{
    ActionView, ApiProcess, ApiState, BUILDING, BootMoment, CgroupDirectory, EmptyChannel, Enforcement, FailedVersion,
    Health, Info, PackList, PackView, Reason, SyncEnd, SyncStatus, TotalLimits,
};
pub use problem::{Code, PROBLEM_TYPE, Problem};
pub use push::{ARCHIVE_TYPE, BYTES_TYPE, Pushed, Unpushed};

pub use crate::delivery::pushed::PushInfo;

/// The largest body of any request, in bytes.
pub const MAX_BODY: usize = 64 << 10;
/// The longest `?wait=`, in seconds.
pub const MAX_WAIT_S: u64 = 60;
/// The most items of a page.
pub const MAX_PAGE: u32 = 500;
/// The items of a page when the caller does not say.
pub const DEFAULT_PAGE: u32 = 50;

/// The longest note, in characters.
pub const MAX_NOTE: usize = 500;

/// Response header with the id of the request, which the agent's log repeats.
pub const REQUEST_ID: &str = "bolt-request-id";
/// Response header of `events`: the cursor after which the answer begins.
pub const EVENT_CURSOR: &str = "bolt-event-cursor";
/// Request header with the caller's key for repeating a request.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Response header of `stdout` and `stderr`: bytes that were not kept.
pub const DROPPED_BYTES: &str = "bolt-dropped-bytes";
