//! Types that callers of the history pass and receive.

use packs_schema::agent::rest::Execution;
use packs_schema::base::name::IdempotencyKey;

/// Idempotency key of a caller, with the keyed hash of the request body.
#[derive(Debug, Clone)]
pub struct Key {
    /// Idempotency key.
    pub key: IdempotencyKey,
    /// Hash of the body, in hexadecimal.
    pub fingerprint: String,
}

/// Time of acceptance by the clock of the boot (`CLOCK_BOOTTIME`), which no clock setting changes. Kept for executions of actions
/// with a rate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootTime {
    /// Content of `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// Milliseconds since the boot.
    pub boottime_ms: u64,
}

/// Time of acceptance by both clocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Wall clock, in milliseconds since 1970.
    pub at_ms: u64,
    /// Clock of the boot, if it was kept.
    pub boot_time: Option<BootTime>,
}

/// Outcome of a write.
#[derive(Debug, Clone, PartialEq)]
pub enum WriteOutcome {
    /// The row was written.
    Written,
    /// The caller's key belongs to this execution already, made with a body of this fingerprint.
    KeyExists(Box<Execution>, String),
    /// The execution is unknown or has ended: nothing was changed.
    Unchanged,
}

/// Outcome of checking an event cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorCheck {
    /// All events after the cursor are available.
    Valid,
    /// The cursor belongs to another history file.
    OtherHistory,
    /// The cursor is beyond the newest event, which has this number.
    Beyond(u64),
    /// Some events after the cursor have been pruned.
    Pruned,
}
