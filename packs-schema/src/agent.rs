//! Agent layer: configuration, and the records and messages that launcher, api, sync and client exchange.
//!
//! - [`accounts`]: accounts of a host, from `/etc/passwd` and `/etc/group`.
//! - [`audit`]: audit log, a chain of hashed entries (feature `audit`).
//! - [`config`], [`grants`]: `agent.toml` and `grants.toml`.
//! - [`launch`]: requests of the unprivileged api to the privileged launcher.
//! - [`execution`]: files of an execution's directory, its states and its output log.
//! - [`store`]: store of activated packs on an instance.
//! - [`push`]: requests and outcomes of pushed packs, between api and sync.
//! - [`python`]: virtual environments of packs.
//! - [`rest`]: messages of the REST interface.

pub mod accounts;
#[cfg(feature = "audit")]
pub mod audit;
pub mod config;
pub mod execution;
pub mod grants;
pub mod launch;
pub mod push;
pub mod python;
pub mod rest;
pub mod store;
