//! Client of one agent: a method for each route, over a connection that is opened on first use.
//!
//! ```text
//!  Agent ──call──▶ wire (TCP, TLS to this instance, HTTP/1.1) ──▶ JSON, bounded ──▶ checked against peer and request
//!                                                              └─▶ stream of NDJSON lines or bytes, bounded
//! ```
//!
//! Connections are made by tasks of their own, so that handshakes use all threads of the runtime, and a bounded number at a
//! time (`pace.rs`). An idle connection that turns out to be closed is replaced once, and only for requests that may be repeated. A stream
//! uses its own connection. The agent of this host is also reached through its Unix socket (`on_host.rs`). Everything an agent sends is bounded in this module and checked, in one place, to be about this
//! instance and about the request; its text reaches a terminal only through [`crate::show`].

mod answer;
mod bytes;
mod call;
mod events;
mod follow;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
mod on_host;
mod pace;
mod pages;
mod push;
mod race;
mod routes;
mod stream;
mod wire;

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use crate::error::{Error, Kind};
use crate::inventory::Instance;
use crate::tls::Identity;

pub use crate::mismatch::Mismatch;
pub use bytes::{chunk_bytes, start_bytes};
pub use events::{FollowEvents, Followed};
pub(crate) use follow::pause;
pub use follow::{FollowOutput, MAX_RECONNECTS};
pub use pace::max_open;
pub use pages::Newest;
pub use push::Push;
pub(crate) use routes::Part;
pub use routes::{ExecutionQuery, OutputFrom, WaitQuery};
pub use stream::{ByteStream, Lines};

/// Maximum size of a JSON answer in bytes.
pub const MAX_JSON: usize = 8 << 20;
/// Maximum size of an answer about one execution in bytes: parameters and result of 64 KiB each, which may be escaped, and the
/// beginning of both output streams. A run reads many of them at once.
pub const MAX_EXECUTION: usize = 1 << 20;
/// Maximum length of a line of an NDJSON stream in bytes.
pub const MAX_LINE: usize = 1 << 20;
/// Time limit for connecting, TLS handshake included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for an answer, in addition to the time that the request asked it to wait.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Way to an agent.
#[derive(Debug, Clone)]
enum Way {
    /// TLS to the address of the instance.
    Tls(Identity),
    /// Unix socket of local access on this host.
    Socket(PathBuf),
}

/// Client of the agent on one instance.
#[derive(Debug)]
pub struct Agent {
    instance: Instance,
    way: Way,
    idle: Mutex<Option<wire::Wire>>,
}

impl Agent {
    /// Returns a client that connects with its first request.
    pub fn new(instance: &Instance, identity: &Identity) -> Agent {
        Agent::by(instance.clone(), Way::Tls(identity.clone()))
    }

    fn by(instance: Instance, way: Way) -> Agent {
        Agent { instance, way, idle: Mutex::new(None) }
    }

    /// Connects, and checks that the server is this instance.
    pub async fn connect(instance: &Instance, identity: &Identity) -> Result<Agent, Error> {
        let agent = Agent::new(instance, identity);
        agent.open().await?;
        Ok(agent)
    }

    /// Connects, unless a connection is open.
    pub(crate) async fn open(&self) -> Result<(), Error> {
        let idle = self.take_idle().filter(wire::Wire::is_open);
        let wire = match idle {
            Some(wire) => wire,
            None => self.dial().await.map_err(|kind| self.error(kind))?,
        };
        self.put_back(wire);
        Ok(())
    }

    async fn dial(&self) -> Result<wire::Wire, Kind> {
        match &self.way {
            Way::Tls(identity) => wire::dial(&self.instance, identity).await,
            Way::Socket(path) => on_host::dial(path).await,
        }
    }

    /// Returns the instance.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    fn take_idle(&self) -> Option<wire::Wire> {
        self.idle.lock().expect("no code panics while it holds this").take()
    }

    fn put_back(&self, wire: wire::Wire) {
        *self.idle.lock().expect("no code panics while it holds this") = Some(wire);
    }

    pub(crate) fn error(&self, kind: Kind) -> Error {
        let address = match &self.way {
            Way::Tls(_) => self.instance.address.to_string(),
            Way::Socket(path) => crate::show::path(path),
        };
        Error { instance: self.instance.id().clone(), address, kind }
    }
}
