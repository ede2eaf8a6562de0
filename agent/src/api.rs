//! The REST interface: HTTP/1.1 over mutual TLS 1.3.
//!
//! ```text
//!  listener ──▶ tls ──▶ router ──▶ auth ──▶ handler ──▶ exec, history, registry
//!  (bounded)    principal    (routes)  Caller           │
//!                                  problem ◀── error ───┘
//! ```
//!
//! Requests are routed by the table in [`routes`], from which `openapi.json` is made as well. Nothing
//! here decides who may do what: [`crate::access`] does.

pub(crate) mod body;
mod connection_slots;
mod connections;
mod encoding;
pub(crate) mod fingerprint;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
mod handlers;
mod handshakes;
pub(crate) mod listener;
mod live_access;
mod local;
pub(crate) mod local_listener;
mod openapi;
mod plain_health;
mod problem;
pub(crate) mod pushes;
mod query;
mod range;
mod refusal;
mod request_body;
mod router;
mod routes;
pub(crate) mod starting;
pub(crate) mod tls;
mod visibility;
mod write_timeout;

#[cfg(test)]
#[cfg(test)]
pub(crate) use openapi::document as openapi_document;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use packs_schema::base::name::ChannelName;
use tokio::sync::watch;

use crate::access::Access;
use crate::audit::Audit;
use crate::exec::Exec;
use crate::health::Health;
use crate::history::History;
use crate::instance::Instance;
use crate::metrics::Metrics;
use crate::registry::Registry;

/// Shared state of all handlers.
pub(crate) struct App {
    pub(crate) instance: Instance,
    pub(crate) channel: ChannelName,
    pub(crate) enforcement: PathBuf,
    pub(crate) started_at_ms: u64,
    pub(crate) access: Arc<Access>,
    pub(crate) tls: Arc<tls::Tls>,
    pub(crate) exec: Arc<Exec>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) history: Arc<History>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) health: Arc<Health>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) fingerprints: fingerprint::Fingerprints,
    pub(crate) pushes: pushes::Pushes,
    pub(crate) connections: AtomicU32,
    /// Becomes true when the agent stops: callers that wait are answered then, and ask the next agent process.
    pub(crate) stopping: watch::Receiver<bool>,
}

impl App {
    /// Returns the reason why the interface answers no caller: files that could not be used since the start. Local access works.
    pub(crate) fn closed_because(&self) -> Option<&'static str> {
        match (self.tls.is_usable(), self.access.is_known()) {
            (true, true) => None,
            (false, true) => Some("the certificates cannot be used"),
            (true, false) => Some("grants.toml cannot be used"),
            (false, false) => Some("neither the certificates nor grants.toml can be used"),
        }
    }

    /// Waits until the interface answers callers.
    pub(crate) async fn opened(&self) {
        self.tls.usable().await;
        self.access.known().await;
    }
}
