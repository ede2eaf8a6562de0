//! The client's configuration: flags, environment variables and `client.toml`, in this order of precedence.
//!
//! ```toml
//! certificate = "me.pem"        # paths are relative to this file
//! key = "me.key"
//! ca = "ca.pem"
//! inventory = "inventory.toml"  # or [[inventory]] tables: see `inventory`
//!
//! [repository]                  # for `bolt repo` and `bolt pack diff`
//! url = "s3://bucket/prefix"    # or a directory, or file:///path
//! keys = "keys"                 # for publishers
//! state = "trust"               # the pinned root and the versions seen [default: the keys' directory]
//! root = "root.json"            # for those who only read
//! passphrase_file = "passphrase"
//!
//! [runs]
//! store = "s3://bucket/runs"    # or a directory [default: $XDG_STATE_HOME/bolt/runs]
//! ```
//!
//! [`Config::get`] returns a value with its [`Origin`], which `bolt config show` prints.

mod file;
mod setting;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::files::FileError;
use crate::inventory::source::Source;
use crate::inventory::{self, ConfiguredSource, GatherError, GatherOptions, Gathered, Inventory, InventoryError};
use crate::tls::{Identity, IdentityError};

pub use setting::{Origin, Setting, Sourced};

/// Environment variable with the path of the file.
pub const CONFIG_VARIABLE: &str = "BOLT_CLIENT_CONFIG";

/// Error returned when the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not a client configuration.
    #[error("{path} is not a client configuration: {problem}", path = crate::show::path(path))]
    Content {
        /// The file.
        path: PathBuf,
        /// Line, column, key and what is wrong there.
        problem: String,
    },
    /// A setting that the command needs is given nowhere.
    #[error("no {} is configured: {looked}", setting.noun())]
    Missing {
        /// The setting.
        setting: Setting,
        /// The places that were searched.
        looked: String,
        /// The configuration file in effect, if there is one.
        file: Option<PathBuf>,
    },
    /// The client's certificate, key or authority cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The inventory cannot be used.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// The sources of the inventory failed.
    #[error(transparent)]
    Gather(#[from] GatherError),
}

/// The configuration file in effect.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigFile {
    /// Its path; absent when neither `HOME` nor `XDG_CONFIG_HOME` is set and no file was named.
    pub path: Option<PathBuf>,
    /// The flag or variable that named it; absent for the default path.
    pub origin: Option<Origin>,
    /// True if it exists.
    pub exists: bool,
}

/// The settings in effect, each with its origin.
#[derive(Debug, Clone, Default)]
pub struct Config {
    file: ConfigFile,
    values: BTreeMap<Setting, Sourced>,
    /// The `[[inventory]]` tables of the file; not used when an inventory file is given.
    sources: Vec<(ConfiguredSource, Origin)>,
    /// Settings of the file that belong to a repository other than the one in effect.
    unused: BTreeMap<Setting, Sourced>,
}

impl Config {
    /// Reads the file named by `flag`, else by `BOLT_CLIENT_CONFIG`, else at [`default_path`], then applies the
    /// environment and `flags`. A file that was named must exist; the default one may be absent.
    pub fn find(flag: Option<&Path>, flags: &[(Setting, Option<PathBuf>)]) -> Result<Config, ConfigError> {
        Config::find_in(flag.map(|path| (path, "--config")), flags, &|name| set(name))
    }

    /// Reads the file that a program names by its option `named_by`, else the one that [`Config::find`] reads without flags.
    pub fn open(path: Option<&Path>, named_by: &'static str) -> Result<Config, ConfigError> {
        Config::find_in(path.map(|path| (path, named_by)), &[], &|name| set(name))
    }

    fn find_in(
        named: Option<(&Path, &'static str)>,
        flags: &[(Setting, Option<PathBuf>)],
        variable: &dyn Fn(&str) -> Option<PathBuf>,
    ) -> Result<Config, ConfigError> {
        let (path, origin) = match (named, variable(CONFIG_VARIABLE)) {
            (Some((path, by)), _) => (Some(path.to_owned()), Some(Origin::Flag(by))),
            (None, Some(path)) => (Some(path), Some(Origin::Variable(CONFIG_VARIABLE))),
            (None, None) => (default_path(), None),
        };
        let exists = path.as_ref().is_some_and(|path| path.exists());
        let read = match path.as_ref().filter(|_| exists || origin.is_some()) {
            None => file::Read::default(),
            Some(path) => file::read(path).map_err(|error| match (error, &origin) {
                (ConfigError::File(error), Some(origin)) => ConfigError::File(error.named_by(origin)),
                (error, _) => error,
            })?,
        };
        let mut values: BTreeMap<Setting, Sourced> = read.values.into_iter().collect();
        for setting in Setting::ALL {
            if let Some(value) = variable(setting.variable()) {
                values.insert(setting, Sourced { value, origin: Origin::Variable(setting.variable()) });
            }
        }
        let file = ConfigFile { path, origin, exists };
        let config = Config { file, values, sources: read.sources, unused: BTreeMap::new() };
        Ok(config.with_flags(flags))
    }

    /// Applies flags, which take precedence over everything else.
    ///
    /// Keys, state, root and passphrase file of `[repository]` belong to its `url`: when a flag or variable names another
    /// repository, they are not used for it.
    #[must_use]
    pub fn with_flags(mut self, flags: &[(Setting, Option<PathBuf>)]) -> Config {
        let url_in_file = |values: &BTreeMap<Setting, Sourced>| {
            let sourced = values.get(&Setting::Repository)?;
            matches!(sourced.origin, Origin::File { .. }).then(|| sourced.value.clone())
        };
        let configured = url_in_file(&self.values).or_else(|| self.url_of_file());
        for (setting, value) in flags {
            if let Some(value) = value.clone() {
                self.values.insert(*setting, Sourced { value, origin: Origin::Flag(setting.flag()) });
            }
        }
        let in_effect = self.values.get(&Setting::Repository).map(|sourced| &sourced.value);
        if let (Some(configured), Some(in_effect)) = (&configured, in_effect)
            && configured != in_effect
        {
            let foreign = |setting: &Setting, sourced: &mut Sourced| {
                setting.belongs_to_repository() && matches!(sourced.origin, Origin::File { .. })
            };
            self.unused.extend(self.values.extract_if(.., foreign));
        }
        self
    }

    /// Reads the repository's address from the file once more, where a variable has replaced it.
    fn url_of_file(&self) -> Option<PathBuf> {
        let path = self.file.path.as_ref().filter(|_| self.file.exists)?;
        let read = file::read(path).ok()?.values;
        read.into_iter().find(|(setting, _)| *setting == Setting::Repository).map(|(_, sourced)| sourced.value)
    }

    /// Returns the file in effect.
    pub fn file(&self) -> &ConfigFile {
        &self.file
    }

    /// Returns the value of a setting and its origin.
    pub fn get(&self, setting: Setting) -> Option<&Sourced> {
        self.values.get(&setting)
    }

    /// Returns the value of a setting.
    pub fn value(&self, setting: Setting) -> Option<&Path> {
        self.get(setting).map(|sourced| sourced.value.as_path())
    }

    /// Returns the value that the file has for a setting of another repository than the one in effect.
    pub fn unused(&self, setting: Setting) -> Option<&Sourced> {
        self.unused.get(&setting)
    }

    /// Returns the value of a setting, or the error that says how to give it.
    pub fn require(&self, setting: Setting) -> Result<&Path, ConfigError> {
        self.value(setting).ok_or_else(|| {
            let file = self.file.path.clone().filter(|_| self.file.exists);
            ConfigError::Missing { setting, looked: self.looked(), file }
        })
    }

    /// Reads certificate, key and authority.
    pub fn identity(&self) -> Result<Identity, ConfigError> {
        let certificate = self.require(Setting::Certificate)?;
        let key = self.require(Setting::Key)?;
        let ca = self.require(Setting::Ca)?;
        Identity::load(certificate, key, ca).map_err(|error| match error {
            IdentityError::File(error) => IdentityError::File(self.with_origin(error)).into(),
            error => error.into(),
        })
    }

    /// Returns the `[[inventory]]` tables in effect, each with its origin: none when an inventory file is given.
    pub fn sources(&self) -> &[(ConfiguredSource, Origin)] {
        if self.get(Setting::Inventory).is_some() { &[] } else { &self.sources }
    }

    /// Returns the inventory: from its file, or from all sources.
    pub async fn inventory(&self, options: GatherOptions) -> Result<Gathered, ConfigError> {
        if self.sources().is_empty() {
            return Ok(Gathered::of(self.inventory_file()?));
        }
        Ok(inventory::gather(&self.all_sources(), options).await?)
    }

    /// Returns the instances that are known without asking a source: those of files, and cached ones of at most this age.
    pub async fn known_inventory(&self, max_age: Duration) -> Inventory {
        match self.get(Setting::Inventory) {
            Some(_) => self.inventory_file().unwrap_or_default(),
            None => inventory::cached(&self.all_sources(), max_age).await,
        }
    }

    /// Returns the names of the sources of the inventory, for messages.
    pub fn source_names(&self) -> Vec<String> {
        let names = self.all_sources().iter().map(|source| crate::show::visible(source.name())).collect::<Vec<_>>();
        if names.is_empty() { vec!["file".to_owned()] } else { names }
    }

    fn all_sources(&self) -> Vec<Arc<dyn Source>> {
        self.sources().iter().flat_map(|(configured, _)| configured.sources.iter().cloned()).collect()
    }

    fn inventory_file(&self) -> Result<Inventory, ConfigError> {
        Inventory::load(self.require(Setting::Inventory)?).map_err(|error| match error {
            InventoryError::File(error) => InventoryError::File(self.with_origin(error)).into(),
            error => error.into(),
        })
    }

    /// Adds the origin of the setting whose value is the file that could not be read.
    fn with_origin(&self, error: FileError) -> FileError {
        let FileError::Read { path, .. } = &error else { return error };
        match self.values.values().find(|sourced| sourced.value == *path) {
            Some(sourced) => error.named_by(&sourced.origin),
            None => error,
        }
    }

    /// Describes where a missing setting was searched.
    fn looked(&self) -> String {
        match &self.file.path {
            Some(path) if self.file.exists => format!("{} does not say", crate::show::path(path)),
            Some(path) => format!("there is no {}", crate::show::path(path)),
            None => "neither HOME nor XDG_CONFIG_HOME is set".to_owned(),
        }
    }
}

/// Returns `$XDG_CONFIG_HOME/bolt/client.toml`, else `~/.config/bolt/client.toml`.
pub fn default_path() -> Option<PathBuf> {
    let base = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")))?;
    Some(base.join("bolt/client.toml"))
}

/// Returns an environment variable that is set and not empty.
fn set(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests;
