//! The unprivileged half of the agent.

pub mod sync;
