//! The inventory: which instances there are, from all configured sources, and the choice of some of them.
//!
//! ```text
//!  client.toml ─▶ settings ─▶ sources: file, exec, ec2, spinnaker ─▶ gather: asked at once, combined ─▶ Inventory ─▶ select
//!                                        └── cache: answers of the last seconds
//! ```
//!
//! The simplest source is a file:
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
//! Must never: select all instances because none matched, or return fewer instances because a source failed.

mod address;
mod cache;
mod combine;
mod document;
mod entry;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
mod gather;
mod sample;
mod select;
mod settings;
pub mod source;
mod stream;

use std::path::Path;

use packs_schema::base::name::InstanceId;
use packs_schema::delivery::facts::Facts;
use serde::Serialize;

pub use address::{Address, AddressError};
pub use combine::CombineError;
pub use document::InventoryError;
pub use entry::{Found, document_schema};
pub use gather::{GatherError, GatherOptions, Gathered, Missing, cached, gather};
pub use sample::Sample;
pub use select::{IdPattern, Selection, SelectionError};
pub use settings::{ConfiguredSource, SettingsError};

use entry::Entry;

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

/// Instances, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    instances: Vec<Instance>,
}

impl Inventory {
    /// Reads a file: JSON when its name ends in `.json`, TOML otherwise.
    pub fn load(path: &Path) -> Result<Inventory, InventoryError> {
        Inventory::of_found(path, document::load(path)?)
    }

    /// Parses `text`, the content of `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Inventory, InventoryError> {
        Inventory::of_found(path, document::parse_file(path, text)?)
    }

    /// Requires an address of each instance: there is no other source.
    fn of_found(path: &Path, found: Vec<Found>) -> Result<Inventory, InventoryError> {
        let with_address = |(number, Found { facts, address }): (usize, Found)| match address {
            Some(address) => Ok(Instance { facts, address }),
            None => Err(InventoryError::Entry {
                path: path.to_owned(),
                number,
                id: facts.id.to_string(),
                problem: "the key \"address\" is missing".to_owned(),
            }),
        };
        let instances = (1..).zip(found).map(with_address).collect::<Result<_, _>>()?;
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
        let file = File { instances: self.instances.iter().map(|i| Entry::of(&i.facts, Some(&i.address))).collect() };
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
}
