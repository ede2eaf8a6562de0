//! One agent: a method for each route, over a connection that is made when it is needed.
//!
//! ```text
//!  Agent ──call──▶ wire (TCP, TLS to this instance, HTTP/1.1) ──▶ JSON, bounded ──▶ answer: of this peer, as asked
//!                                                              └─▶ stream of NDJSON lines or bytes, bounded
//! ```
//!
//! A kept connection that broke while idle is replaced once, and only for requests that may be repeated.
//! A stream has a connection of its own. Everything an agent sends is bounded here, and checked in one place to be
//! about this instance and about what was asked; what it says is text that only [`crate::show`] may put on a terminal.

mod answer;
mod call;
mod events;
mod follow;
mod pages;
mod push;
mod race;
mod routes;
mod stream;
mod wire;

use std::sync::Mutex;
use std::time::Duration;

use crate::error::{Error, Kind};
use crate::inventory::Instance;
use crate::tls::Identity;

pub use answer::Mismatch;
pub use events::{FollowEvents, Followed};
pub use follow::chunk_bytes;
pub(crate) use follow::pause;
pub use follow::{FollowOutput, MAX_RECONNECTS};
pub use pages::Newest;
pub use push::Push;
pub use routes::{ExecutionQuery, OutputFrom};
pub use stream::{ByteStream, Lines};

/// The largest JSON answer, in bytes.
pub const MAX_JSON: usize = 8 << 20;
/// The longest line of an NDJSON stream, in bytes.
pub const MAX_LINE: usize = 1 << 20;
/// How long a connection and its handshake may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What a time-out says when not even a connection was made: nothing was sent.
pub(crate) const NO_CONNECTION: &str = "no connection within 5s";
/// How long an answer may take, beyond what it was asked to wait.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A client of one instance's agent.
#[derive(Debug)]
pub struct Agent {
    instance: Instance,
    identity: Identity,
    idle: Mutex<Option<wire::Wire>>,
}

impl Agent {
    /// A client that connects when it is first asked something.
    pub fn new(instance: &Instance, identity: &Identity) -> Agent {
        Agent { instance: instance.clone(), identity: identity.clone(), idle: Mutex::new(None) }
    }

    /// A client that is connected, to the instance that was meant.
    pub async fn connect(instance: &Instance, identity: &Identity) -> Result<Agent, Error> {
        let agent = Agent::new(instance, identity);
        let wire = wire::dial(instance, identity).await.map_err(|kind| agent.error(kind))?;
        agent.put_back(wire);
        Ok(agent)
    }

    /// Which instance.
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
        Error { instance: self.instance.id().clone(), address: self.instance.address.to_string(), kind }
    }
}
