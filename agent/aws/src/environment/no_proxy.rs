//! `NO_PROXY`: hosts, domains, addresses and networks, separated by commas.
//!
//! The proxy matcher treats every other entry (a wildcard, a port, a network with an invalid prefix length) as a domain, which then
//! never matches: the host would be reached through the proxy.

use std::net::IpAddr;

use super::entry_error;

/// Checks a list. An empty list and empty entries are allowed.
pub(super) fn check(list: &str) -> Result<(), String> {
    for (index, entry) in list.split(',').map(str::trim).enumerate() {
        check_entry(entry).map_err(|why| entry_error(index, why))?;
    }
    Ok(())
}

fn check_entry(entry: &str) -> Result<(), &'static str> {
    if matches!(entry, "" | "*") || entry.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    if entry.contains("://") {
        return Err("an address with a scheme; write only the host");
    }
    if let Some((network, bits)) = entry.split_once('/') {
        return check_network(network, bits);
    }
    if entry.contains(char::is_whitespace) {
        return Err("entries must be separated by commas, not by blanks");
    }
    if entry.contains('*') {
        return Err(
            "'*' means every host and must be alone; for a domain write .example.com, for addresses 10.0.0.0/8",
        );
    }
    if entry.contains([':', '[', ']']) {
        return Err("write the host without a port, and an IPv6 address without brackets");
    }
    let domain = entry.strip_prefix('.').unwrap_or(entry);
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if !domain.split('.').all(is_label) {
        return Err("not a host, domain, address or network; write an international name as xn--…");
    }
    // The matcher would treat `10.1` and `300.1.1.1` as names.
    if domain.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err("an incomplete or invalid address");
    }
    Ok(())
}

fn check_network(network: &str, bits: &str) -> Result<(), &'static str> {
    let max_bits = match network.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return Err("the part before '/' is not an address"),
    };
    let valid = bits.bytes().all(|b| b.is_ascii_digit()) && bits.parse::<u8>().is_ok_and(|bits| bits <= max_bits);
    if valid { Ok(()) } else { Err("the prefix length is not valid for the address") }
}
