//! Reliability programs with a seed and a count:
//!
//! - [`faults`]: processes die, calls fail, clocks leap; nothing is lost, repeated, orphaned or misreported.
//! - [`crowd`]: effect of thousands of anonymous sockets on callers with a certificate.
//! - [`escapes`]: actions that try to outlive their end.
//! - [`follow`]: latency of followed output, and that followers that do not read cost nothing.
//! - [`resume`]: clients of runs are killed, and other clients end their runs.
//! - [`soak`]: resources of the agent over very many executions.
//!
//! The command `bolt-reliability` runs each with any count; the test suite with small ones.

pub mod crowd;
pub mod escapes;
pub mod faults;
pub mod follow;
pub mod resume;
pub mod soak;
