//! Notifications to systemd, if it started the launcher: one datagram of `KEY=value` lines (sd_notify(3)).

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Variable with the address of systemd's socket.
const SOCKET: &str = "NOTIFY_SOCKET";

/// Sends a notification, if systemd started the launcher. Failures are ignored.
pub(super) fn notify(lines: &str) {
    if let Some(address) = std::env::var_os(SOCKET) {
        let _ = send(address.as_bytes(), lines);
    }
}

/// Sends to a path, or to an abstract address, which begins with `@`.
fn send(address: &[u8], lines: &str) -> io::Result<()> {
    let address = match address.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(address))?,
    };
    let socket = UnixDatagram::unbound()?;
    // A service manager that does not read must not block the launcher.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(lines.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 100];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn paths_and_abstract_addresses_are_reached() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str().as_bytes(), "READY=1\n").unwrap();
        assert_eq!(received(&socket), "READY=1\n");

        let name = format!("bolt-test-{}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(format!("@{name}").as_bytes(), "STATUS=fine\n").unwrap();
        assert_eq!(received(&socket), "STATUS=fine\n");
        assert!(send(b"/nonexistent/socket", "READY=1\n").is_err());
    }
}
