//! `NO_PROXY`: hosts, domains, addresses and networks with commas between them.
//!
//! The matcher takes whatever is no address or network for a domain that then never fits: a wildcard, a port, a network
//! with a prefix that is too long. Such a host would be asked through the proxy, which then sees what it should not.

use std::net::IpAddr;

use super::at;

/// Checks a list. An empty one, and an empty entry, count as nothing.
pub(super) fn check(list: &str) -> Result<(), String> {
    for (place, entry) in list.split(',').map(str::trim).enumerate() {
        entry_of(entry).map_err(|why| at(place, why))?;
    }
    Ok(())
}

fn entry_of(entry: &str) -> Result<(), &'static str> {
    if matches!(entry, "" | "*") || entry.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    if entry.contains("://") {
        return Err("it is an address; write the host alone");
    }
    if let Some((network, bits)) = entry.split_once('/') {
        return is_network(network, bits);
    }
    if entry.contains(char::is_whitespace) {
        return Err("entries are separated by commas, not by blanks");
    }
    if entry.contains('*') {
        return Err(
            "'*' stands for every host and only alone; for a domain write .example.com, for addresses 10.0.0.0/8",
        );
    }
    if entry.contains([':', '[', ']']) {
        return Err("write the host without a port, and an IPv6 address without brackets");
    }
    let domain = entry.strip_prefix('.').unwrap_or(entry);
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if !domain.split('.').all(is_label) {
        return Err("it is neither a host, a domain, an address nor a network; an international name is written xn--…");
    }
    // `10.1` and `300.1.1.1` would be taken for names.
    if domain.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err("it is an address that is not complete or not valid");
    }
    Ok(())
}

fn is_network(network: &str, bits: &str) -> Result<(), &'static str> {
    let longest = match network.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return Err("what stands before the '/' is not an address"),
    };
    let fits = bits.bytes().all(|b| b.is_ascii_digit()) && bits.parse::<u8>().is_ok_and(|bits| bits <= longest);
    if fits { Ok(()) } else { Err("the length of the network is not a number that fits its address") }
}
