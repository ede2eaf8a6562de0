//! Puppet tasks: a module with `tasks/`.
//!
//! ```text
//!  metadata.json ──── module ────▶ pack.yaml
//!  tasks/*.json ───── metadata ─┬─ parameters ─ types ─ known ─▶ shape ─▶ schemas of parameters
//!                               └─ task ─▶ actions/*.yaml, and entries of tasks.json
//!  tasks/*, files ──────────────▶ tasks/<task>/<module>/…, run by supplied/run_task.py
//!  files of other modules ─ neighbours ─▶ tasks/<task>/<other>/…
//! ```
//!
//! The supplied runner gives a task what Puppet's task specification (version 1) promises: parameters in `PT_` variables
//! and as JSON, `_task`, `_noop`, `_installdir`, and reads its result. Manifests, plans, functions and data are not
//! imported.

mod known;
mod metadata;
mod module;
mod neighbours;
mod parameters;
mod regex;
mod scripts;
mod shape;
mod supplied;
mod task;
mod types;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, json};

pub(super) use self::neighbours::read as read_neighbours;
use self::task::{Surroundings, TaskFiles};
use super::plan::{Plan, PlannedFile};
use super::python_facts::Facts;
use super::report::{Effect, ImportFinding, LeftOut, Report};
use super::source::{SourceTree, is_licence, licence_finding};
use super::{Format, ImportError};

/// Parts of a module that are no tasks, by their top directory.
const NOT_IMPORTED: [(&str, &str); 14] = [
    ("manifests", "manifests are applied by Puppet"),
    ("plans", "plans run in an orchestrator, which calls actions one by one"),
    ("functions", "functions belong to manifests and plans"),
    ("templates", "templates belong to manifests"),
    ("data", "data of Hiera belongs to manifests"),
    ("hiera.yaml", "data of Hiera belongs to manifests"),
    ("facts.d", "facts belong to Puppet's agent"),
    ("locales", "translations are not part of the pack"),
    ("examples", "examples are not part of the pack"),
    ("spec", "tests are not part of the pack"),
    ("acceptance", "tests are not part of the pack"),
    ("tests", "tests are not part of the pack"),
    ("docs", "documentation is not part of the pack"),
    ("inventory.yaml", "an inventory of hosts is not part of the pack"),
];
/// Directories that are read; of all but `tasks`, only what tasks name becomes part of the pack.
const READ: [&str; 5] = ["files", "lib", "scripts", "tasks", "types"];

/// True if a directory with these names, and `true` for directories, is a module with tasks; `tasks` returns the names in
/// its directory of tasks.
pub(super) fn is_module(
    names: &BTreeMap<String, bool>,
    tasks: impl FnOnce() -> Result<BTreeMap<String, bool>, ImportError>,
) -> Result<bool, ImportError> {
    let has = |name: &str| names.get(name) == Some(&false);
    if names.get("tasks") != Some(&true) {
        return Ok(false);
    }
    // Roles of Ansible have such a directory as well, with YAML in it.
    let described = has(module::FILE) || has(module::PROJECT_FILE);
    Ok(described || tasks()?.iter().any(|(name, is_directory)| !is_directory && name.ends_with(".json")))
}

/// Returns why a path is not part of the pack.
pub(super) fn leaves_out(path: &str) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    if name.starts_with('.') {
        return Some("hidden files and continuous integration are not part of the pack");
    }
    if path.contains('/') {
        let clutter = name == "__pycache__" || name.ends_with(".pyc") || name.ends_with('~');
        return clutter.then_some("not used by tasks");
    }
    if let Some((_, why)) = NOT_IMPORTED.iter().find(|(known, _)| *known == path) {
        return Some(why);
    }
    let used = READ.contains(&path) || path == module::FILE || path == module::PROJECT_FILE || is_licence(path);
    (!used).then_some("not used by tasks")
}

/// Converts a module.
pub(super) fn convert(tree: &SourceTree, facts: &Facts) -> Result<Plan, ImportError> {
    let mut findings = Vec::new();
    let module = module::read(tree, &mut findings)?;
    let mut plan = Plan {
        pack: module.pack.clone(),
        files: BTreeMap::new(),
        report: Report {
            format: Format::Puppet,
            pack: module.pack.to_string(),
            version: module.version.to_string(),
            actions: Vec::new(),
            findings: Vec::new(),
            left_out: tree.left_out.clone(),
        },
    };
    let mut registry = Map::new();
    let around = Surroundings { tree, facts, module: &module };
    for (name, files) in tasks(tree, &mut plan.report.left_out) {
        task::convert(&around, &name, &files)?.add_to(&mut plan, &mut registry);
    }
    list_unused(tree, &module.name, &mut plan);
    let text = serde_json::to_string_pretty(&json!({"tasks": registry})).unwrap_or_default();
    plan.files.insert(format!("{}/tasks.json", supplied::DIRECTORY), PlannedFile::text(text + "\n"));
    plan.files.extend(supplied::files());
    plan.files.insert("pack.yaml".to_owned(), PlannedFile::text(module.text()));
    let licences = tree.files.iter().filter(|(path, _)| is_licence(path));
    plan.files.extend(
        licences.map(|(path, file)| (path.clone(), PlannedFile { bytes: file.bytes.clone(), executable: false })),
    );
    let message = "Puppet's orchestrator runs tasks as root; here each gets an account of its own: name one in bolt.run_as where a \
                   task needs more";
    findings.push(ImportFinding::new("account", Effect::Note, "tasks", message));
    findings.extend(licence_finding(tree));
    plan.report.findings = findings;
    Ok(plan)
}

/// Groups the files of `tasks/` by task.
fn tasks(tree: &SourceTree, left_out: &mut Vec<LeftOut>) -> BTreeMap<String, TaskFiles> {
    let mut tasks: BTreeMap<String, TaskFiles> = BTreeMap::new();
    let mut others = Vec::new();
    for (path, file) in tree.files.keys().filter_map(|path| Some((path, path.strip_prefix("tasks/")?))) {
        let (name, end) = file.rsplit_once('.').unwrap_or((file, ""));
        if !module::is_name(name) || ["md", "conf"].contains(&end) {
            others.push((path, "not the name of a task: letters a-z, digits and _, at the top of tasks/"));
            continue;
        }
        let task = tasks.entry(name.to_owned()).or_default();
        match end {
            "json" => task.described = true,
            _ => task.programs.push(file.to_owned()),
        }
    }
    left_out.extend(others.into_iter().map(|(path, why)| LeftOut { file: path.clone(), why: why.to_owned() }));
    tasks
}

/// Lists the directories of which some files are not part of the pack.
fn list_unused(tree: &SourceTree, module: &str, plan: &mut Plan) {
    let within = |file: &String| Some(file.strip_prefix("tasks/")?.split_once('/')?.1.to_owned());
    let used: BTreeSet<String> = plan.files.keys().filter_map(within).collect();
    let unused = |path: &&String| !used.contains(&format!("{module}/{path}"));
    let top = |path: &String| path.split_once('/').map(|(top, _)| top.to_owned());
    let directories: BTreeSet<String> = tree.files.keys().filter(unused).filter_map(top).collect();
    for directory in directories.into_iter().filter(|directory| directory != "tasks") {
        let why = "only files that a task names are part of the pack".to_owned();
        plan.report.left_out.push(LeftOut { file: directory, why });
    }
}
