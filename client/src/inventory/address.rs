//! Address of an agent: a host name or IP address, and a port.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Address of an agent: `host:port`, `192.0.2.1:8443`, `[2001:db8::1]:8443`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    host: String,
    port: u16,
}

/// Error returned for a text that is not an [`Address`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an address: write it as host:port, such as 10.0.0.7:8443, [2001:db8::1]:8443 or [fe80::1%eth0]:8443"
)]
pub struct AddressError(String);

impl Address {
    /// Parses `text`.
    pub fn new(text: &str) -> Result<Address, AddressError> {
        let wrong = || AddressError(text.chars().take(80).collect());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse().ok().filter(|port| digits && *port != 0).ok_or_else(wrong)?;
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(six) => match six.split_once('%') {
                Some((ip, zone)) => return Address::link_local(ip, zone, port).ok_or_else(wrong),
                None => six.parse::<Ipv6Addr>().map_err(|_| wrong())?.to_string(),
            },
            None => host.to_owned(),
        };
        let named = host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) && !host.starts_with('-');
        if host.is_empty() || host.len() > 253 || !(named || host.parse::<Ipv6Addr>().is_ok()) {
            return Err(wrong());
        }
        if host.contains(':') && !text.starts_with('[') {
            return Err(wrong());
        }
        Ok(Address { host, port })
    }

    /// Returns the address of a host name or an IP address (IPv6 without brackets).
    #[cfg(feature = "s3")]
    pub(crate) fn of_host(host: &str, port: u16) -> Result<Address, AddressError> {
        match host.parse::<Ipv6Addr>() {
            Ok(ip) => Address::new(&format!("[{ip}]:{port}")),
            Err(_) => Address::new(&format!("{host}:{port}")),
        }
    }

    /// Returns a link-local address with the interface of this host that leads to its link.
    fn link_local(ip: &str, zone: &str, port: u16) -> Option<Address> {
        let ip: Ipv6Addr = ip.parse().ok()?;
        // The longest name of an interface is 15 bytes on Linux.
        let named = zone.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        let fits = ip.is_unicast_link_local() && named && (1..=15).contains(&zone.len());
        fits.then(|| Address { host: format!("{ip}%{zone}"), port })
    }

    /// Returns the IP address and its zone, if it has one.
    pub(crate) fn zoned(&self) -> Option<(Ipv6Addr, &str)> {
        let (ip, zone) = self.host.split_once('%')?;
        Some((ip.parse().ok()?, zone))
    }

    /// Returns the `Host` header of a request to this address. The zone is local to this host and is left out (RFC 9844).
    pub(crate) fn host_header(&self) -> String {
        match self.zoned() {
            Some((ip, _)) => format!("[{ip}]:{}", self.port),
            None => self.to_string(),
        }
    }

    /// Returns the host name or IP address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Address, AddressError> {
        Address::new(text)
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;
    fn try_from(text: String) -> Result<Address, AddressError> {
        Address::new(&text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in ["a:1", "10.0.0.7:8443", "[::1]:80", "[fe80::1%eth0]:80", "host-1.example.org:65535"] {
            assert_eq!(Address::new(good).unwrap().to_string(), good);
        }
        for bad in [
            "[::1%eth0]:1",
            "[fe80::1%]:1",
            "[fe80::1%a/b]:1",
            "fe80::1%eth0:1",
            "",
            "a",
            "a:",
            ":1",
            "a:0",
            "a:65536",
            "::1:80",
            "[x]:1",
            "a b:1",
            "-x:1",
            "a/b:1",
            "a:+1",
            "a\n:1",
        ] {
            assert!(Address::new(bad).is_err(), "{bad:?}");
        }
    }
}
