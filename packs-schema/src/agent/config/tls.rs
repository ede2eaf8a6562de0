//! `[tls]`: the agent's certificate, the authorities of callers, and their revocation lists.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ConfigError;
use crate::agent::grants::PrincipalPattern;
use crate::base::name::Principal;

/// `[tls]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Certificate chain of the instance, PEM; it contains the instance id (`bolt://instance/<id>`).
    pub certificate: PathBuf,
    /// Private key, PEM (PKCS #8, SEC 1 or PKCS #1, not encrypted); not readable by others.
    pub key: PathBuf,
    /// Certificate authorities of callers, PEM, which may vouch for every principal.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
    /// Certificate authorities of callers that may vouch for some principals only.
    #[serde(default, rename = "client_authority")]
    pub client_authorities: Vec<ClientAuthority>,
    /// Certificate revocation lists of the authorities of callers, and of their intermediates; PEM or DER.
    #[serde(default)]
    pub crls: Vec<PathBuf>,
    /// Treatment of callers whose authority's revocation list has expired.
    #[serde(default)]
    pub expired_crl: ExpiredCrl,
}

/// `[[tls.client_authority]]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientAuthority {
    /// Certificate authorities, PEM.
    pub file: PathBuf,
    /// Principals that these may vouch for: URIs, or prefixes of URIs followed by `*`.
    pub principals: Vec<PrincipalPattern>,
}

impl ClientAuthority {
    /// True if the authority may vouch for the principal.
    pub fn may_vouch_for(&self, principal: &Principal) -> bool {
        self.principals.iter().any(|pattern| pattern.covers(principal))
    }
}

/// `tls.expired_crl`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiredCrl {
    /// Accept the callers that it does not list, and report it: a list that is not delivered locks no one out.
    #[default]
    Accept,
    /// Refuse all callers of its authority.
    Refuse,
}

impl TlsConfig {
    /// Maximum number of `[[tls.client_authority]]`.
    pub const MAX_AUTHORITIES: usize = 32;
    /// Maximum number of files of revocation lists.
    pub const MAX_CRLS: usize = 32;

    /// Returns the files that decide which callers are accepted, with their keys in `agent.toml`.
    pub fn caller_files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let confined = self.client_authorities.iter().map(|authority| &authority.file);
        let unconfined = self.client_ca.iter().map(|path| ("tls.client_ca", &**path));
        unconfined
            .chain(confined.map(|path| ("tls.client_authority.file", &**path)))
            .chain(self.crls.iter().map(|path| ("tls.crls", &**path)))
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.client_ca.is_none() && self.client_authorities.is_empty() {
            return Err(ConfigError::NoClientAuthority);
        }
        if let Some(authority) = self.client_authorities.iter().find(|authority| authority.principals.is_empty()) {
            return Err(ConfigError::NoPrincipals(authority.file.clone()));
        }
        for (key, count, most) in [
            ("tls.client_authority", self.client_authorities.len(), Self::MAX_AUTHORITIES),
            ("tls.crls", self.crls.len(), Self::MAX_CRLS),
        ] {
            if count > most {
                return Err(ConfigError::TooMany(key, most));
            }
        }
        Ok(())
    }
}
