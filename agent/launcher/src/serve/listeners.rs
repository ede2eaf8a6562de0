//! The api's listening sockets: bound here, or inherited from systemd (socket activation), and passed to each api that is started.
//!
//! A restart of the api refuses no connection: new ones wait in the kernel's queue. The launcher never accepts a connection and
//! never reads from one.
//!
//! ```text
//!  bolt-launch.socket ──LISTEN_FDS──┐
//!                                   ├──▶ Listeners ──descriptors 4, 5──▶ api, and the next one
//!  agent.toml listen ────bind───────┘        └── closed while the api cannot be kept running: callers are refused
//! ```
//!
//! Addresses are read from `agent.toml` at the launcher's start. The api tries to bind an address that cannot be bound here, and
//! reports the error.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{Backlog, listen};
use packs_schema::agent::config::Config;

use crate::{log, sys};

/// Maximum number of connections that wait for an api; the kernel bounds it by `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// First descriptor that systemd passes (sd_listen_fds(3)).
const FIRST_FD: i32 = 3;
/// Names of sockets in a socket unit (`FileDescriptorName=`).
const NAMES: [&str; 2] = ["api", "health"];

/// A listening socket, or the address to bind.
#[derive(Debug)]
struct Listener {
    address: Option<SocketAddr>,
    socket: Option<OwnedFd>,
    /// True if inherited from systemd: it cannot be bound again and is never closed.
    inherited: bool,
}

/// Sockets of the REST interface and of the plain-text health listener.
#[derive(Debug)]
pub(super) struct Listeners {
    all: [Listener; 2],
}

/// Takes over the sockets that systemd passed, in the order of [`NAMES`]. Must be called before any descriptor is opened.
pub(super) fn from_systemd() -> [Option<OwnedFd>; 2] {
    let variable = |name: &str| std::env::var(name).ok();
    let mut sockets = [None, None];
    for (descriptor, position) in parse_listen_fds(
        variable("LISTEN_PID").as_deref(),
        variable("LISTEN_FDS").as_deref(),
        variable("LISTEN_FDNAMES").as_deref(),
    ) {
        match sys::adopt_listener(descriptor) {
            Ok(socket) => sockets[position] = Some(socket),
            Err(e) => log::warn("socket from systemd is not usable", &[("descriptor", &descriptor), ("reason", &e)]),
        }
    }
    sockets
}

/// Parses the variables of systemd: returns the descriptors, each with its index in [`NAMES`].
fn parse_listen_fds(pid: Option<&str>, count: Option<&str>, names: Option<&str>) -> Vec<(i32, usize)> {
    let ours = pid.and_then(|pid| pid.parse().ok()) == Some(std::process::id());
    let count: i32 = count.filter(|_| ours).and_then(|count| count.parse().ok()).unwrap_or(0);
    let names: Vec<&str> = names.map_or_else(Vec::new, |names| names.split(':').collect());
    let mut found: Vec<(i32, usize)> = Vec::new();
    for n in 0..count.clamp(0, 16) {
        let index = usize::try_from(n).unwrap_or(usize::MAX);
        let named = names.get(index).and_then(|name| NAMES.iter().position(|known| known == name));
        // Without known names, the order in the unit decides.
        let position = named.or_else(|| (index < NAMES.len()).then_some(index));
        if let Some(position) = position.filter(|position| found.iter().all(|(_, taken)| taken != position)) {
            found.push((FIRST_FD + n, position));
        }
    }
    found
}

impl Listeners {
    /// Returns the listeners of the configuration, with the sockets that systemd passed.
    pub(super) fn new(config: &Config, [api, health]: [Option<OwnedFd>; 2]) -> Listeners {
        let listener = |address, socket: Option<OwnedFd>| Listener { address, inherited: socket.is_some(), socket };
        Listeners { all: [listener(Some(config.api.listen), api), listener(config.api.health_listen, health)] }
    }

    /// Binds the sockets that are not bound yet.
    pub(super) fn bind(&mut self) {
        for (listener, name) in self.all.iter_mut().zip(NAMES) {
            let Some(address) = listener.address.filter(|_| listener.socket.is_none()) else { continue };
            match TcpListener::bind(address).and_then(|socket| {
                // A larger queue than that of the standard library, because a restart of the api takes some time.
                let _ = Backlog::new(BACKLOG).and_then(|backlog| listen(&socket, backlog));
                socket.set_nonblocking(true)?;
                socket.local_addr().map(|bound| (socket, bound))
            }) {
                Ok((socket, bound)) => {
                    log::info("listening", &[("socket", &name), ("address", &bound)]);
                    // Port 0 is resolved once: after a close, the same port is bound again.
                    listener.address = Some(bound);
                    listener.socket = Some(socket.into());
                }
                // The api tries again and reports the error in health.
                Err(e) => {
                    log::warn("cannot listen", &[("socket", &name), ("address", &address), ("reason", &e)]);
                }
            }
        }
    }

    /// Returns the sockets for an api that is being started.
    pub(super) fn sockets(&self) -> [Option<BorrowedFd<'_>>; 2] {
        self.all.each_ref().map(|listener| listener.socket.as_ref().map(AsFd::as_fd))
    }

    /// Closes the sockets that were bound here: without an api, callers are refused instead of kept waiting.
    pub(super) fn close(&mut self) {
        for listener in self.all.iter_mut().filter(|listener| !listener.inherited) {
            listener.socket = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_from_systemd_are_assigned_by_name_or_by_order() {
        let us = std::process::id().to_string();
        let ours = |count: &str, names: Option<&str>| parse_listen_fds(Some(&us), Some(count), names);
        assert_eq!(ours("2", None), [(3, 0), (4, 1)]);
        assert_eq!(ours("2", Some("health:api")), [(3, 1), (4, 0)]);
        assert_eq!(ours("1", Some("bolt-launch.socket")), [(3, 0)]);
        assert_eq!(ours("2", Some("api:api")), [(3, 0)]);
        assert_eq!(ours("3", Some("api:health:more")), [(3, 0), (4, 1)]);
        assert_eq!(ours("-1", None), []);
        assert_eq!(ours("x", None), []);
        assert_eq!(parse_listen_fds(Some("1"), Some("1"), None), [], "passed to another process");
        assert_eq!(parse_listen_fds(None, Some("1"), None), []);
    }

    #[test]
    fn a_closed_socket_is_bound_to_the_same_port_again() {
        let text = "[instance]\nid = \"i-1\"\n[api]\nlisten = \"127.0.0.1:0\"\n[tls]\ncertificate = \"/c\"\nkey = \"/k\"\n\
                    client_ca = \"/a\"\n[repository]\nurl = \"file:///r\"\nroot = \"/r\"\nchannel = \"dev\"\n";
        let mut listeners = Listeners::new(&Config::parse(text).unwrap(), [None, None]);
        assert!(listeners.sockets()[0].is_none());
        listeners.bind();
        let address = listeners.all[0].address.unwrap();
        assert!(listeners.sockets()[0].is_some() && listeners.sockets()[1].is_none());
        // No process accepts, and the connection is not refused.
        let waiting = std::net::TcpStream::connect(address).unwrap();
        drop(waiting);
        listeners.close();
        assert!(std::net::TcpStream::connect(address).is_err());
        listeners.bind();
        assert_eq!(listeners.all[0].address, Some(address));
        std::net::TcpStream::connect(address).unwrap();
    }
}
