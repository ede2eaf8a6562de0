//! Specification of an agent of a local fleet.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use packs_schema::base::name::ChannelName;
use packs_schema::delivery::facts::Facts;

/// Specification of an agent.
#[derive(Debug, Clone)]
pub struct AgentSpec {
    /// Facts of the instance.
    pub facts: Facts,
    /// Its loopback address.
    pub address: IpAddr,
    /// The channel that it follows.
    pub channel: ChannelName,
    /// Further keys of `agent.toml`: table, key, value.
    pub settings: Vec<(&'static str, &'static str, toml::Value)>,
    /// `grants.toml`; absent: the operator may do everything.
    pub grants: Option<String>,
    /// Per-site configuration of packs: pack and YAML text.
    pub pack_config: Vec<(String, String)>,
    /// Directory of `bolt-launch` and `bolt-agent`; absent: beside the running executable.
    pub binaries: Option<PathBuf>,
    /// Further variables of the launcher's environment.
    pub environment: Vec<(String, String)>,
}

impl AgentSpec {
    /// An agent on 127.0.0.1 that follows the channel `prod`.
    pub fn new(facts: Facts) -> AgentSpec {
        AgentSpec {
            facts,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            channel: ChannelName::new("prod").expect("a valid name"),
            settings: Vec::new(),
            grants: None,
            pack_config: Vec::new(),
            binaries: None,
            environment: Vec::new(),
        }
    }

    /// Runs the binaries of a directory.
    #[must_use]
    pub fn binaries(mut self, directory: &Path) -> AgentSpec {
        self.binaries = Some(directory.to_owned());
        self
    }

    /// Sets a key of `agent.toml`.
    #[must_use]
    pub fn set(mut self, table: &'static str, key: &'static str, value: impl Into<toml::Value>) -> AgentSpec {
        self.settings.push((table, key, value.into()));
        self
    }

    /// Sets a variable of the launcher's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> AgentSpec {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }
}
