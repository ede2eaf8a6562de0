//! Addresses to listen at, as `agent.toml` has them.

use std::net::SocketAddr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Reads an IP address with a port.
pub(super) fn read<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(from)?;
    let wrong = || {
        let given: String = text.chars().take(80).collect();
        format!("{given:?} is not an IP address with a port: write it like 127.0.0.1:8443, 0.0.0.0:8443 or [::]:8443")
    };
    text.parse().map_err(|_| D::Error::custom(wrong()))
}

/// Reads an address that may be left out.
pub(super) fn read_some<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SocketAddr>, D::Error> {
    read(from).map(Some)
}

/// True if one host cannot listen at both: the same port of the same address, or of every address.
pub(super) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let is_dual = |address: SocketAddr| address.is_ipv6() && address.ip().is_unspecified();
    let covers = |one: SocketAddr, other: SocketAddr| {
        one.ip() == other.ip() || (one.ip().is_unspecified() && (is_dual(one) || one.is_ipv4() == other.is_ipv4()))
    };
    one.port() != 0 && one.port() == other.port() && (covers(one, other) || covers(other, one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_overlap_where_a_host_cannot_listen_at_both() {
        for (one, other, overlaps) in [
            ("127.0.0.1:8443", "127.0.0.1:8443", true),
            ("127.0.0.1:8443", "127.0.0.1:8080", false),
            ("127.0.0.1:8443", "127.0.0.2:8443", false),
            ("0.0.0.0:8443", "127.0.0.2:8443", true),
            ("0.0.0.0:8443", "[::1]:8443", false),
            ("[::]:8443", "127.0.0.1:8443", true),
            ("[::]:8443", "[::1]:8443", true),
            ("[::1]:8443", "127.0.0.1:8443", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            let address = |text: &str| text.parse::<SocketAddr>().unwrap();
            assert_eq!(overlap(address(one), address(other)), overlaps, "{one} {other}");
            assert_eq!(overlap(address(other), address(one)), overlaps, "{other} {one}");
        }
    }
}
