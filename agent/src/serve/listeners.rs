//! Listening sockets: passed by the launcher, or bound here where it passed none.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use packs_schema::agent::config::Config;
use packs_schema::agent::launch::{ALIVE_FD, HEALTH_LISTEN_FD, LISTEN_FD, LOCAL_LISTEN_FD};

use super::StartError;
use crate::health::Health;
use crate::sys::{self, AdoptError};

/// Health code while the configuration names another address than the one in use.
const CHANGED: &str = "listen_changed";

/// Sockets that the launcher passed.
#[derive(Debug, Default)]
pub(super) struct Passed {
    pub(super) api: Option<TcpListener>,
    pub(super) health: Option<TcpListener>,
    /// Socket of local access.
    pub(super) local: Option<UnixListener>,
    /// Socket for signs of life.
    pub(super) alive: Option<OwnedFd>,
}

impl Passed {
    /// Takes over the descriptors that the environment names. Call this before anything else opens a descriptor.
    pub(super) fn take() -> Result<Passed, AdoptError> {
        Ok(Passed {
            api: adopt(LISTEN_FD)?.map(TcpListener::from),
            health: adopt(HEALTH_LISTEN_FD)?.map(TcpListener::from),
            local: adopt(LOCAL_LISTEN_FD)?.map(UnixListener::from),
            alive: descriptor(ALIVE_FD)?.map(sys::adopt_socket).transpose()?,
        })
    }
}

fn adopt(variable: &'static str) -> Result<Option<OwnedFd>, AdoptError> {
    descriptor(variable)?.map(sys::adopt_listener).transpose()
}

fn descriptor(variable: &'static str) -> Result<Option<i32>, AdoptError> {
    let Some(value) = std::env::var_os(variable) else { return Ok(None) };
    let descriptor = value.to_str().and_then(|number| number.parse().ok());
    descriptor.ok_or(AdoptError::NotANumber(variable)).map(Some)
}

/// Listeners of the configuration.
pub(super) struct Listeners {
    pub(super) api: tokio::net::TcpListener,
    pub(super) health: Option<tokio::net::TcpListener>,
}

/// Uses the sockets that were passed, and binds the others.
pub(super) async fn listen(config: &Config, passed: Passed, health: &Health) -> Result<Listeners, StartError> {
    let probes = match (passed.health, config.api.health_listen) {
        (Some(socket), address) => Some(listener("api.health_listen", address, Some(socket), health).await?),
        (None, Some(address)) => Some(listener("api.health_listen", Some(address), None, health).await?),
        (None, None) => None,
    };
    let api = listener("api.listen", Some(config.api.listen), passed.api, health).await?;
    Ok(Listeners { api, health: probes })
}

async fn listener(
    key: &'static str,
    wanted: Option<SocketAddr>,
    passed: Option<TcpListener>,
    health: &Health,
) -> Result<tokio::net::TcpListener, StartError> {
    let failed = |address, source| StartError::Listen { key, address, source };
    match (passed, wanted) {
        (Some(socket), wanted) => {
            let address = socket.local_addr().map_err(|e| failed(wanted.unwrap_or(ANY), e))?;
            let same = wanted.is_some_and(|wanted| {
                (wanted.ip() == address.ip() || address.ip().is_unspecified())
                    && (wanted.port() == address.port() || wanted.port() == 0)
            });
            if !same {
                let wanted = wanted.map_or_else(|| "absent".to_owned(), |wanted| wanted.to_string());
                let message = format!(
                    "{key} of agent.toml is {wanted}, and {address} is in use: restart the service bolt-launch (or correct \
                     bolt-launch.socket), which holds the socket"
                );
                tracing::warn!("{message}");
                health.set(CHANGED, message);
            }
            let ready = socket.set_nonblocking(true).and_then(|()| tokio::net::TcpListener::from_std(socket));
            ready.map_err(|e| failed(address, e))
        }
        (None, wanted) => {
            let address = wanted.unwrap_or(ANY);
            tokio::net::TcpListener::bind(address).await.map_err(|e| failed(address, e))
        }
    }
}

/// Placeholder in errors for an address that is not configured.
const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
