//! The inventory: a TOML or JSON file of instances, and the choice of some of them.
//!
//! ```toml
//! [[instances]]
//! id = "i-0abc"
//! address = "10.0.0.7:8443"
//! region = "us-east-1"
//! zone = "us-east-1a"
//! app = "cassandra"
//! tags = { team = "dba" }
//! ```
//!
//! Must never: select all instances because none matched.

mod select;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use packs_schema::base::document::{from_value, toml as toml_text};
use packs_schema::base::name::InstanceId;
use packs_schema::base::strict;
use packs_schema::delivery::facts::Facts;
use serde::{Deserialize, Serialize};

pub use select::{IdPattern, Selection, SelectionError};

use crate::files::{self, FileError};

/// Maximum size of an inventory in bytes: enough for 100,000 instances.
const MAX_FILE: u64 = 64 << 20;

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

/// Instance of the inventory: its facts, and the address of its agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Facts: id, region, zone, tags.
    pub facts: Facts,
    /// Address of its agent.
    pub address: Address,
}

impl Instance {
    /// Returns its id.
    pub fn id(&self) -> &InstanceId {
        &self.facts.id
    }
}

/// Entry of the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: InstanceId,
    address: Address,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    region: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    zone: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    app: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    cluster: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    group: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
}

impl From<Entry> for Instance {
    fn from(entry: Entry) -> Instance {
        let Entry { id, address, region, zone, app, cluster, group, tags } = entry;
        Instance { facts: Facts { id, region, zone, app, cluster, group, tags }, address }
    }
}

impl From<&Instance> for Entry {
    fn from(instance: &Instance) -> Entry {
        let Facts { id, region, zone, app, cluster, group, tags } = instance.facts.clone();
        Entry { id, address: instance.address.clone(), region, zone, app, cluster, group, tags }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<T> {
    instances: Vec<T>,
}

/// Error returned for a file that is not an inventory.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not TOML or JSON with a list `instances`.
    #[error("{path} is not an inventory: {problem}", path = crate::show::path(path))]
    Document {
        /// Path of the file.
        path: PathBuf,
        /// Description of the problem.
        problem: String,
    },
    /// An entry is not valid.
    #[error("{path}: instance {number} ({id}): {problem}", path = crate::show::path(path))]
    Entry {
        /// Path of the file.
        path: PathBuf,
        /// Position of the entry, from 1.
        number: usize,
        /// Its id, if it has one.
        id: String,
        /// Description of the problem.
        problem: String,
    },
}

/// Instances, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    instances: Vec<Instance>,
}

impl Inventory {
    /// Reads a file: JSON when its name ends in `.json`, TOML otherwise.
    pub fn load(path: &Path) -> Result<Inventory, InventoryError> {
        let text = files::read_text(path, MAX_FILE)?;
        Inventory::parse(path, &text)
    }

    /// Parses `text`, the content of `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Inventory, InventoryError> {
        let document = |problem: String| InventoryError::Document { path: path.to_owned(), problem };
        let entries: Vec<serde_json::Value> = if path.extension().is_some_and(|e| e == "json") {
            let value = strict::parse(text.as_bytes()).map_err(|e| document(e.to_string()))?;
            from_value::<Document<_>>(&value).map_err(|e| document(e.to_string()))?.instances
        } else {
            toml_text::parse::<Document<_>>(text).map_err(|e| document(e.to_string()))?.instances
        };
        let mut instances: Vec<Instance> = Vec::with_capacity(entries.len());
        let mut seen = HashSet::new();
        for (number, value) in (1..).zip(entries) {
            let id = value.get("id").and_then(|id| id.as_str()).unwrap_or("without an id").chars().take(80).collect();
            let wrong = |problem| InventoryError::Entry { path: path.to_owned(), number, id, problem };
            match from_value::<Entry>(&value) {
                Err(e) => return Err(wrong(e.to_string())),
                Ok(entry) if !seen.insert(entry.id.clone()) => {
                    return Err(wrong("another entry has the same id: remove one of the two".to_owned()));
                }
                Ok(entry) => instances.push(entry.into()),
            }
        }
        Ok(Inventory { instances })
    }

    /// Returns an inventory of these instances, which must have different ids.
    pub fn of(instances: Vec<Instance>) -> Inventory {
        Inventory { instances }
    }

    /// Returns this inventory as a TOML file.
    pub fn to_toml(&self) -> String {
        #[derive(Serialize)]
        struct File {
            instances: Vec<Entry>,
        }
        let file = File { instances: self.instances.iter().map(Entry::from).collect() };
        toml::to_string(&file).expect("strings and maps of strings are TOML")
    }

    /// Returns all instances.
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "[[instances]]\nid = \"i-1\"\naddress = \"127.0.0.1:1\"\nzone = \"a\"\ntags = { team = \"dba\" }\n";

    fn parse(name: &str, text: &str) -> Result<Inventory, String> {
        Inventory::parse(Path::new(name), text).map_err(|e| e.to_string())
    }

    #[test]
    fn both_formats_read_and_write_back() {
        let toml = parse("i.toml", GOOD).unwrap();
        let json = parse(
            "i.json",
            r#"{"instances": [{"id": "i-1", "address": "127.0.0.1:1", "zone": "a", "tags": {"team": "dba"}}]}"#,
        );
        assert_eq!(json.unwrap(), toml);
        assert_eq!(parse("i.toml", &toml.to_toml()).unwrap(), toml);
    }

    #[test]
    fn errors_name_the_file_and_the_entry() {
        let twice = format!("{GOOD}{GOOD}");
        for (text, parts) in [
            (GOOD.replace("zone", "zon"), vec!["instance 1 (i-1)", "zon"]),
            (twice, vec!["instance 2 (i-1)", "same id"]),
            (GOOD.replace("127.0.0.1:1", "127.0.0.1"), vec!["i-1", "host:port"]),
            (GOOD.replace("i-1", "../x"), vec!["../x", "instance id"]),
            ("[[instance]]\n".to_owned(), vec!["instance"]),
        ] {
            let error = parse("hosts.toml", &text).unwrap_err();
            assert!(error.contains("hosts.toml"), "{error}");
            for part in parts {
                assert!(error.contains(part), "{part:?} in {error}");
            }
        }
        assert!(parse("i.json", r#"{"instances": [], "instances": []}"#).unwrap_err().contains("instances"));
    }

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
