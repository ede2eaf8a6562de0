//! Who we are and where the instances are listed: `client.toml`, and the flags that override it.
//!
//! ```toml
//! certificate = "me.pem"        # relative to this file
//! key = "me.key"
//! ca = "ca.pem"
//! inventory = "inventory.toml"
//! ```

use std::path::{Path, PathBuf};

use packs_schema::base::document;
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};
use crate::inventory::{Inventory, InventoryError};
use crate::tls::{Identity, IdentityError};

/// The environment variable that names the file.
pub const CONFIG_VARIABLE: &str = "BOLT_CLIENT_CONFIG";
/// The largest file, in bytes.
const MAX_FILE: u64 = 64 << 10;

/// Why the client does not know who it is.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not what it should be.
    #[error("{path} is not a client configuration: {problem}", path = crate::show::path(path))]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// Something that is needed was said nowhere.
    #[error("no {what} is configured: {looked}")]
    Missing {
        /// What.
        what: &'static str,
        /// Where it was looked for.
        looked: String,
        /// The flag that gives it.
        flag: &'static str,
    },
    /// Our certificate, key or authority.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The inventory.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
}

/// What the file says, or the flags: each may be left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The client's certificate, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// Its key, PEM, readable by its owner only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The authority that signed the agents' certificates, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The list of instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory: Option<PathBuf>,
}

/// Settings, and where they come from.
#[derive(Debug, Clone, Default)]
pub struct Config {
    settings: Settings,
    looked: String,
}

impl Config {
    /// Reads the file that `flag`, the environment or the user's directory names; `overrides` count more.
    /// Without a file, the overrides are all there is; one that was named must exist.
    pub fn find(flag: Option<&Path>, overrides: Settings) -> Result<Config, ConfigError> {
        let named = flag.map(Path::to_owned).or_else(|| set(CONFIG_VARIABLE));
        let (path, must_exist) = match named {
            Some(path) => (Some(path), true),
            None => (default_path(), false),
        };
        let mut config = match &path {
            Some(path) if must_exist || path.exists() => Config::load(path)?,
            Some(path) => Config { looked: format!("there is no {}", crate::show::path(path)), ..Config::default() },
            None => Config { looked: "neither HOME nor XDG_CONFIG_HOME is set".to_owned(), ..Config::default() },
        };
        let Settings { certificate, key, ca, inventory } = overrides;
        let settings = &mut config.settings;
        for (setting, flag) in [
            (&mut settings.certificate, certificate),
            (&mut settings.key, key),
            (&mut settings.ca, ca),
            (&mut settings.inventory, inventory),
        ] {
            if flag.is_some() {
                *setting = flag;
            }
        }
        Ok(config)
    }

    /// Reads the file at `path`; paths in it are relative to its directory.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = files::read_text(path, MAX_FILE)?;
        let mut settings: Settings = document::toml::parse(&text)
            .map_err(|e| ConfigError::Content { path: path.to_owned(), problem: e.to_string() })?;
        let base = path.parent().unwrap_or(Path::new(""));
        for setting in [&mut settings.certificate, &mut settings.key, &mut settings.ca, &mut settings.inventory] {
            if let Some(relative) = setting {
                *setting = Some(base.join(&*relative));
            }
        }
        Ok(Config { settings, looked: format!("{} does not say", crate::show::path(path)) })
    }

    /// Reads certificate, key and authority.
    pub fn identity(&self) -> Result<Identity, ConfigError> {
        let Settings { certificate, key, ca, .. } = &self.settings;
        let certificate = self.need(certificate, "client certificate", "--cert")?;
        let key = self.need(key, "key of the client certificate", "--key")?;
        let ca = self.need(ca, "certificate authority", "--ca")?;
        Ok(Identity::load(certificate, key, ca)?)
    }

    /// Reads the inventory.
    pub fn inventory(&self) -> Result<Inventory, ConfigError> {
        let path = self.need(&self.settings.inventory, "inventory", "--inventory")?;
        Ok(Inventory::load(path)?)
    }

    fn need<'a>(
        &self,
        setting: &'a Option<PathBuf>,
        what: &'static str,
        flag: &'static str,
    ) -> Result<&'a Path, ConfigError> {
        setting.as_deref().ok_or_else(|| ConfigError::Missing { what, looked: self.looked.clone(), flag })
    }
}

/// `$XDG_CONFIG_HOME/bolt/client.toml`, else `~/.config/bolt/client.toml`.
pub fn default_path() -> Option<PathBuf> {
    let base = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")))?;
    Some(base.join("bolt/client.toml"))
}

/// An environment variable that is set, and not to nothing.
fn set(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("client.toml");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn paths_are_relative_to_the_file_and_flags_count_more() {
        let (dir, path) = file("certificate = \"me.pem\"\nkey = \"/abs/me.key\"\n");
        let flags = Settings { key: Some("flag.key".into()), ..Settings::default() };
        let config = Config::find(Some(&path), flags).unwrap();
        assert_eq!(config.settings.certificate, Some(dir.path().join("me.pem")));
        assert_eq!(config.settings.key, Some("flag.key".into()));
        let missing = config.identity().unwrap_err().to_string();
        assert!(missing.contains("certificate authority") && missing.contains("client.toml"), "{missing}");
    }

    #[test]
    fn an_unknown_key_and_a_named_file_that_is_missing_are_errors() {
        let (dir, path) = file("certificat = \"me.pem\"\n");
        let error = Config::find(Some(&path), Settings::default()).unwrap_err().to_string();
        assert!(error.contains("certificat") && error.contains("client.toml"), "{error}");
        let gone = dir.path().join("gone.toml");
        assert!(matches!(Config::find(Some(&gone), Settings::default()), Err(ConfigError::File(_))));
    }
}
