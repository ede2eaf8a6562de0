//! `[python]`: virtual environments of packs.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::ConfigError;
use crate::base::quantity::Span;

/// `[python]`: how the sync makes the virtual environments of packs that have a `requirements.txt`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PythonConfig {
    /// The interpreter.
    pub interpreter: PathBuf,
    /// The package index; absent: pip's own default. One with a password belongs into `pip_config`.
    pub index: Option<String>,
    /// A directory of wheels. Without `index` nothing but these is installed and no network is used.
    pub wheels: Option<PathBuf>,
    /// A configuration file of pip's: credentials, authorities, proxies. None but this one is read.
    pub pip_config: Option<PathBuf>,
    /// Build what the index has as source only. Such code runs on the instance before anybody has started an action.
    pub allow_source: bool,
    /// Refuse packs whose requirements carry no hashes. Without it whoever owns the index decides what root actions run.
    pub require_hashes: bool,
    /// The longest time that one environment may take.
    pub timeout: Span,
}

impl Default for PythonConfig {
    fn default() -> PythonConfig {
        PythonConfig {
            interpreter: "/usr/bin/python3".into(),
            index: None,
            wheels: None,
            pip_config: None,
            allow_source: false,
            require_hashes: true,
            timeout: Span(Duration::from_secs(300)),
        }
    }
}

impl PythonConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let optional = |key, path: &Option<PathBuf>| path.clone().map(|path| (key, path));
        let given = [
            Some(("python.interpreter", self.interpreter.clone())),
            optional("python.wheels", &self.wheels),
            optional("python.pip_config", &self.pip_config),
        ];
        for (key, path) in given.into_iter().flatten() {
            if !path.is_absolute() {
                return Err(ConfigError::Relative { key, path });
            }
        }
        match self.index.as_deref().map(|index| index.split_once("://")) {
            None => {}
            Some(Some(("https" | "http" | "file", rest))) if !rest.split('/').next().unwrap_or("").contains('@') => {}
            // Not shown: it may hold a password.
            Some(_) => return Err(ConfigError::Index),
        }
        if self.timeout.0.is_zero() { Err(ConfigError::NoTime("python.timeout")) } else { Ok(()) }
    }
}
