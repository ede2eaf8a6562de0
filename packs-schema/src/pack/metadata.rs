//! `pack.yaml`: what a pack says of itself.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

use crate::base::absent::null_is_default;
use crate::base::finding::Finding;
use crate::base::name::{PackName, PackVersion};

/// The file `pack.yaml` as written: StackStorm's keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct PackFile {
    /// The name for people; `ref` is made from it when there is none.
    pub name: String,
    /// The name in references: `cassandra` in `cassandra.clear_snapshots`.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Semantic version.
    pub version: String,
    /// What the pack is for.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Who wrote it.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// Where to write to them.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub email: String,
    /// Words to find it by.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub keywords: Vec<String>,
    /// Other people who wrote it.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub contributors: Vec<String>,
    /// StackStorm: the Python versions; Bolt goes by the shebang.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub python_versions: Vec<String>,
    /// StackStorm: the server versions it works with; no meaning in Bolt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stackstorm_version: Option<String>,
    /// StackStorm: packs it needs; no meaning in Bolt.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<String>,
    /// Keys that Bolt does not know.
    #[serde(flatten)]
    #[cfg_attr(feature = "schemas", schemars(skip))]
    pub other: BTreeMap<String, Value>,
}

/// A pack's checked description, as it is stored beside its activated actions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Pack {
    /// The name in references.
    pub name: PackName,
    /// The version.
    pub version: PackVersion,
    /// What the pack is for.
    pub description: String,
    /// Who wrote it.
    pub author: String,
    /// Where to write to them.
    pub email: String,
    /// Words to find it by.
    pub keywords: Vec<String>,
}

impl PackFile {
    /// Checks the file; `None` when something is wrong with what identifies the pack.
    pub fn check(&self, at: &str) -> (Option<Pack>, Vec<Finding>) {
        let mut found = Vec::new();
        for key in self.other.keys() {
            found.push(Finding::error(
                "unknown_key",
                format!("{at}: {key}"),
                format!("{key:?} is not a key of pack.yaml; remove it"),
            ));
        }
        let name = match &self.reference {
            Some(reference) => reference.clone(),
            None => self.name.to_ascii_lowercase().replace(' ', "_"),
        };
        let name =
            PackName::new(name).map_err(|e| found.push(Finding::error("bad_ref", format!("{at}: ref"), e.to_string())));
        let version = PackVersion::new(&self.version)
            .map_err(|e| found.push(Finding::error("bad_version", format!("{at}: version"), e.to_string())));
        if !self.dependencies.is_empty() {
            found.push(Finding::warning(
                "dependencies",
                format!("{at}: dependencies"),
                "Bolt installs no packs for a pack; put what it needs into it",
            ));
        }
        let pack = match (name, version) {
            (Ok(name), Ok(version)) => Some(Pack {
                name,
                version,
                description: self.description.trim().to_owned(),
                author: self.author.clone(),
                email: self.email.clone(),
                keywords: self.keywords.clone(),
            }),
            _ => None,
        };
        (pack, found)
    }
}
