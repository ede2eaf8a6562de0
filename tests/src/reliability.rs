//! What an operator must be able to rely on, shown by programs with a seed and a count:
//!
//! - [`faults`]: processes die, calls fail, clocks leap; nothing is lost, repeated, orphaned or misreported.
//! - [`crowd`]: thousands of anonymous sockets, and what callers with a certificate notice of them.
//! - [`escapes`]: actions that try to outlive their end.
//! - [`follow`]: how soon those who follow an output have it, and that those who do not read cost nothing.
//! - [`soak`]: very many executions in a row, and what the agent holds meanwhile.
//!
//! The command `bolt-reliability` runs each with any count; the test suite with small ones.

pub mod crowd;
pub mod escapes;
pub mod faults;
pub mod follow;
pub mod soak;
