//! Audit log of an instance: lines of JSON in files, each line bound to the one before by a SHA-256 hash.
//!
//! ```text
//!  {"seq":1,"prev":"000…",…entry…,"hash":"a1…"}
//!  {"seq":2,"prev":"a1…", …entry…,"hash":"b2…"}      hash = SHA-256 of the line up to ,"hash":
//! ```
//!
//! There are two chains, each with files and a budget of its own, so that refusals, which any caller can cause, never rotate the
//! record of changes away. The files of a chain are called `<chain>-<sequence number of the first entry>.jsonl`. An entry tells its
//! chain: refusals have the outcome `refused`, and changes have another one.
//!
//! - [`Entry`]: content of a line.
//! - [`Head`], [`seal`]: end of a chain, and the line that continues it.
//! - [`Verifier`]: checks lines in their order.
//! - [`lines`]: splits a file into lines of bounded length.

mod chain;
mod entry;
pub mod lines;
#[cfg(test)]
mod tests;
mod verifier;

pub use chain::{Chain, ChainHash, Head, HeadError, MAX_LINE, MAX_SEQUENCE, Record, seal};
pub use entry::{Entry, Outcome, ParameterSummary, RECOVER, text};
pub use verifier::{Fault, Start, Verifier};
