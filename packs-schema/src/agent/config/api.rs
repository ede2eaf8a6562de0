//! `[api]`: the REST interface, and the process that serves it.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use super::{ConfigError, address};
use crate::base::quantity::{Bytes, Span};

/// `[api]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiConfig {
    /// Address and port of the REST interface. Port 0 takes a free port, which is written to `api.address` in the state
    /// directory.
    #[serde(deserialize_with = "address::read")]
    pub listen: SocketAddr,
    /// Address and port of a plain HTTP listener that answers `GET /v1/health` and nothing else, for load balancers: the
    /// state and codes.
    #[serde(default, deserialize_with = "address::read_some")]
    pub health_listen: Option<SocketAddr>,
    /// Maximum number of concurrent connections, at most [`ApiConfig::MAX_CONNECTIONS`]. Up to 64 more callers wait up to 30 s; TLS handshakes have limits of
    /// their own.
    #[serde(default = "max_connections")]
    pub max_connections: usize,
    /// Maximum memory of the api process, if the launcher creates a cgroup for it; under systemd, `MemoryMax` of the
    /// unit applies to launcher, shims, api and sync together.
    #[serde(default = "memory")]
    pub memory: Bytes,
    /// Time without a sign of life after which the launcher kills the api process and starts another; executions go on.
    /// 0: never.
    #[serde(default = "hang_after")]
    pub hang_after: Span,
}

impl ApiConfig {
    /// Maximum of `max_connections`: each has a descriptor, of which the packaged unit allows 65,536 (`LimitNOFILE`).
    pub const MAX_CONNECTIONS: usize = 50_000;
    /// Shortest `hang_after`: a busy host may delay an answer by a second or two.
    pub const MIN_HANG_AFTER: Duration = Duration::from_secs(5);
    /// Longest `hang_after`.
    pub const MAX_HANG_AFTER: Duration = Duration::from_secs(86_400);

    /// Returns the time after which a hung api is replaced; `None` if it never is.
    pub fn hang_after(&self) -> Option<Duration> {
        (!self.hang_after.0.is_zero()).then_some(self.hang_after.0)
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if let Some(health) = self.health_listen.filter(|health| address::overlap(self.listen, *health)) {
            return Err(ConfigError::SameAddress { api: self.listen, health });
        }
        match self.hang_after() {
            Some(time) if !(Self::MIN_HANG_AFTER..=Self::MAX_HANG_AFTER).contains(&time) => {
                Err(ConfigError::HangAfter(time))
            }
            _ => Ok(()),
        }
    }
}

fn memory() -> Bytes {
    Bytes(128 << 20)
}

fn hang_after() -> Span {
    Span(Duration::from_secs(60))
}

fn max_connections() -> usize {
    1024
}
