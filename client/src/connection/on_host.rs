//! The agent of this host, through its Unix socket of local access: no certificates, and only for root.
//!
//! The kernel says who made the socket listen (`SO_PEERCRED`): the launcher, which is root. A socket that another account has put
//! there is not used. What answers is the api, which is not root, so its answers are held against the request like those of
//! any instance; which instance it is, it says itself.

use std::path::Path;
use std::time::Duration;

use packs_schema::agent::rest::Health;
use packs_schema::base::name::InstanceId;
use packs_schema::delivery::facts::Facts;
use tokio::net::UnixStream;

use super::call::{self, Call};
use super::wire::{self, AlertSlot, Wire};
use super::{Agent, CONNECT_TIMEOUT, Way};
use crate::error::{Error, Kind};
use crate::inventory::{Address, Instance};
use crate::phase::Phase;

/// Time limit for the first answer. The launcher accepts connections for an api that is being started.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

impl Agent {
    /// Connects to the agent of this host, and asks for its health, which names the instance.
    pub async fn on_host(socket: &Path) -> Result<(Agent, Health), Error> {
        let way = Way::Socket(socket.to_owned());
        let agent = Agent::by(instance(InstanceId::new("localhost").expect("a valid id")), way.clone());
        let asked = agent.body(Call::get("/v1/health").any_status());
        let bytes = match tokio::time::timeout(FIRST_ANSWER, asked).await {
            Ok(answer) => answer?,
            Err(_) => return Err(agent.error(Kind::TimedOut(Phase::Http, "connected, but no answer within 10s"))),
        };
        let health: Health = call::parse(&bytes).map_err(|kind| agent.error(kind))?;
        Ok((Agent::by(instance(health.instance.clone()), way), health))
    }
}

/// Returns the instance of this host. Its address is in the `Host` header, and in nothing else.
fn instance(id: InstanceId) -> Instance {
    Instance { facts: Facts::of(id), address: Address::new("localhost:80").expect("a valid address") }
}

pub(super) async fn dial(path: &Path) -> Result<Wire, Kind> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, UnixStream::connect(path)).await;
    let connected = connected.map_err(|_| Kind::TimedOut(Phase::Connect, "no connection within 5s"))?;
    let stream = connected.map_err(|e| match e.kind() {
        std::io::ErrorKind::ConnectionRefused => Kind::ConnectionRefused,
        _ => Kind::Connect(e),
    })?;
    let maker = stream.peer_cred().map_err(Kind::Connect)?.uid();
    if maker != 0 && maker != nix::unistd::geteuid().as_raw() {
        return Err(Kind::Protocol(format!("user {maker}, not root, has made this socket: it is not the agent's")));
    }
    wire::http(stream, AlertSlot::default()).await
}
