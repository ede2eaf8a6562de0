//! Actions that are a class in a Python file: run by `run_python.py`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::defaults::{register_templates, types};
use super::draft::{Draft, Run, Surroundings, entry_path};
use super::requirements::Requirements;
use super::schema::holds_secret;
use super::script::{is_alone, note_code};
use super::{places, server};
use crate::pack::import::python_facts::{Import, SourceFacts, python2};
use crate::pack::import::report::{Effect, REQUIREMENT_REFUSED};
use crate::pack::import::{clients, program, secrets};

/// Modules of StackStorm that the supplied runner has.
const SUPPLIED: [&str; 12] = [
    "st2common",
    "st2common.runners",
    "st2common.runners.base_action",
    "st2common.runners.utils",
    "st2common.exceptions",
    "st2common.exceptions.action",
    "st2common.log",
    "st2common.util",
    "st2common.util.shell",
    "st2actions",
    "st2actions.runners",
    "st2actions.runners.pythonrunner",
];

/// Plans a Python action; `None` after a blocking finding.
pub(super) fn convert(
    around: &Surroundings<'_>,
    draft: &mut Draft<'_>,
    requirements: &mut Requirements,
) -> Option<Run> {
    let path = entry_path(&draft.entry_point).filter(|path| around.tree.files.contains_key(path));
    let Some(path) = path else {
        let message = format!("the entry point {:?} is not in the pack", draft.entry_point);
        draft.block("entry_point_missing", &["entry_point"], message);
        return None;
    };
    if !is_alone(around, draft, &path) || !program::has_plain_path(&path, &["entry_point"], &mut draft.sink) {
        return None;
    }
    let sources = match &around.facts.0 {
        None => {
            let message = "its source was not checked, since python3 could not be run here";
            draft.sink.add("not_checked", Effect::Note, &["entry_point"], message);
            BTreeSet::from([path.clone()])
        }
        Some(facts) => check(facts, &path, draft, requirements)?,
    };
    let text = |path: &str| around.tree.text(path).unwrap_or_default();
    let scripts: Vec<(&str, &str)> = sources.iter().map(|path| (path.as_str(), text(path))).collect();
    note_code(draft, &scripts);
    server::note(draft, scripts.iter().copied(), &["entry_point"]);
    note_secret_arguments(around, draft, &scripts);
    let mut registered = Map::new();
    places::register(around, draft, &mut registered)?;
    let templates = register_templates(around, draft);
    registered.insert("types".to_owned(), Value::Object(types(draft, &templates)));
    registered.insert("templates".to_owned(), Value::Object(templates));
    registered.insert("file".to_owned(), json!(path));
    registered.insert("names".to_owned(), json!(draft.source_names));
    registered.insert("log_level".to_owned(), json!(draft.settings.log_level));
    Some(Run {
        runner_type: "python-script",
        entry_point: "bolt_st2/run_python.py".to_owned(),
        arguments: false,
        memory: "512MiB",
        files: BTreeMap::new(),
        registered: Some(Value::Object(registered)),
    })
}

/// Notes where the sources give a secret, of a caller or of the configuration, to a program as an argument.
fn note_secret_arguments(around: &Surroundings<'_>, draft: &mut Draft<'_>, scripts: &[(&str, &str)]) {
    let is_secret = |schema: &Map<String, Value>| holds_secret(&Value::Object(schema.clone()));
    let of_callers = draft.parameters.iter().filter(|(_, schema)| is_secret(schema));
    let mut names: BTreeSet<String> = of_callers.map(|(bolt, _)| draft.source_names[bolt].clone()).collect();
    names.extend(around.config.values().into_iter().filter(|(_, value)| value.secret).map(|(name, _)| name));
    let known: Vec<_> = names.iter().map(|name| secrets::in_variable(name, String::new())).collect();
    for (path, text) in scripts {
        for message in secrets::in_program(text, path, &known, |one| one.name.as_str()) {
            draft.sink.add(secrets::CODE, Effect::Note, &["entry_point"], message);
        }
    }
}

/// Checks the sources that the action imports from the pack, and returns their paths; `None` after a blocking finding.
fn check(
    facts: &BTreeMap<String, SourceFacts>,
    path: &str,
    draft: &mut Draft<'_>,
    requirements: &mut Requirements,
) -> Option<BTreeSet<String>> {
    let Some(own) = facts.get(path) else {
        draft.block("not_python", &["entry_point"], format!("{path} is not a Python source of UTF-8 text"));
        return None;
    };
    let mut seen = BTreeSet::new();
    let mut waiting = vec![path.to_owned()];
    let mut outside: BTreeMap<&str, (String, usize)> = BTreeMap::new();
    while let Some(path) = waiting.pop() {
        let Some(source) = facts.get(&path).filter(|_| seen.insert(path.clone())) else { continue };
        if !program::has_plain_path(&path, &["entry_point"], &mut draft.sink) {
            return None;
        }
        if let Some((line, problem)) = python2(source) {
            draft.block("python2", &["entry_point"], format!("{path}:{line}: {problem}; port it to Python 3"));
            return None;
        }
        for import in &source.imports {
            let local = local_files(facts, &path, import);
            if local.is_empty() && import.0 == 0 && !import.4 {
                outside.entry(import.1.as_str()).or_insert_with(|| (path.clone(), import.3));
            }
            waiting.extend(local);
        }
    }
    if own.classes.is_empty() {
        draft.block("no_action_class", &["entry_point"], format!("{path} has no class with a method run"));
        return None;
    }
    imports(&outside, draft, requirements)?;
    Some(seen)
}

/// Judges the modules that come from outside the pack.
fn imports(
    outside: &BTreeMap<&str, (String, usize)>,
    draft: &mut Draft<'_>,
    requirements: &mut Requirements,
) -> Option<()> {
    let mut found = BTreeSet::new();
    let mut from_address = None;
    for (module, (path, line)) in outside {
        let top = module.split('.').next().unwrap_or(module);
        let of_server = ["st2common", "st2actions", "st2client", "st2reactor", "st2api", "oslo_config"].contains(&top);
        if of_server && !SUPPLIED.contains(module) {
            let message = format!("{path}:{line} imports {module}, which needs StackStorm's server");
            draft.block("needs_server", &["entry_point"], message);
            return None;
        }
        let provided = requirements.provide(top);
        if clients::is_python_client(module) {
            found.insert((*module).to_owned());
        }
        if of_server || provided || is_library(top) || requirements.may_provide(top) {
            continue;
        }
        match requirements.of_unknown(module) {
            Some(Err(refused)) => {
                draft.block(REQUIREMENT_REFUSED, &["entry_point"], refused);
                return None;
            }
            Some(Ok(pinned)) => from_address = Some(pinned),
            None => {}
        }
    }
    if let Some(pinned) = from_address {
        draft.sink.add("requirement_pinned", Effect::Safer, &["entry_point"], pinned);
    }
    if !found.is_empty() {
        draft.sink.add("remote_client", Effect::Rare, &["entry_point"], clients::message(&found));
    }
    Some(())
}

/// True for modules of Python's own library.
fn is_library(module: &str) -> bool {
    include_str!("library.txt").lines().any(|known| known == module)
}

/// Returns the files of the pack that an import means, as StackStorm's search path finds them.
fn local_files(facts: &BTreeMap<String, SourceFacts>, from: &str, import: &Import) -> Vec<String> {
    let Import(level, module, names, _, _) = import;
    let directory = from.rsplit_once('/').map_or("", |(directory, _)| directory);
    let roots: Vec<String> = if *level > 0 {
        let parts: Vec<&str> = directory.split('/').collect();
        vec![parts[..parts.len().saturating_sub(level - 1)].join("/")]
    } else {
        vec!["lib".to_owned(), "actions/lib".to_owned(), directory.to_owned(), "actions".to_owned()]
    };
    for root in roots {
        let mut found = Vec::new();
        let mut at = root;
        for part in module.split('.').filter(|part| !part.is_empty()) {
            at = if at.is_empty() { part.to_owned() } else { format!("{at}/{part}") };
            found.extend(
                [format!("{at}.py"), format!("{at}/__init__.py")].into_iter().filter(|path| facts.contains_key(path)),
            );
        }
        found.extend(names.iter().map(|name| format!("{at}/{name}.py")).filter(|path| facts.contains_key(path)));
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}
