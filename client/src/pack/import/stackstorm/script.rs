//! Actions that run a file: directly where Bolt passes parameters as StackStorm does, else through `run_script.py`, which
//! passes them as StackStorm does without a shell.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::defaults::{register_templates, secret_in, types};
use super::draft::{Draft, Run, Surroundings, entry_path};
use super::jinja::names::{Names, Origin};
use super::{jinja, places, server, values};
use crate::pack::import::code_lines::{self, python, shell};
use crate::pack::import::source::SourceFile;
use crate::pack::import::{any_command, processes, program};

/// Number of the last argument that is told from those after it.
const LAST_ARGUMENT: usize = 9;

/// Plans a script action; `None` after a blocking finding.
pub(super) fn convert(around: &Surroundings<'_>, draft: &mut Draft<'_>) -> Option<Run> {
    let (path, file) = entry_point(around, draft)?;
    if let Some(secret) = draft.secret_parameter() {
        let message = format!(
            "the script takes the secret {secret} as an argument, which /proc shows to every account of the instance; make the \
             script read it from standard input"
        );
        draft.block("secret_argument", &["parameters", &secret], message);
        return None;
    }
    let secret = draft.templates.values().find_map(|template| secret_in(around, draft, template));
    if let Some(secret) = secret {
        let message = format!(
            "the script takes the secret {secret} as an argument, which /proc shows to every account of the instance; make the \
             script read it from bolt_config on standard input"
        );
        draft.block("secret_argument", &["parameters"], message);
        return None;
    }
    let prepared = program::prepare(&path, &file, around.facts, &["entry_point"], &mut draft.sink)?;
    let mut registered = Map::new();
    places::register(around, draft, &mut registered)?;
    let text = file.text().unwrap_or_default();
    note_code(draft, &[(path.as_str(), text)]);
    server::note(draft, std::iter::once((path.as_str(), text)), &["entry_point"]);
    follow(draft, &path, text);
    places::note_directory(draft, text);
    let is_root = draft.settings.sudo;
    draft.leftovers = processes::note_script(&path, text, is_root, &["entry_point"], &mut draft.sink);
    let templates = register_templates(around, draft);
    let positional: Vec<String> = draft.positions().into_iter().map(|(_, name)| name).collect();
    let mut files = BTreeMap::from([(path.clone(), prepared)]);
    let direct = passes_alike(draft, positional.len()) && templates.is_empty() && !server::reads_known(text);
    if direct {
        let entry_point = path.strip_prefix("actions/").unwrap_or(&path).to_owned();
        let run = Run {
            runner_type: "local-shell-script",
            entry_point,
            arguments: !draft.parameters.is_empty(),
            memory: "256MiB",
            files: std::mem::take(&mut files),
            registered: None,
        };
        return Some(run);
    }
    let settings = &draft.settings;
    let rest = json!({
        "file": path,
        "names": draft.source_names,
        "positional": positional,
        "dashes": dashes(draft),
        "types": types(draft, &templates),
        "templates": templates,
        "kwarg_op": settings.kwarg_op,
        "cwd_parameter": settings.cwd_by_caller.then_some("cwd"),
    });
    registered.extend(rest.as_object().cloned().unwrap_or_default());
    if settings.cwd_by_caller {
        let schema = json!({"type": "string", "description": "Working directory of the script.", "pattern": "^/"});
        draft.parameters.insert("cwd".to_owned(), schema.as_object().cloned().unwrap_or_default());
    }
    Some(Run {
        runner_type: "local-shell-script",
        entry_point: "bolt_st2/run_script.py".to_owned(),
        arguments: false,
        memory: "256MiB",
        files,
        registered: Some(Value::Object(registered)),
    })
}

/// Notes where the scripts make code of values, and disables the action if a parameter is a command or names a program.
pub(super) fn note_code(draft: &mut Draft<'_>, scripts: &[(&str, &str)]) {
    if draft.parameters.is_empty() {
        return;
    }
    let runs_text = code_lines::note(scripts.iter().copied(), &["entry_point"], &mut draft.sink);
    let starts_any = || scripts.iter().any(|(_, text)| python::starts_any(text));
    let command = |(bolt, schema): (&String, &Map<String, Value>)| {
        let source = &draft.source_names[bolt];
        any_command::is_command(source, schema).then(|| source.clone())
    };
    let by_name = if runs_text || starts_any() { draft.parameters.iter().find_map(command) } else { None };
    // By the names that a program knows them by: their own, and those of arguments.
    let open = draft.parameters.iter().filter(|(_, schema)| any_command::is_open(schema));
    let mut names: Vec<(String, String)> =
        open.map(|(bolt, _)| (draft.source_names[bolt].clone(), draft.source_names[bolt].clone())).collect();
    let positions = draft.positions();
    if positions.len() == draft.parameters.len() {
        let is_open = |bolt: &String| any_command::is_open(&draft.parameters[bolt]);
        let places = positions.iter().enumerate().filter(|(_, (_, bolt))| is_open(bolt));
        names.extend(places.flat_map(|(index, (_, bolt))| {
            let of = |name: String| (name, draft.source_names[bolt].clone());
            [of(format!("sys.argv[{}]", index + 1)), of(format!("ARGV[{index}]"))]
        }));
    }
    let run = scripts.iter().flat_map(|(_, text)| python::run_whole(text, names.iter().map(|(name, _)| name.as_str())));
    let run: Vec<&str> = run.collect();
    let of_names = names.iter().filter(|(name, _)| run.contains(&name.as_str())).map(|(_, source)| source.clone());
    let commands: Vec<String> = by_name.into_iter().chain(of_names).collect();
    for name in commands {
        any_command::note_once(&mut draft.sink, &["parameters", &name], &name, any_command::Given::Command);
    }
}

/// Follows the values of a shell script from its arguments and variables.
fn follow(draft: &mut Draft<'_>, path: &str, text: &str) {
    let mut parameters = values::parameters(draft);
    let index = |name: &str| parameters.iter().position(|parameter| parameter.source == name);
    // A value is also in those whose defaults are computed of it.
    let with_defaults = |at: usize| {
        let template = draft.templates.get(&parameters[at].bolt);
        let named = template.map(|template| names_in(template)).unwrap_or_default();
        std::iter::once(at).chain(named.iter().filter_map(|name| index(name))).collect::<Vec<usize>>()
    };
    let positions = draft.positions();
    let place = |(number, (_, bolt)): (usize, &(u64, String))| {
        let at = parameters.iter().position(|parameter| parameter.bolt == *bolt)?;
        Some((LAST_ARGUMENT.min(number + 1).to_string(), with_defaults(at)))
    };
    // Named arguments are before the others, and those without a value are none.
    let is_known = positions.len() == parameters.len() && !shell::reads_all_arguments(text);
    let mut variables: Vec<(String, Vec<usize>)> =
        if is_known { positions.iter().enumerate().filter_map(place).collect() } else { Vec::new() };
    let of_environment = draft.settings.env_templates.iter();
    variables.extend(of_environment.map(|(variable, template)| {
        (variable.clone(), names_in(template).iter().filter_map(|name| index(name)).collect())
    }));
    let arguments = if is_known { Vec::new() } else { (0..parameters.len()).collect() };
    shell::Script { path, text, variables, arguments }.follow(&mut parameters, &["entry_point"], &mut draft.sink);
    draft.parameters.extend(parameters.into_iter().map(|parameter| (parameter.bolt, parameter.schema)));
}

/// Returns the parameters of which a template is made.
fn names_in(template: &str) -> Vec<String> {
    let pieces = jinja::parse(template).unwrap_or_default();
    let made = Names::default().made_of(&pieces).origins.into_iter();
    made.filter_map(|origin| if let Origin::Parameter(name) = origin { Some(name) } else { None }).collect()
}

/// Returns the values that begin with `-` and that the author names, by the parameter: defaults and listed values.
fn dashes(draft: &Draft<'_>) -> Map<String, Value> {
    let begins = |value: &Value| value.as_str().is_some_and(|text| text.starts_with('-'));
    let of = |schema: &Map<String, Value>| {
        let listed = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
        let items =
            schema.get("items").and_then(|items| items.get("enum")).and_then(Value::as_array).into_iter().flatten();
        let default = schema.get("default").into_iter();
        let default =
            default.flat_map(|value| value.as_array().map_or_else(|| vec![value], |items| items.iter().collect()));
        listed.chain(items).chain(default).filter(|value| begins(value)).cloned().collect::<Vec<Value>>()
    };
    let found = draft.parameters.iter().map(|(name, schema)| (name.clone(), of(schema)));
    found.filter(|(_, values)| !values.is_empty()).map(|(name, values)| (name, Value::Array(values))).collect()
}

/// True if Bolt's own arguments equal StackStorm's: only positional ones or only named ones, of types with one notation.
fn passes_alike(draft: &Draft<'_>, positional: usize) -> bool {
    let settings = &draft.settings;
    let plain = |schema: &serde_json::Map<String, Value>| {
        matches!(schema.get("type").and_then(Value::as_str), Some("string" | "integer" | "boolean"))
            && !schema.get("default").and_then(Value::as_str).is_some_and(|text| text.starts_with('-'))
    };
    (positional == 0 || positional == draft.parameters.len())
        && draft.parameters.values().all(plain)
        && draft.source_names.iter().all(|(bolt, source)| bolt == source)
        && settings.kwarg_op == "--"
        && settings.env.is_empty()
        && settings.cwd.is_none()
        && !places::hold_templates(draft)
        && !settings.cwd_by_caller
}

/// True if no file differs from an entry point in case only and takes its place; blocks the action otherwise.
pub(super) fn is_alone(around: &Surroundings<'_>, draft: &mut Draft<'_>, path: &str) -> bool {
    let Some(twin) = around.tree.twin(path) else { return true };
    let message = format!("the entry point {path} differs from {twin} in case only; rename one of them");
    draft.block("entry_point_case", &["entry_point"], message);
    false
}

fn entry_point(around: &Surroundings<'_>, draft: &mut Draft<'_>) -> Option<(String, SourceFile)> {
    let path = entry_path(&draft.entry_point);
    let found = path.and_then(|path| Some((path.clone(), around.tree.files.get(&path)?.clone())));
    if found.is_none() {
        let message = format!("the entry point {:?} is not in the pack", draft.entry_point);
        draft.block("entry_point_missing", &["entry_point"], message);
    }
    found.filter(|(path, _)| {
        is_alone(around, draft, path) && program::has_plain_path(path, &["entry_point"], &mut draft.sink)
    })
}
