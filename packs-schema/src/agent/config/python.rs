//! `[python]`: virtual environments of packs.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::ConfigError;
use crate::base::quantity::Span;

/// `[python]`: how the sync builds virtual environments of packs with a `requirements.txt`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PythonConfig {
    /// Path of the interpreter.
    pub interpreter: PathBuf,
    /// URL of the package index; absent: pip's default. Put a URL with a password into `pip_config`.
    pub index: Option<String>,
    /// Directory of wheels. Without `index`, only these are installed and no network is used.
    pub wheels: Option<PathBuf>,
    /// Configuration file of pip with credentials, certificate authorities and proxies. No other configuration of pip
    /// is read.
    pub pip_config: Option<PathBuf>,
    /// Allow builds from source. Such code runs on the instance before any action was started.
    pub allow_source: bool,
    /// Refuse packs whose requirements have no hashes. Without this, the owner of the package index decides what root
    /// actions run.
    pub require_hashes: bool,
    /// Time-out of building one environment.
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
            // Not quoted: it may contain a password.
            Some(_) => return Err(ConfigError::Index),
        }
        if self.timeout.0.is_zero() { Err(ConfigError::NoTime("python.timeout")) } else { Ok(()) }
    }
}
