//! Snapshots of what the command line prints without an agent: every help text, errors, and reports of imports.
//!
//! A changed wording shows as a diff of `snapshots/`. After a change that is meant:
//!
//! ```text
//! INSTA_UPDATE=always cargo test --workspace --test texts
//! ```
#![expect(clippy::unwrap_used, reason = "a test fails at the line that panics")]

mod errors;
mod help;
mod imports;
mod session;
