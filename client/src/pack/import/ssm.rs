//! Documents of AWS Systems Manager.
//!
//! ```text
//!  *.json, *.yaml ─ sniff, parse ─┬─ Command (1.2, 2.0, 2.2) ─┬─ parameters ─▶ schemas, environment variables SSM_<name>
//!                                 │                           └─ command ────▶ scripts; {{ name }} becomes "${SSM_name}"
//!                                 └─ Automation, Session ─────▶ described in the report, not imported
//! ```
//!
//! All documents below a directory are one pack, with an action for each Command document. What an action does is what the
//! agent of Systems Manager does: scripts are run by their shebang or by `sh`, steps go on after a failure unless they
//! say otherwise, and preconditions are compared. Of other plugins than `aws:runShellScript` only `aws:configureDocker` is
//! run (`plugins`); the others are named.

mod automation;
mod command;
mod document_names;
mod parameters;
mod plugins;
mod scripts;
mod steps;

use packs_schema::base::name::PackVersion;
use packs_schema::base::strict::shorten;
use packs_schema::pack::contents::MAX_YAML;
use serde_json::{Map, Value};

use self::document_names::DocumentName;
use super::converted::Converted;
use super::documents::Unreadable;
use super::names::{self, pack_name};
use super::plan::{Plan, PlannedFile};
use super::report::{Effect, ImportFinding, LeftOut, Report};
use super::source::{SourceFile, SourceTree, is_licence, large_documents, licence_finding};
use super::{Format, ImportError, documents, emit, steps as steps_of_action};

/// True for a name that a document may have.
pub(super) fn may_be_document(path: &str) -> bool {
    [".json", ".yaml", ".yml"].iter().any(|end| path.ends_with(end))
}

/// True for a file that looks like a document, without reading it as one.
pub(super) fn looks_like_document(file: &SourceFile) -> bool {
    let Some(text) = file.text().filter(|text| text.len() as u64 <= MAX_YAML) else { return false };
    text.contains("schemaVersion") && ["mainSteps", "runtimeConfig"].iter().any(|key| text.contains(key))
}

/// Converts the documents of a tree.
pub(super) fn convert(tree: &SourceTree) -> Result<Plan, ImportError> {
    let pack = pack_name(&tree.name)?;
    let version = PackVersion::new("0.1.0").expect("a semantic version");
    let mut plan = Plan {
        pack: pack.clone(),
        files: tree.files.iter().filter(|(path, _)| is_licence(path)).map(kept).collect(),
        report: Report {
            format: Format::Ssm,
            pack: pack.to_string(),
            version: version.to_string(),
            actions: Vec::new(),
            findings: licence_finding(tree).into_iter().collect(),
            left_out: tree.left_out.iter().cloned().chain(large_documents(tree, may_be_document)).collect(),
        },
    };
    let mut commands: Vec<Read<'_>> = Vec::new();
    for path in tree.files.iter().filter(|(_, file)| looks_like_document(file)).map(|(path, _)| path.as_str()) {
        let why = match documents::read(tree, path)? {
            Ok(value) => match kind(&value) {
                Kind::Command => {
                    plan.report.findings.extend(documents::duplicate_keys(tree, path));
                    commands.push((path, Ok(value)));
                    continue;
                }
                Kind::NotRun(why) => why,
            },
            Err(unreadable) if names_a_version(tree.text(path).unwrap_or_default()) => {
                commands.push((path, Err(unreadable)));
                continue;
            }
            Err(unreadable) => format!("Bolt does not read it: {}", unreadable.message),
        };
        plan.report.left_out.push(LeftOut { file: path.to_owned(), why });
    }
    let paths: Vec<&str> = commands.iter().map(|(path, _)| *path).collect();
    let document_names = document_names::of_documents(&paths)?;
    let mut registry = Map::new();
    for ((path, read), DocumentName { name, twin }) in commands.iter().zip(&document_names) {
        let mut converted = match read {
            Ok(document) => command::convert(tree, path, name, document),
            Err(unreadable) => {
                let message = format!("Bolt does not read it: {}", unreadable.message);
                let finding = ImportFinding::new("unreadable", Effect::Blocks, path, message).at(unreadable.line);
                Converted::not_runnable(name, path, "", vec![finding])
            }
        };
        converted.report.findings.extend(twin.as_ref().map(|twin| names::renamed(path, name, twin)));
        converted.add_to(&mut plan, &mut registry);
    }
    if !registry.is_empty() {
        plan.files.extend(steps_of_action::files(&registry));
    }
    plan.files.insert(
        "pack.yaml".to_owned(),
        PlannedFile::text(emit::pack_head(&pack, &version, "Documents of AWS Systems Manager")),
    );
    Ok(plan)
}

fn kept((path, file): (&String, &SourceFile)) -> (String, PlannedFile) {
    (path.clone(), PlannedFile { bytes: file.bytes.clone(), executable: false })
}

/// A document read, or why it cannot be.
type Read<'a> = (&'a str, Result<Value, Unreadable>);

/// Kind of a document.
enum Kind {
    Command,
    /// Not run, with the reason.
    NotRun(String),
}

fn kind(document: &Value) -> Kind {
    let Some(version) = document.get("schemaVersion") else {
        if document.get("Content").is_some_and(Value::is_string) {
            let why =
                "an answer of `aws ssm get-document`: write what is in it alone, with `--query Content --output text`";
            return Kind::NotRun(why.to_owned());
        }
        let why = "it names schemaVersion, but not as a document does; put a document in it into a file of its own";
        return Kind::NotRun(why.to_owned());
    };
    let version = version.as_str().map_or_else(|| version.to_string(), str::to_owned);
    match version.as_str() {
        "1.2" | "2.0" | "2.2" => Kind::Command,
        version if version.starts_with("2.0.") => Kind::Command,
        "0.3" => Kind::NotRun(automation::description(document)),
        "1.0" => Kind::NotRun("a Session document, which opens sessions and runs nothing".to_owned()),
        version => {
            Kind::NotRun(format!("a document of schema version {}, which Bolt does not know", shorten(version, 40)))
        }
    }
}

/// True for text that names the schema version of a Command document.
fn names_a_version(text: &str) -> bool {
    let version = text.split_once("schemaVersion").map_or("", |(_, after)| after.lines().next().unwrap_or_default());
    let top = text.lines().any(|line| line.starts_with("schemaVersion")) || text.trim_start().starts_with('{');
    top && ["1.2", "2.0", "2.2"].iter().any(|known| version.contains(known))
}
