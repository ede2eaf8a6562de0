//! Plan of a pack to write, and its check by the code that agents use.

use std::collections::{BTreeMap, BTreeSet};

use packs_schema::base::finding::{Finding, Severity};
use packs_schema::base::name::PackName;
use packs_schema::pack::contents::{
    self, ACTIONS_DIRECTORY, EntryKind, FileReader, HEAD_BYTES, MAX_YAML, PackEntry, check_path,
};

use super::ImportError;
use super::report::{ActionReport, Effect, ImportFinding, LeftOut, Report};

/// File of a pack to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlannedFile {
    pub(super) bytes: Vec<u8>,
    pub(super) executable: bool,
}

impl PlannedFile {
    pub(super) fn text(text: impl Into<String>) -> PlannedFile {
        PlannedFile { bytes: text.into().into_bytes(), executable: false }
    }

    pub(super) fn program(text: impl Into<String>) -> PlannedFile {
        PlannedFile { executable: true, ..PlannedFile::text(text) }
    }
}

/// Pack to write, and the report about it. The action `name` is described by `actions/<name>.yaml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) pack: PackName,
    pub(super) files: BTreeMap<String, PlannedFile>,
    pub(super) report: Report,
}

/// Checks the plan as an agent would. An action with errors leaves the plan and is reported as not runnable; an error of
/// the pack itself refuses the import.
pub(super) fn check(mut plan: Plan) -> Result<Plan, ImportError> {
    leave_out_bad_paths(&mut plan);
    // An action that leaves the plan can only remove findings, so two rounds find them all.
    for _ in 0..3 {
        let errors = errors(&plan);
        if errors.is_empty() {
            return Ok(plan);
        }
        for error in &errors {
            let Some(name) = action_of(error) else {
                return Err(ImportError::refused(error.at.clone(), error.message.clone()));
            };
            plan.files.remove(&action_file(&name));
            let place = error.at.split_once(": ").map_or("", |(_, place)| place);
            let message = format!("{place}: {}", error.message);
            block(&mut plan.report.actions, &name, "not_a_bolt_action", &message);
        }
    }
    Err(ImportError::refused(plan.pack.as_str(), "its actions do not fit together"))
}

/// Path of an action's file.
pub(super) fn action_file(name: &str) -> String {
    format!("{ACTIONS_DIRECTORY}/{name}.yaml")
}

fn block(actions: &mut [ActionReport], name: &str, code: &'static str, message: &str) {
    let named = actions.iter_mut().filter(|action| action.name == name);
    for action in named {
        let finding = ImportFinding::new(code, Effect::Blocks, &action.file, message);
        action.findings.push(finding);
    }
}

fn errors(plan: &Plan) -> Vec<Finding> {
    let (_, (_, found)) = contents::read(&entries(plan), &mut Planned(&plan.files));
    found.into_iter().filter(|finding| finding.severity == Severity::Error).collect()
}

/// Returns the name of the action whose file `error` is about.
fn action_of(error: &Finding) -> Option<String> {
    action_of_file(error.at.split(':').next().unwrap_or_default()).map(str::to_owned)
}

/// Returns the name of the action that `file` describes.
fn action_of_file(file: &str) -> Option<&str> {
    let name = file.strip_prefix(ACTIONS_DIRECTORY)?.strip_prefix('/')?.strip_suffix(".yaml")?;
    (!name.contains('/')).then_some(name)
}

fn leave_out_bad_paths(plan: &mut Plan) {
    let bad = |path: &&String| check_path(path).is_err();
    let paths: Vec<String> = plan.files.keys().filter(bad).cloned().collect();
    for path in paths {
        plan.files.remove(&path);
        let why = check_path(&path).map_or_else(|error| error.to_string(), |()| String::new());
        plan.report.left_out.push(LeftOut { file: path, why });
    }
    // File systems without case would take two such files for one.
    let mut known = BTreeMap::new();
    let twin = |path: &String| {
        let first = known.entry(path.to_ascii_lowercase()).or_insert_with(|| path.clone());
        (first != path).then(|| (path.clone(), first.clone()))
    };
    let twins: Vec<(String, String)> = plan.files.keys().filter_map(twin).collect();
    for (path, first) in twins {
        plan.files.remove(&path);
        let why = format!("differs from {first} in case only");
        if let Some(name) = action_of_file(&path) {
            block(&mut plan.report.actions, name, "duplicate_action", &format!("{path} {why}; rename one of them"));
        }
        plan.report.left_out.push(LeftOut { file: path, why });
    }
}

fn entries(plan: &Plan) -> Vec<PackEntry> {
    let mut directories = BTreeSet::new();
    for path in plan.files.keys() {
        directories.extend(path.match_indices('/').map(|(at, _)| path[..at].to_owned()));
    }
    let directory = |path| PackEntry { path, kind: EntryKind::Directory, size: 0, executable: false, head: Vec::new() };
    let file = |(path, file): (&String, &PlannedFile)| PackEntry {
        path: path.clone(),
        kind: EntryKind::File,
        size: file.bytes.len() as u64,
        executable: file.executable,
        head: file.bytes[..file.bytes.len().min(HEAD_BYTES)].to_vec(),
    };
    directories.into_iter().map(directory).chain(plan.files.iter().map(file)).collect()
}

/// Reads the files of a plan.
struct Planned<'a>(&'a BTreeMap<String, PlannedFile>);

impl FileReader for Planned<'_> {
    fn text(&mut self, path: &str) -> Result<String, String> {
        let file = self.0.get(path).ok_or("it does not exist")?;
        if file.bytes.len() as u64 > MAX_YAML {
            return Err(format!("it is larger than {MAX_YAML} bytes"));
        }
        String::from_utf8(file.bytes.clone()).map_err(|error| error.to_string())
    }
}
