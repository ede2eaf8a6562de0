//! StackStorm packs.
//!
//! ```text
//!  pack.yaml ─────────── head ────▶ pack.yaml
//!  actions/*.yaml ────── action ─┬─ python  ─▶ run by supplied/run_python.py, by way of actions.json
//!                                ├─ script  ─▶ run directly, or by supplied/run_script.py
//!                                └─ command ─▶ a script of its own; Jinja becomes quoted variables (`jinja`)
//!  config.schema.yaml ── config ──▶ config.schema.yaml
//!  requirements.txt ──── requirements
//!  rules/ ──────────────────────▶ stackstorm/rules/, kept for the responder
//!  the rest ────────────────────▶ as it is, or left out
//! ```
//!
//! `python_facts` reads Python sources with a bounded Python process that parses and never runs them; everything else here
//! is pure. Aliases, sensors, triggers, policies and workflows are listed and not imported.

mod action;
mod command;
mod config;
mod defaults;
mod draft;
mod head;
mod jinja;
mod places;
mod python;
mod requirements;
mod runner;
mod schema;
mod script;
mod server;
mod supplied;
mod values;

use std::collections::BTreeMap;

use packs_schema::base::document::DocumentError;
use packs_schema::pack::contents::check_path;
use serde_json::{Value, json};

use self::draft::Surroundings;
use self::requirements::Requirements;
use super::converted::Converted;
use super::documents::read_yaml;
use super::plan::{Plan, PlannedFile};
use super::python_facts::Facts;
use super::report::{Effect, ImportFinding, LeftOut, Report};
use super::source::{SourceTree, licence_finding};
use super::wheels::Wheels;
use super::{Format, ImportError};

/// Parts of a pack without meaning in Bolt, by their top directory.
const NOT_IMPORTED: [(&str, &str); 8] = [
    ("aliases", "aliases are StackStorm's chat commands"),
    ("sensors", "sensors run in StackStorm; an event reaches Bolt through its responder"),
    ("triggers", "triggers belong to sensors"),
    ("policies", "policies are StackStorm's; see concurrency and rate in the action file"),
    ("actions/workflows", "workflows run in an orchestrator, which calls actions one by one"),
    ("actions/chains", "chains run in an orchestrator, which calls actions one by one"),
    ("tests", "tests are not part of the pack"),
    ("docs", "documentation is not part of the pack"),
];

/// Returns why a path is not part of the pack.
pub(super) fn leaves_out(path: &str) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    if let Some((_, why)) = NOT_IMPORTED.iter().find(|(directory, _)| *directory == path) {
        return Some(why);
    }
    if name.starts_with('.') {
        return Some("hidden files and continuous integration are not part of the pack");
    }
    let clutter = name == "__pycache__" || name.ends_with(".pyc") || name.ends_with('~') || name.ends_with(".orig");
    let top_level = ["circle.yml", "tox.ini", "Makefile", "Vagrantfile", "Dockerfile", "requirements-tests.txt"];
    let unused = top_level.contains(&path)
        || path == "icon.png"
        || ["bolt_st2", "actions/bolt_st2"].iter().any(|ours| ours.eq_ignore_ascii_case(path));
    (clutter || unused).then_some("not used by actions")
}

/// Converts a pack. Wheels take the place of addresses in `requirements.txt`, if all that it needs is there.
pub(super) fn convert(tree: &SourceTree, facts: &Facts, wheels: Option<&Wheels>) -> Result<Plan, ImportError> {
    let (mut plan, mut requirements) = attempt(tree, facts, requirements::read(tree))?;
    let provision = requirements.provision(wheels)?;
    if let Some(refusing) = requirements.refusing(&provision, tree) {
        (plan, requirements) = attempt(tree, facts, refusing)?;
    }
    let mut findings = std::mem::take(&mut plan.report.findings);
    plan.files.extend(requirements.file(&provision, &mut findings)?);
    findings.extend(licence_finding(tree));
    plan.report.findings = findings;
    Ok(plan)
}

/// Converts everything but the requirements, to which actions may add some.
fn attempt(
    tree: &SourceTree,
    facts: &Facts,
    mut requirements: Requirements,
) -> Result<(Plan, Requirements), ImportError> {
    let mut findings = Vec::new();
    let head = head::read(tree, &mut findings)?;
    let config = config::read(tree, &mut findings)?;
    let mut plan = Plan {
        pack: head.name.clone(),
        files: kept_files(tree),
        report: Report {
            format: Format::StackStorm,
            pack: head.name.to_string(),
            version: head.version.to_string(),
            actions: Vec::new(),
            findings: Vec::new(),
            left_out: tree.left_out.clone(),
        },
    };
    let mut registry = serde_json::Map::new();
    let around = Surroundings { pack: &head.name, tree, facts, config: &config };
    let paths: Vec<&String> = tree.files.keys().filter(|path| is_action_file(path)).collect();
    for path in paths {
        if let Err(error) = check_path(path) {
            return Err(ImportError::refused(path, error.to_string()));
        }
        let mut why = "workflows run in an orchestrator, which calls actions one by one";
        let converted = match read_yaml(tree, path)? {
            Ok(Value::Null) => {
                why = "it is empty";
                None
            }
            Ok(value) => action::convert(&around, path, &value, &mut requirements)?,
            Err(error) => Some(unreadable(path, &error)),
        };
        let Some(converted) = converted else {
            plan.report.left_out.push(LeftOut { file: path.clone(), why: why.to_owned() });
            continue;
        };
        converted.add_to(&mut plan, &mut registry);
    }
    if !registry.is_empty() {
        let registry = json!({"pack": head.name, "config_names": config.renamed, "actions": registry});
        let text = serde_json::to_string_pretty(&registry).unwrap_or_default();
        plan.files.insert("actions/bolt_st2/actions.json".to_owned(), PlannedFile::text(text + "\n"));
        plan.files.extend(supplied::files());
    }
    plan.files.insert("pack.yaml".to_owned(), PlannedFile::text(head.text()));
    plan.files.extend(config.file());
    plan.report.findings = findings;
    Ok((plan, requirements))
}

/// True for a description of an action, or of a workflow that lies beside those.
fn is_action_file(path: &str) -> bool {
    let inside = path.strip_prefix("actions/").filter(|rest| !rest.contains('/'));
    inside.is_some_and(|name| name.ends_with(".yaml") || name.ends_with(".yml"))
}

fn unreadable(path: &str, error: &DocumentError) -> Converted {
    let stem = path.rsplit('/').next().unwrap_or(path).split('.').next().unwrap_or(path);
    let message = format!("Bolt does not read it, since readers of YAML differ on it: {error}");
    let finding = ImportFinding::new("unreadable", Effect::Blocks, path, message).at(error.line());
    Converted::not_runnable(stem, path, "", vec![finding])
}

/// Files that go into the pack as they are.
fn kept_files(tree: &SourceTree) -> BTreeMap<String, PlannedFile> {
    let written = ["pack.yaml", "config.schema.yaml", "config.yaml", "requirements.txt"];
    let kept = tree.files.iter().filter(|(path, _)| !written.contains(&path.as_str()) && !is_action_file(path));
    kept.map(|(path, file)| {
        let target = if path.starts_with("rules/") { format!("stackstorm/{path}") } else { path.clone() };
        (target, PlannedFile { bytes: file.bytes.clone(), executable: file.executable })
    })
    .collect()
}
