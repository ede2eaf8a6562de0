//! Name, version and description of a pack, from `pack.yaml`.

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
    /// Display name; also the default of `ref`, in lower case and with `_` in place of blanks.
    pub name: String,
    /// Name in references: `cassandra` in `cassandra.clear_snapshots`.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Semantic version such as 1.4.2.
    pub version: String,
    /// Description of the pack.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Author.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// E-mail address of the author.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub email: String,
    /// Keywords to search for.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub keywords: Vec<String>,
    /// Other authors.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub contributors: Vec<String>,
    /// StackStorm: versions of Python. Ignored by Bolt, which uses the shebang or the pack's virtual environment.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub python_versions: Vec<String>,
    /// StackStorm: versions of the server. Ignored by Bolt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stackstorm_version: Option<String>,
    /// StackStorm: packs that this pack needs. Ignored by Bolt.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<String>,
    /// Unknown keys.
    #[serde(flatten)]
    #[cfg_attr(feature = "schemas", schemars(skip))]
    pub other: BTreeMap<String, Value>,
}

/// Checked description of a pack, stored beside its activated actions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Pack {
    /// Name in references.
    pub name: PackName,
    /// Version.
    pub version: PackVersion,
    /// Description of the pack.
    pub description: String,
    /// Author.
    pub author: String,
    /// E-mail address of the author.
    pub email: String,
    /// Keywords to search for.
    pub keywords: Vec<String>,
}

impl PackFile {
    /// Checks the file; `None` if its name or version is invalid.
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
                "Bolt does not install other packs; include the needed files in this pack",
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
