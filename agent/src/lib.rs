//! The unprivileged half of the agent: what reads the network, and nothing that is root.
//!
//! ```text
//!  api ──▶ exec ──▶ history        access, health, instance, metrics, registry: what is asked
//!              └──▶ registry       sync: a process of its own, shares nothing but the store
//! ```

pub mod access;
mod api;
pub mod clock;
pub mod exec;
pub mod health;
pub mod history;
mod instance;
pub mod log;
pub mod metrics;
pub mod registry;
pub mod serve;
pub mod sync;
pub mod sys;
mod trust;

/// The agent's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
