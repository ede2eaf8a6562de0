//! The api's listening sockets: bound here, or taken over from systemd, and passed to each api that is started.
//!
//! So a restart of the api refuses no connection: those that come meanwhile wait in the kernel's queue. The launcher
//! never accepts a connection and never reads from one.
//!
//! ```text
//!  bolt-launch.socket ──LISTEN_FDS──┐
//!                                   ├──▶ Listeners ──descriptors 4, 5──▶ api, and the next one
//!  agent.toml listen ────bind───────┘        └── dropped while the api cannot be kept running: refused, not kept waiting
//! ```
//!
//! Addresses are those that `agent.toml` named when the launcher started. What cannot be bound is left to the api, which
//! says why.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{Backlog, listen};
use packs_schema::agent::config::Config;

use crate::{log, sys};

/// Maximum number of connections that wait for an api; the kernel bounds it by `net.core.somaxconn`.
const WAITING: i32 = 4096;
/// The first descriptor that systemd passes (sd_listen_fds(3)).
const FIRST: i32 = 3;
/// Names of sockets in a socket unit (`FileDescriptorName=`).
const NAMES: [&str; 2] = ["api", "health"];

/// One socket, or where it is to be bound.
#[derive(Debug)]
struct Listener {
    address: Option<SocketAddr>,
    socket: Option<OwnedFd>,
    /// From systemd: it cannot be bound again, and is never given up.
    inherited: bool,
}

/// The sockets of the REST interface and of the plain health listener.
#[derive(Debug)]
pub(super) struct Listeners {
    all: [Listener; 2],
}

/// Takes over what systemd passed, in the order of [`NAMES`]. To be called first thing, before anything opens a descriptor.
pub(super) fn from_systemd() -> [Option<OwnedFd>; 2] {
    let variable = |name: &str| std::env::var(name).ok();
    let mut sockets = [None, None];
    for (descriptor, place) in passed(
        variable("LISTEN_PID").as_deref(),
        variable("LISTEN_FDS").as_deref(),
        variable("LISTEN_FDNAMES").as_deref(),
    ) {
        match sys::adopt_listener(descriptor) {
            Ok(socket) => sockets[place] = Some(socket),
            Err(e) => log::warn("a socket of systemd's is not used", &[("descriptor", &descriptor), ("reason", &e)]),
        }
    }
    sockets
}

/// The descriptors that the variables name, each with its place among [`NAMES`].
fn passed(pid: Option<&str>, count: Option<&str>, names: Option<&str>) -> Vec<(i32, usize)> {
    let ours = pid.and_then(|pid| pid.parse().ok()) == Some(std::process::id());
    let count: i32 = count.filter(|_| ours).and_then(|count| count.parse().ok()).unwrap_or(0);
    let names: Vec<&str> = names.map_or_else(Vec::new, |names| names.split(':').collect());
    let mut found: Vec<(i32, usize)> = Vec::new();
    for n in 0..count.clamp(0, 16) {
        let index = usize::try_from(n).unwrap_or(usize::MAX);
        let named = names.get(index).and_then(|name| NAMES.iter().position(|known| known == name));
        // Without names of ours the order counts, as it stands in the unit.
        let place = named.or_else(|| (index < NAMES.len()).then_some(index));
        if let Some(place) = place.filter(|place| found.iter().all(|(_, taken)| taken != place)) {
            found.push((FIRST + n, place));
        }
    }
    found
}

impl Listeners {
    /// Those of the configuration, with what systemd passed.
    pub(super) fn new(config: &Config, [api, health]: [Option<OwnedFd>; 2]) -> Listeners {
        let listener = |address, socket: Option<OwnedFd>| Listener { address, inherited: socket.is_some(), socket };
        Listeners { all: [listener(Some(config.api.listen), api), listener(config.api.health_listen, health)] }
    }

    /// Binds what is not bound yet.
    pub(super) fn bind(&mut self) {
        for (listener, name) in self.all.iter_mut().zip(NAMES) {
            let Some(address) = listener.address.filter(|_| listener.socket.is_none()) else { continue };
            match TcpListener::bind(address).and_then(|socket| {
                // More may wait than the library asks for: a restart takes a moment.
                let _ = Backlog::new(WAITING).and_then(|backlog| listen(&socket, backlog));
                socket.set_nonblocking(true)?;
                socket.local_addr().map(|bound| (socket, bound))
            }) {
                Ok((socket, bound)) => {
                    log::info("listening", &[("socket", &name), ("address", &bound)]);
                    // Port 0 stands for one port, also after it was given up.
                    listener.address = Some(bound);
                    listener.socket = Some(socket.into());
                }
                // The api tries it again, and reports it where it reports everything.
                Err(e) => {
                    log::warn("cannot listen", &[("socket", &name), ("address", &address), ("reason", &e)]);
                }
            }
        }
    }

    /// The sockets, for an api that is started.
    pub(super) fn sockets(&self) -> [Option<BorrowedFd<'_>>; 2] {
        self.all.each_ref().map(|listener| listener.socket.as_ref().map(AsFd::as_fd))
    }

    /// Closes what was bound here: without an api, callers are to be refused rather than kept waiting.
    pub(super) fn give_up(&mut self) {
        for listener in self.all.iter_mut().filter(|listener| !listener.inherited) {
            listener.socket = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemds_sockets_are_ours_by_name_or_by_order() {
        let us = std::process::id().to_string();
        let ours = |count: &str, names: Option<&str>| passed(Some(&us), Some(count), names);
        assert_eq!(ours("2", None), [(3, 0), (4, 1)]);
        assert_eq!(ours("2", Some("health:api")), [(3, 1), (4, 0)]);
        assert_eq!(ours("1", Some("bolt-launch.socket")), [(3, 0)]);
        assert_eq!(ours("2", Some("api:api")), [(3, 0)]);
        assert_eq!(ours("3", Some("api:health:more")), [(3, 0), (4, 1)]);
        assert_eq!(ours("-1", None), []);
        assert_eq!(ours("x", None), []);
        assert_eq!(passed(Some("1"), Some("1"), None), [], "they are another process's");
        assert_eq!(passed(None, Some("1"), None), []);
    }

    #[test]
    fn what_was_given_up_is_bound_to_the_same_port_again() {
        let text = "[instance]\nid = \"i-1\"\n[api]\nlisten = \"127.0.0.1:0\"\n[tls]\ncertificate = \"/c\"\nkey = \"/k\"\n\
                    client_ca = \"/a\"\n[repository]\nurl = \"file:///r\"\nroot = \"/r\"\nchannel = \"dev\"\n";
        let mut listeners = Listeners::new(&Config::parse(text).unwrap(), [None, None]);
        assert!(listeners.sockets()[0].is_none());
        listeners.bind();
        let address = listeners.all[0].address.unwrap();
        assert!(listeners.sockets()[0].is_some() && listeners.sockets()[1].is_none());
        // Nobody accepts, and nobody is refused.
        let waiting = std::net::TcpStream::connect(address).unwrap();
        drop(waiting);
        listeners.give_up();
        assert!(std::net::TcpStream::connect(address).is_err());
        listeners.bind();
        assert_eq!(listeners.all[0].address, Some(address));
        std::net::TcpStream::connect(address).unwrap();
    }
}
