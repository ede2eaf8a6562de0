//! The directory of a local fleet: authority, repository, callers, inventory.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use packs_schema::base::name::{ChannelName, InstanceId, Principal};

use super::{Accounts, LocalError, file_error};
use crate::pki::{Authority, Validity};
use crate::repo::{self, InitOptions, PublishOptions, Published};

/// The principal whom the demo's and the tests' grants allow everything.
pub const OPERATOR: &str = "spiffe://bolt.local/operator";

/// A local fleet's directory.
#[derive(Debug)]
pub struct Site {
    directory: PathBuf,
    authority: Authority,
    accounts: Option<Accounts>,
}

/// A caller's certificate and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// PEM chain.
    pub certificate: PathBuf,
    /// PEM key.
    pub key: PathBuf,
}

impl Site {
    /// Lays out a new fleet in `directory`, which must be empty and stay reachable for other accounts.
    pub fn create(directory: &Path) -> Result<Site, LocalError> {
        // The api's and the sync's accounts must get through.
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).map_err(file_error("open", directory))?;
        for name in ["pki", "agents"] {
            make_directory(&directory.join(name))?;
        }
        let authority = Authority::create("Bolt local authority")?;
        authority.write(&directory.join("pki"))?;
        repo::init(&InitOptions::new(directory.join("repo"), directory.join("keys")))?;
        let site = Site { directory: directory.to_owned(), authority, accounts: Accounts::detect() };
        site.caller("operator", &Principal::new(OPERATOR).expect("a valid principal"), Validity::days(30))?;
        Ok(site)
    }

    /// The fleet's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The fleet's authority.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The accounts of a fleet that root starts.
    pub fn accounts(&self) -> Option<Accounts> {
        self.accounts
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.directory.join("pki/ca.pem")
    }

    /// The repository's directory.
    pub fn repository(&self) -> PathBuf {
        self.directory.join("repo")
    }

    /// The directory of the repository's keys.
    pub fn keys(&self) -> PathBuf {
        self.directory.join("keys")
    }

    /// The client's configuration, written by [`Site::write_client`].
    pub fn client_config(&self) -> PathBuf {
        self.directory.join("client.toml")
    }

    /// Issues a caller's certificate; `stem` names the files.
    pub fn caller(&self, stem: &str, principal: &Principal, validity: Validity) -> Result<Caller, LocalError> {
        let issued = self.authority.issue_client(principal, validity)?;
        let (certificate, key) = issued.write(&self.directory.join("pki"), stem)?;
        Ok(Caller { certificate, key })
    }

    /// The operator's certificate.
    pub fn operator(&self) -> Caller {
        let pki = self.directory.join("pki");
        Caller { certificate: pki.join("operator.pem"), key: pki.join("operator.key") }
    }

    /// Builds, signs and publishes a pack directory to `channel`.
    pub fn publish(&self, pack: &Path, channel: &ChannelName) -> Result<Published, LocalError> {
        let options = PublishOptions::new(pack, self.repository(), self.keys(), vec![channel.clone()]);
        Ok(repo::publish(&options)?)
    }

    /// The directory of an agent.
    pub fn agent_directory(&self, id: &InstanceId) -> PathBuf {
        self.directory.join("agents").join(id.as_str())
    }

    /// Writes `client.toml` and `inventory.toml` for `agents`.
    pub fn write_client<'a>(
        &self,
        agents: impl IntoIterator<Item = &'a super::LocalAgent>,
    ) -> Result<PathBuf, LocalError> {
        let mut inventory = String::new();
        for agent in agents {
            inventory.push_str(&agent.inventory_entry());
        }
        self.write("inventory.toml", &inventory)?;
        self.write(
            "client.toml",
            "certificate = \"pki/operator.pem\"\nkey = \"pki/operator.key\"\nca = \"pki/ca.pem\"\ninventory = \"inventory.toml\"\n",
        )?;
        Ok(self.client_config())
    }

    fn write(&self, name: &str, text: &str) -> Result<(), LocalError> {
        let path = self.directory.join(name);
        fs::write(&path, text).map_err(file_error("write", &path))
    }
}

pub(super) fn make_directory(path: &Path) -> Result<(), LocalError> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(file_error("create", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(file_error("open", path))
}
