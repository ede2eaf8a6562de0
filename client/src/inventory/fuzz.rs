//! Doors for the fuzz targets to what sources of the inventory answer.

use std::path::Path;
use std::time::Duration;

use packs_schema::base::document::from_value;
use serde_json::json;

use super::Found;
use super::document;
use super::source::ec2::{self as ec2_source, Ec2Source};
use super::source::spinnaker::{self, SpinnakerSource};

/// Reads a JSON document, as programs print it.
pub fn document_json(bytes: &[u8]) -> Result<Vec<Found>, String> {
    document::parse_json(bytes)
}

/// Reads a TOML document.
pub fn document_toml(text: &str) -> Result<Vec<Found>, String> {
    document::parse_file(Path::new("instances.toml"), text).map_err(|error| error.to_string())
}

/// Reads server groups as Gate describes them; returns their instances, or a problem of each.
pub fn gate(bytes: &[u8]) -> Result<Vec<Result<Found, String>>, String> {
    let settings = json!({"gate": "https://gate.example", "applications": ["app"]});
    let settings = from_value(&settings).expect("settings");
    let sources = SpinnakerSource::all("spinnaker", settings, Path::new("/"), Duration::ZERO).expect("a source");
    spinnaker::fuzz_groups(&sources[0], bytes)
}

/// Reads a page of EC2; returns its instances, or a problem of each.
pub fn ec2(body: &[u8]) -> Result<Vec<Result<Found, String>>, String> {
    let settings = json!({"regions": ["eu-west-1"], "address": ["private_ip", "ipv6", "private_dns"]});
    let sources = Ec2Source::all("ec2", from_value(&settings).expect("settings"), Duration::ZERO).expect("a source");
    let (instances, _) = bolt_aws::fuzz::ec2_page(body)?;
    Ok(instances.iter().map(|one| ec2_source::fuzz_instance(&sources[0], one)).collect())
}
