//! The state machine of an execution: what may follow what, and every decision of the api that moves one on. Pure
//! functions; those who call them read the directory, write the history and ask the launcher.
//!
//! ```text
//!            Started                     Ended: what the exit record says
//!  queued ─────────────▶ running ─────────────────────────────▶ succeeded | failed | timed_out | killed
//!     │                     │                                     | out_of_memory | error
//!     │                     └─Aborted─▶ lost | interrupted
//!     └─Aborted─▶ killed | expired | error | interrupted | lost
//! ```
//!
//! | on this occasion | this decides | and this acts |
//! |---|---|---|
//! | the agent starts | [`at_start`] | `recovery` |
//! | something new is in the directory | [`look`] | `settle` |
//! | a shim has gone without a word | [`burial`], [`cleaned`], then [`lost`] | `settle`, `recovery` |
//! | the launcher answers a start | [`answered`] | `Exec::launch` |
//! | a caller asks for the end | [`kill`], then [`told`] | `kill` |
//! | a start deadline passes | [`expires`] | `Exec::expire_in` |
//!
//! What makes it hold together:
//!
//! - **At most one start.** Only the launcher starts, and only when it made `lock` (`O_EXCL`). What has a `lock` is never
//!   queued again, held or free; and what was accepted in another boot is never started, whatever of its files survived.
//! - **One end.** An end by the api is decided only for what no shim has or can get any more: for what waits here and was
//!   never handed to the launcher, for what the launcher refused, and for what has a `lock` that nobody holds, after the
//!   launcher has stopped what was left and the directory still says nothing.
//! - **Nobody there is no answer.** A launcher that went says nothing about an execution: it stays as it is, this process
//!   ends, and its successor decides by the directory.
//! - **A kill that was answered holds.** It stands in the directory before the answer, so that a crash does not undo it.
//!
//! `model` (tests only) explores every interleaving of all this with crashes, over these very functions.

mod advance;
mod decide;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub(super) use advance::{Change, advance, exit_of};
#[cfg(test)]
use decide::Look;
pub(super) use decide::{
    Answered, Burial, Cleaned, EXPIRED, KILLED_BEFORE, Kill, Present, Standing, Told, Verdict, answered, at_start,
    burial, cleaned, expires, kill, look, lost, told,
};
