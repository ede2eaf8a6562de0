//! `kind = "spinnaker"`: server groups of Spinnaker applications, asked of Gate. Each application is a source of its own.
//!
//! ```text
//!  GET /applications/{app}/serverGroups?expand=true&cloudProvider=aws&clusters=…   applications = ["web"]
//!  GET /serverGroups?ids=account:region:name,…                                     server_groups = ["prod:eu-west-1:web-v001"]
//!  GET /instances/{account}/{region}/{id}                                          details = true, where an address is missing
//! ```
//!
//! Gate knows applications, clusters and groups, but seldom addresses: instances without one are joined with those of an
//! `ec2` source.

mod gate;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use packs_schema::base::name::InstanceId;
use packs_schema::delivery::facts::Facts;
use serde::Deserialize;

use super::{Fetched, Source, SourceError};
use crate::inventory::address::Address;
use crate::inventory::entry::{self, Found};
use gate::{Gate, GateInstance, GateServerGroup};

/// Port of an agent by default.
const DEFAULT_PORT: u16 = 8443;
/// Time that Gate has by default for an answer.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum of `timeout`.
const MAX_TIMEOUT: Duration = Duration::from_secs(300);
/// Number of server groups in one request.
const IDS_AT_ONCE: usize = 20;
/// Maximum number of instances that are asked for at once.
const DETAILS_AT_ONCE: usize = 8;
/// Maximum number of instances.
const MAX_INSTANCES: usize = 200_000;
/// Maximum number of instances that cannot be used and get an error of their own.
const MAX_LEFT_OUT: usize = 20;

/// Keys of an `[[inventory]]` table of this kind.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpinnakerSettings {
    /// Address of Gate.
    pub gate: String,
    /// Applications.
    #[serde(default)]
    pub applications: Vec<String>,
    /// Clusters of the applications, as `account:cluster` [default: all].
    #[serde(default)]
    pub clusters: Vec<String>,
    /// Server groups, as `account:region:name`.
    #[serde(default)]
    pub server_groups: Vec<String>,
    /// List instances of disabled server groups as well [default: true].
    #[serde(default)]
    pub disabled: Option<bool>,
    /// Ask Gate for each instance whose address it did not say [default: false].
    #[serde(default)]
    pub details: bool,
    /// Address to use where Gate says one: `private_ip` or `public_ip` [default: private_ip].
    #[serde(default)]
    pub address: GateAddress,
    /// Port of the agents [default: 8443].
    #[serde(default)]
    pub port: Option<u16>,
    /// Time for an answer [default: 60s].
    #[serde(default)]
    pub timeout: Option<String>,
    /// Authority of Gate's certificate (PEM) [default: those of the host].
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Certificate of the caller (PEM).
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// Its key (PEM).
    #[serde(default)]
    pub key: Option<PathBuf>,
    /// File with a bearer token.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
}

/// Address of an instance that Gate says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateAddress {
    /// Private IPv4 address.
    #[default]
    PrivateIp,
    /// Public IPv4 address.
    PublicIp,
}

/// Instances that a source lists.
#[derive(Debug, Clone)]
enum Wanted {
    Application { name: String, clusters: Vec<String> },
    ServerGroups(Vec<String>),
}

/// An application, or a list of server groups.
#[derive(Debug)]
pub struct SpinnakerSource {
    name: String,
    wanted: Wanted,
    gate: Gate,
    disabled: bool,
    details: bool,
    address: GateAddress,
    port: u16,
    key: String,
    max_age: Duration,
}

impl SpinnakerSource {
    /// Creates the sources of a table; relative paths are relative to `base`. The error names the key.
    pub fn all(
        name: &str,
        settings: SpinnakerSettings,
        base: &Path,
        max_age: Duration,
    ) -> Result<Vec<SpinnakerSource>, String> {
        let key = format!("spinnaker {} {settings:?}", base.display());
        let SpinnakerSettings { applications, clusters, server_groups, disabled, details, address, port, .. } =
            settings.clone();
        let timeout = match &settings.timeout {
            None => DEFAULT_TIMEOUT,
            Some(text) => packs_schema::base::quantity::parse_duration(text).map_err(|e| format!("timeout: {e}"))?,
        };
        if timeout.is_zero() || timeout > MAX_TIMEOUT {
            return Err("timeout: give more than 0s and at most 5m".to_owned());
        }
        let port = port.unwrap_or(DEFAULT_PORT);
        if port == 0 {
            return Err("port: give 1 to 65535".to_owned());
        }
        check_names("applications", &applications, 1)?;
        check_names("clusters", &clusters, 2)?;
        check_names("server_groups", &server_groups, 3)?;
        if applications.is_empty() && server_groups.is_empty() {
            return Err("applications: give at least one application, or server_groups".to_owned());
        }
        if applications.is_empty() && !clusters.is_empty() {
            return Err("clusters: give the applications that they belong to".to_owned());
        }
        let gate = Gate::new(&settings, base, timeout)?;
        let mut wanted: Vec<(String, Wanted)> = Vec::new();
        for application in applications {
            let clusters = clusters.clone();
            wanted.push((format!("{name} {application}"), Wanted::Application { name: application, clusters }));
        }
        if !server_groups.is_empty() {
            wanted.push((format!("{name} server groups"), Wanted::ServerGroups(server_groups)));
        }
        let source = |(name, wanted): (String, Wanted)| SpinnakerSource {
            key: format!("{key} {wanted:?}"),
            name,
            wanted,
            gate: gate.clone(),
            disabled: disabled.unwrap_or(true),
            details,
            address,
            port,
            max_age,
        };
        Ok(wanted.into_iter().map(source).collect())
    }

    async fn server_groups(&self) -> Result<Vec<GateServerGroup>, SourceError> {
        match &self.wanted {
            Wanted::Application { name, clusters } => self.gate.of_application(name, clusters).await,
            Wanted::ServerGroups(ids) => {
                let mut all = Vec::with_capacity(ids.len());
                for some in ids.chunks(IDS_AT_ONCE) {
                    all.extend(self.gate.of_ids(some).await?);
                }
                let has = |id: &String, group: &GateServerGroup| {
                    *id == format!("{}:{}:{}", group.account, group.region, group.name)
                };
                match ids.iter().find(|id| !all.iter().any(|group| has(id, group))) {
                    Some(id) => Err(SourceError::new(format!("Gate knows no server group {id}"))),
                    None => Ok(all),
                }
            }
        }
    }

    /// Returns what a server group says about one of its instances.
    fn apply(&self, group: &GateServerGroup, one: &GateInstance) -> Result<Found, SourceError> {
        let named = if one.id.is_empty() { &one.name } else { &one.id };
        let shown = crate::show::visible(&entry::shorten(named));
        let wrong = |problem: String| SourceError::new(format!("instance {shown}: {problem}"));
        let id = InstanceId::new(named.as_str()).map_err(|error| wrong(error.to_string()))?;
        let moniker = |fact: Option<&String>| fact.filter(|text| !text.is_empty()).cloned();
        let application = match &self.wanted {
            Wanted::Application { name, .. } => Some(name.clone()),
            Wanted::ServerGroups(_) => None,
        };
        let facts = Facts {
            id,
            region: group.region.clone(),
            zone: one.zone.clone(),
            app: moniker(group.moniker.app.as_ref()).or(application).unwrap_or_default(),
            cluster: moniker(group.moniker.cluster.as_ref()).or(moniker(group.cluster.as_ref())).unwrap_or_default(),
            group: group.name.clone(),
            tags: BTreeMap::new(),
        };
        entry::check(&facts).map_err(wrong)?;
        Ok(Found { facts, address: self.address_of(one).map_err(wrong)? })
    }

    fn address_of(&self, one: &GateInstance) -> Result<Option<Address>, String> {
        let host = match self.address {
            GateAddress::PrivateIp => &one.private_ip_address,
            GateAddress::PublicIp => &one.public_ip_address,
        };
        let host = host.as_deref().filter(|host| !host.is_empty());
        host.map(|host| Address::of_host(host, self.port)).transpose().map_err(|error| error.to_string())
    }

    /// Asks Gate for the instances without an address.
    async fn add_addresses(&self, found: &mut [(String, Found)]) -> Result<(), SourceError> {
        let missing: Vec<usize> = (0..found.len()).filter(|at| found[*at].1.address.is_none()).collect();
        let asked = stream::iter(missing.into_iter().map(|at| {
            let (account, Found { facts, .. }) = &found[at];
            let (account, region, id) = (account.clone(), facts.region.clone(), facts.id.clone());
            async move {
                let details = self.gate.instance(&account, &region, id.as_str()).await?;
                let address =
                    self.address_of(&details).map_err(|why| SourceError::new(format!("instance {id}: {why}")))?;
                Ok::<_, SourceError>((at, address))
            }
        }));
        let known: Vec<(usize, Option<Address>)> = asked.buffer_unordered(DETAILS_AT_ONCE).try_collect().await?;
        for (at, address) in known {
            found[at].1.address = address;
        }
        Ok(())
    }
}

/// Reads server groups for the fuzz targets; returns what the source finds in them.
#[cfg(feature = "fuzzing")]
pub(in crate::inventory) fn fuzz_groups(
    source: &SpinnakerSource,
    bytes: &[u8],
) -> Result<Vec<Result<Found, String>>, String> {
    let groups: Vec<GateServerGroup> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let of_group = |group: &GateServerGroup| -> Vec<Result<Found, String>> {
        let _ = (group.is_aws(), group.is_disabled());
        group.instances.iter().map(|one| source.apply(group, one).map_err(|error| error.message)).collect()
    };
    Ok(groups.iter().flat_map(of_group).collect())
}

/// Checks names that consist of `parts` parts between colons.
fn check_names(key: &str, names: &[String], parts: usize) -> Result<(), String> {
    let is_name = |text: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
        text.len() <= 256
            && text.bytes().all(plain)
            && text.split(':').count() == parts
            && text.split(':').all(|part| !part.is_empty())
    };
    let form = ["name", "account:cluster", "account:region:name"][parts - 1];
    for (at, name) in names.iter().enumerate() {
        if !is_name(name) {
            return Err(format!("{key}: {name:?} is not of the form {form}"));
        }
        if names[..at].contains(name) {
            return Err(format!("{key}: {name} is given twice"));
        }
    }
    Ok(())
}

#[async_trait]
impl Source for SpinnakerSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn cache_key(&self) -> String {
        self.key.clone()
    }

    fn max_age(&self) -> Duration {
        self.max_age
    }

    async fn fetch(&self) -> Result<Fetched, SourceError> {
        let (mut found, mut left_out, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
        for group in self.server_groups().await? {
            if !group.is_aws() || (group.is_disabled() && !self.disabled) {
                continue;
            }
            for one in &group.instances {
                match self.apply(&group, one) {
                    Ok(one) if seen.insert(one.facts.id.clone()) => found.push((group.account.clone(), one)),
                    Ok(_) => {}
                    Err(error) if left_out.len() < MAX_LEFT_OUT => left_out.push(error),
                    Err(_) => {}
                }
            }
            if found.len() > MAX_INSTANCES {
                return Err(SourceError::new(format!("more than {MAX_INSTANCES} instances")));
            }
        }
        if self.details {
            self.add_addresses(&mut found).await?;
        }
        Ok(Fetched { found: found.into_iter().map(|(_, one)| one).collect(), left_out })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use packs_schema::base::document::from_value;
    use serde_json::{Value, json};

    fn sources(settings: &Value) -> Result<Vec<SpinnakerSource>, String> {
        let settings = from_value(settings).map_err(|error| error.to_string())?;
        SpinnakerSource::all("spinnaker", settings, Path::new("/base"), Duration::ZERO)
    }

    #[test]
    fn every_application_is_a_source() {
        let settings = json!({"gate": "https://gate", "applications": ["a", "b"], "server_groups": ["p:r:g"]});
        let all = sources(&settings).unwrap();
        let names: Vec<&str> = all.iter().map(|source| source.name()).collect();
        assert_eq!(names, ["spinnaker a", "spinnaker b", "spinnaker server groups"]);
    }

    #[test]
    fn wrong_settings_name_their_key() {
        let base = || json!({"gate": "https://gate", "applications": ["a"]});
        for (key, value, said) in [
            ("gate", json!("gate.example"), "gate:"),
            ("gate", json!("ftp://gate"), "gate:"),
            ("gate", json!("https://user:secret@gate"), "gate:"),
            ("applications", json!([]), "applications:"),
            ("applications", json!(["a/b"]), "applications: \"a/b\""),
            ("applications", json!(["a", "a"]), "applications: a is given twice"),
            ("clusters", json!(["main"]), "account:cluster"),
            ("server_groups", json!(["a:b"]), "account:region:name"),
            ("timeout", json!("1h"), "timeout:"),
            ("port", json!(0), "port:"),
            ("address", json!("private_dns"), "address"),
            ("key", json!("me.key"), "certificate:"),
            ("gates", json!(1), "unknown key \"gates\""),
        ] {
            let mut settings = base();
            settings[key] = value;
            let error = sources(&settings).unwrap_err();
            assert!(error.contains(said), "{settings}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        let token = json!({"gate": "http://gate.example", "applications": ["a"], "token_file": "token"});
        assert!(sources(&token).unwrap_err().contains("token_file: "), "a token is not sent without TLS");
    }
}
