//! The unprivileged half of the agent: everything that reads the network. Nothing here runs as root.
//!
//! ```text
//!  api ──▶ exec ──▶ history        access, health, instance, metrics: state that the api and exec read and update
//!              └──▶ registry       sync: a separate process that shares only the store of packs
//! ```

pub mod access;
mod api;
pub mod audit;
pub mod check_config;
pub mod clock;
pub mod config_file;
pub mod exec;
mod expiry;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
pub mod health;
pub mod history;
mod instance;
pub mod journal;
pub mod log;
pub mod metrics;
#[cfg(test)]
#[path = "../../tests/fixtures/records.rs"]
mod records;
pub mod registry;
pub mod serve;
mod site_file;
pub mod sync;
pub mod sys;
mod trust;

/// Version of the agent.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
