//! `pack.yaml` of the source, and the one that is written.

use packs_schema::base::document::yaml;
use packs_schema::base::name::{PackName, PackVersion};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::pack::import::ImportError;
use crate::pack::import::documents::read_yaml;
use crate::pack::import::emit;
use crate::pack::import::lines::line_of;
use crate::pack::import::names::version;
use crate::pack::import::report::{Effect, ImportFinding};
use crate::pack::import::source::SourceTree;

const FILE: &str = "pack.yaml";

/// Keys that are kept. Others have no meaning in Bolt.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Given {
    name: Option<String>,
    r#ref: Option<String>,
    version: Option<String>,
    description: Option<String>,
    author: Option<String>,
    email: Option<String>,
    keywords: Option<Vec<Value>>,
    dependencies: Option<Value>,
}

/// Description of the pack.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) name: PackName,
    pub(super) version: PackVersion,
    given: Given,
}

/// Reads `pack.yaml`.
pub(super) fn read(tree: &SourceTree, findings: &mut Vec<ImportFinding>) -> Result<Head, ImportError> {
    read_yaml(tree, FILE)?.map_err(|error| ImportError::refused(FILE, error.to_string()))?;
    let text = tree.text(FILE).unwrap_or_default();
    let given: Given = yaml::parse::<Option<Given>>(text)
        .map_err(|error| ImportError::refused(FILE, error.to_string()))?
        .unwrap_or_default();
    let wanted = given.r#ref.as_ref().or(given.name.as_ref()).unwrap_or(&tree.name);
    // `/` and `..` stay, and are refused: a name that leads elsewhere is not repaired.
    let name = wanted.trim().to_ascii_lowercase().replace(' ', "_");
    let name = PackName::new(name).map_err(|source| ImportError::Name { file: FILE.to_owned(), source })?;
    if name.as_str() != wanted {
        let message = format!("the pack is called {name} in Bolt");
        findings.push(ImportFinding::new("renamed", Effect::Note, FILE, message).at(line_of(text, &["ref"])));
    }
    let version = version(given.version.as_deref().unwrap_or_default());
    if given.version.as_deref() != Some(version.to_string().as_str()) {
        let message = format!("the version is not semantic; it is {version} in Bolt");
        findings.push(ImportFinding::new("version", Effect::Note, FILE, message).at(line_of(text, &["version"])));
    }
    if given.dependencies.as_ref().is_some_and(|list| list.as_array().is_some_and(|list| !list.is_empty())) {
        let message =
            "Bolt installs no packs for a pack; actions that import from others need those files in this pack";
        let at = line_of(text, &["dependencies"]);
        findings.push(ImportFinding::new("dependencies", Effect::Note, FILE, message).at(at));
    }
    Ok(Head { name, version, given })
}

impl Head {
    /// Returns the text of the file to write.
    pub(super) fn text(&self) -> String {
        let given = &self.given;
        let text = |value: &Option<String>| json!(value.as_deref().unwrap_or_default().trim());
        let words = given.keywords.iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>();
        emit::document(
            &[
                ("name", json!(given.name.as_deref().unwrap_or(self.name.as_str()))),
                ("ref", json!(self.name)),
                ("version", Value::String(self.version.to_string())),
                ("description", text(&given.description)),
                ("author", text(&given.author)),
                ("email", text(&given.email)),
                ("keywords", json!(words)),
            ],
            0,
        )
    }
}
