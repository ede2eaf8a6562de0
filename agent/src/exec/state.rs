//! State machine of an execution: the transitions, and every decision of the api that causes one. Pure functions; their callers
//! read the directory, write the history and ask the launcher.
//!
//! ```text
//!            Started                     Ended: what the exit record says
//!  queued ─────────────▶ running ─────────────────────────────▶ succeeded | failed | timed_out | killed
//!     │                     │                                     | out_of_memory | error
//!     │                     └─Aborted─▶ lost | interrupted
//!     └─Aborted─▶ killed | expired | error | interrupted | lost
//! ```
//!
//! | occasion | decided by | carried out by |
//! |---|---|---|
//! | the agent starts | [`decide_recovery`] | `recovery` |
//! | the directory, or one file of it, has changed | [`inspect`], [`inspect_exit`], [`inspect_started`] | `reconcile` |
//! | a shim died without an exit record | [`recheck_lost`], [`interpret_clean_up`], then [`end_lost`] | `reconcile`, `recovery` |
//! | the launcher answers a start | [`interpret_start`] | `start` |
//! | a caller kills | [`decide_kill`], then [`interpret_kill`] | `kill` |
//! | a start deadline passes | [`may_expire`] | `expiry` |
//!
//! Invariants:
//!
//! - **At most one start.** Only the launcher starts executions, and only when it created `lock` (`O_EXCL`). An execution whose
//!   directory has a `lock`, held or free, is never queued again; one that was accepted in another boot is never started,
//!   whatever files of it survived.
//! - **One end.** The api ends an execution only when no shim has it or can still get it: when it waits here and was never handed
//!   to the launcher, when the launcher refused it, or when its `lock` is free, the launcher has stopped what was left, and
//!   the directory still has no exit record.
//! - **A missing launcher is not an answer.** When the launcher exits, nothing follows for an execution: it stays as it is, this
//!   process ends, and its successor decides by the directory.
//! - **`running` may be in memory only.** It is written with the end, unless someone can see the difference (`apply`); after a crash
//!   the row is `queued`, and the directory decides.
//! - **An answered kill is permanent.** It is in the directory before the answer, so that a crash does not undo it.
//!
//! `model` (tests only) explores every interleaving of these with crashes and power cuts, calling these very functions.

mod advance;
mod decide;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub(super) use advance::{Change, advance, to_exit_record};
#[cfg(test)]
use decide::Inspection;
pub(super) use decide::{
    CleanUpOutcome, EXPIRED_REASON, HostTime, KILLED_BEFORE_START, KillOutcome, KillStep, LostCheck, Ownership,
    RecoveryAction, StartOutcome, decide_kill, decide_recovery, end_lost, inspect, inspect_exit, inspect_started,
    interpret_clean_up, interpret_kill, interpret_start, may_expire, recheck_lost,
};
