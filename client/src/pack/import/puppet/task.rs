//! Conversion of a task: which of its programs run on Linux, with which files, and its action.

use std::collections::{BTreeMap, BTreeSet};

use packs_schema::base::strict::shorten;
use serde_json::{Map, Value, json};

use super::metadata::{Implementation, InputMethod, Metadata};
use super::module::Module;
use super::parameters::{Parameters, declared, found};
use super::{scripts, supplied};
use crate::pack::import::converted::{ActionText, Converted};
use crate::pack::import::documents::read_json;
use crate::pack::import::names::short;
use crate::pack::import::plan::PlannedFile;
use crate::pack::import::python_facts::{Facts, python2};
use crate::pack::import::report::{ActionReport, Effect, ImportFinding};
use crate::pack::import::schema::Sink;
use crate::pack::import::source::SourceTree;
use crate::pack::import::{ImportError, any_command, clients, code_lines, processes, program};

/// Features that an instance of Bolt may have.
const FEATURES: [&str; 2] = ["shell", "puppet-agent"];
/// Time-out of every task: Puppet has none.
const TIMEOUT: &str = "10m";

/// Module and facts around a task.
pub(super) struct Surroundings<'a> {
    pub(super) tree: &'a SourceTree,
    pub(super) facts: &'a Facts,
    pub(super) module: &'a Module,
}

/// Files of one task in `tasks/`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct TaskFiles {
    /// True if there is metadata.
    pub(super) described: bool,
    /// Names of its other files.
    pub(super) programs: Vec<String>,
}

/// Program that runs on Linux.
struct Usable {
    /// Path in the source.
    source: String,
    /// Path in the pack.
    file: String,
    text: String,
    requirements: Vec<String>,
    method: InputMethod,
    files: BTreeMap<String, PlannedFile>,
    installdir: bool,
}

/// Converts the task `name`.
pub(super) fn convert(around: &Surroundings<'_>, name: &str, files: &TaskFiles) -> Result<Converted, ImportError> {
    let described = format!("tasks/{name}.json");
    let programs: Vec<String> = files.programs.iter().map(|program| format!("tasks/{program}")).collect();
    let path = if files.described { described.clone() } else { programs.first().cloned().unwrap_or_default() };
    let action = short(name);
    let text = if files.described { around.tree.text(&described).unwrap_or_default() } else { "" };
    let mut sink = Sink { file: &path, text, findings: Vec::new() };
    let metadata = match files.described {
        true => match read_json(around.tree, &described)? {
            Ok(json) => {
                for key in &json.duplicates {
                    let place: Vec<&str> = key.iter().map(String::as_str).collect();
                    let message =
                        format!("{} is there twice; the last one counts, as in Puppet", shorten(&key.join("."), 120));
                    sink.add("duplicate_key", Effect::Note, &place, message);
                }
                Metadata::read(&json.value, &mut sink)
            }
            Err(error) => {
                let finding = ImportFinding::new("unreadable", Effect::Blocks, &path, error.message);
                let findings = vec![finding.at(error.line)];
                return Ok(Converted::not_runnable(&action, &path, "task", findings));
            }
        },
        false => Metadata::default(),
    };
    let usable = usable(around, name, &metadata, files, &mut sink);
    let parameters = match &metadata.parameters {
        Some(given) => declared(given, &around.module.aliases, &mut sink)?,
        None => found(usable.iter().map(|one| one.text.as_str()), &mut sink),
    };
    let task = Task { around, name, action, metadata: &metadata, parameters };
    Ok(task.finish(usable, sink))
}

/// Returns the programs of the task that run on Linux. With none, the reasons are blocking findings.
fn usable(
    around: &Surroundings<'_>,
    name: &str,
    metadata: &Metadata,
    files: &TaskFiles,
    sink: &mut Sink<'_>,
) -> Vec<Usable> {
    let listed = match metadata.implementations.is_empty() {
        false => metadata.implementations.clone(),
        true => files
            .programs
            .iter()
            .map(|name| Implementation { name: name.clone(), ..Implementation::default() })
            .collect(),
    };
    if listed.is_empty() {
        sink.add("entry_point_missing", Effect::Blocks, &[], format!("the module has no program tasks/{name}.*"));
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut refused = Vec::new();
    for implementation in &listed {
        let mut own = Sink { file: sink.file, text: sink.text, findings: Vec::new() };
        match prepare(around, &installdir(name), metadata, implementation, &mut own) {
            Some(usable) => {
                sink.findings.append(&mut own.findings);
                found.push(usable);
            }
            None => refused.append(&mut own.findings),
        }
    }
    for mut finding in refused {
        if !found.is_empty() {
            finding.effect = Effect::Note;
        }
        sink.findings.push(finding);
    }
    if metadata.implementations.is_empty() && found.len() > 1 {
        let (first, others) = (found[0].source.clone(), found.split_off(1));
        let others: Vec<String> = others.into_iter().map(|one| one.source).collect();
        let message = format!(
            "the task has several programs and does not say which one runs: {first} does, not {}",
            others.join(", ")
        );
        sink.add("several_programs", Effect::Note, &[], message);
    }
    found
}

/// Prepares one program, with its files below `directory`; `None` after a blocking finding.
fn prepare(
    around: &Surroundings<'_>,
    directory: &str,
    metadata: &Metadata,
    implementation: &Implementation,
    sink: &mut Sink<'_>,
) -> Option<Usable> {
    let place = ["implementations"];
    let name = &implementation.name;
    let shown = shorten(name, 80);
    let mut block = |code, message: String| sink.add(code, Effect::Blocks, &place, message);
    let method = implementation.input_method.or(metadata.input_method).unwrap_or(InputMethod::Both);
    if name.to_ascii_lowercase().ends_with(".ps1") || method == InputMethod::PowerShell {
        block("powershell", format!("{shown} is PowerShell, which Bolt does not run"));
        return None;
    }
    if name.ends_with(".pp") {
        block("puppet_language", format!("{shown} is a manifest, which Puppet applies; write a script"));
        return None;
    }
    if let Some(feature) = implementation.requirements.iter().find(|feature| !FEATURES.contains(&feature.as_str())) {
        let (code, feature) = if feature == "powershell" {
            ("powershell", feature.clone())
        } else {
            ("requirements", shorten(feature, 40))
        };
        block(code, format!("{shown} needs the feature {feature}, which no instance of Bolt has"));
        return None;
    }
    if implementation.remote.unwrap_or(metadata.remote) {
        block("remote", format!("{shown} works on another host through a proxy; Bolt runs actions on the host itself"));
        return None;
    }
    let path = format!("tasks/{name}");
    let Some(file) = around.tree.files.get(&path).filter(|_| !name.contains('/')) else {
        block("entry_point_missing", format!("the program {shown} is not in tasks/"));
        return None;
    };
    let mut files = BTreeMap::new();
    for spec in metadata.files.iter().chain(&implementation.files) {
        match around.module.files(around.tree, spec) {
            Ok(named) => files.extend(named.into_iter().map(|(path, file)| {
                (format!("{directory}/{path}"), PlannedFile { bytes: file.bytes, executable: file.executable })
            })),
            Err(why) => {
                block("file_missing", format!("{shown} names a file: {why}"));
                return None;
            }
        }
    }
    let installdir = !files.is_empty();
    let target = format!("{directory}/{}/{path}", around.module.name);
    let old = files.keys().filter_map(|path| path.strip_prefix(&format!("{directory}/{}/", around.module.name)));
    let old = old.filter_map(|path| Some((path, python2(around.facts.0.as_ref()?.get(path)?)?))).next();
    if let Some((path, (line, problem))) = old {
        block("python2", format!("{path}:{line}: {problem}; port it to Python 3"));
        return None;
    }
    if !files.keys().chain([&target]).all(|path| program::has_plain_path(path, &place, sink)) {
        return None;
    }
    let prepared = program::prepare(&path, file, around.facts, &place, sink)?;
    let text = String::from_utf8_lossy(&prepared.bytes).into_owned();
    files.insert(target.clone(), prepared);
    let requirements = implementation.requirements.clone();
    Some(Usable { source: path, file: target, text, requirements, method, files, installdir })
}

/// A task with its programs and parameters.
struct Task<'a> {
    around: &'a Surroundings<'a>,
    name: &'a str,
    action: String,
    metadata: &'a Metadata,
    parameters: Parameters,
}

impl Task<'_> {
    fn finish(mut self, usable: Vec<Usable>, mut sink: Sink<'_>) -> Converted {
        let runner = usable.first().map_or("task", |one| language(&one.file)).to_owned();
        let leftovers = self.note(&usable, &mut sink);
        let module = &self.around.module.name;
        // The name by which Puppet calls it.
        let task = if self.name == "init" { module.clone() } else { format!("{module}::{}", self.name) };
        let implementations: Vec<Value> = usable
            .iter()
            .map(|one| {
                json!({
                    "file": one.file,
                    "requirements": one.requirements,
                    "input_method": one.method.word(),
                    "installdir": one.installdir.then(|| installdir(self.name)),
                })
            })
            .collect();
        let registered = json!({
            "task": task,
            "names": self.parameters.names,
            "noop": self.metadata.supports_noop,
            "implementations": implementations,
        });
        let origin = format!("Puppet: {}", sink.file);
        let report =
            ActionReport { name: self.action.clone(), file: sink.file.to_owned(), runner, findings: sink.findings };
        let runs = report.findings.iter().all(|finding| finding.effect != Effect::Blocks);
        let enabled = !any_command::disables(&report.findings);
        let text = runs.then(|| self.text(&origin, enabled, leftovers));
        let files = usable.into_iter().flat_map(|one| one.files).collect();
        Converted { report, action_file: text, files, registered: Some(registered) }
    }

    /// Returns the libraries of a program that are clients of services elsewhere.
    fn clients(&self, program: &Usable) -> BTreeSet<String> {
        if clients::asks_this_host(&program.text) {
            return BTreeSet::new();
        }
        match self.around.facts.0.as_ref().and_then(|facts| facts.get(&program.source)) {
            Some(facts) => {
                let modules = facts.imports.iter().filter(|import| import.0 == 0).map(|import| import.1.clone());
                modules.filter(|module| clients::is_python_client(module)).collect()
            }
            None if language(&program.file) == "ruby task" => clients::of_ruby(&program.text),
            None => BTreeSet::new(),
        }
    }

    /// Notes what the metadata does not tell; true if processes of the task stay.
    fn note(&mut self, usable: &[Usable], sink: &mut Sink<'_>) -> bool {
        let mut leftovers = false;
        for one in usable {
            if !one.requirements.iter().any(|feature| feature == "puppet-agent") {
                scripts::note_puppet(&one.source, &one.text, sink);
            }
            code_lines::note(std::iter::once((one.source.as_str(), one.text.as_str())), &[], sink);
            scripts::note_commands(&one.text, &self.parameters, sink);
            scripts::note_secret_arguments(&one.source, &one.text, &self.parameters, sink);
            if matches!(one.method, InputMethod::Environment | InputMethod::Both) {
                scripts::follow(&one.source, &one.text, &mut self.parameters, sink);
            }
            leftovers |= processes::note_script(&one.source, &one.text, false, &[], sink);
        }
        let clients: Vec<BTreeSet<String>> = usable.iter().map(|one| self.clients(one)).collect();
        if !clients.is_empty() && clients.iter().all(|clients| !clients.is_empty()) {
            sink.add("remote_client", Effect::Rare, &[], clients::message(&clients.into_iter().flatten().collect()));
        }
        let in_environment =
            usable.iter().any(|one| matches!(one.method, InputMethod::Environment | InputMethod::Both));
        scripts::note_secrets(&self.parameters, in_environment, sink);
        if let Some(command) = self.parameters.commands.first() {
            any_command::note_once(sink, &["parameters", command], command, any_command::Given::Command);
        }
        if self.metadata.private {
            sink.add("private", Effect::Note, &["private"], "Puppet's tools do not list it; it has the tag private");
        }
        leftovers
    }

    fn text(&self, origin: &str, enabled: bool, leftovers: bool) -> String {
        let parameters: Map<String, Value> = self
            .parameters
            .schemas
            .iter()
            .map(|(name, schema)| (name.clone(), Value::Object(schema.clone())))
            .collect();
        let mut allow = Map::new();
        if !parameters.is_empty() {
            allow.insert("unused_parameter".to_owned(), json!("the supplied runner passes it on"));
        }
        if !self.metadata.supports_noop {
            allow.insert("no_noop".to_owned(), json!("imported; its source knows no dry run"));
        }
        let mut bolt = json!({
            "class": "remediation",
            "timeout": TIMEOUT,
            "limits": {"memory": "512MiB"},
            "arguments": false,
        });
        if !allow.is_empty() {
            bolt["lint"] = json!({"allow": allow});
        }
        if self.metadata.supports_noop {
            bolt["noop"] = json!(true);
        }
        if leftovers {
            bolt["leftovers"] = json!("keep");
        }
        let tags = if self.metadata.private { vec![json!("private")] } else { Vec::new() };
        let written = ActionText {
            name: &self.action,
            description: &self.metadata.description,
            runner_type: "local-shell-script",
            entry_point: supplied::RUNNER,
            enabled,
            tags: &tags,
            parameters,
            bolt,
        };
        written.text(origin)
    }
}

/// Returns the language of a program by the end of its name.
fn language(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, end)| end) {
        Some("rb") => "ruby task",
        Some("py") => "python task",
        Some("sh") => "shell task",
        _ => "task",
    }
}

/// Returns the directory of a task's files in the pack. Each task has one of its own, as in Puppet: a program in Python
/// would import another task that is called like a module of its library.
fn installdir(name: &str) -> String {
    format!("tasks/{}", short(name))
}
