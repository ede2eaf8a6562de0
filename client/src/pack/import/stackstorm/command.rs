//! Actions that are a shell command: each becomes a script of its own. Jinja in it becomes quoted variables.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::defaults::{ask_caller, template_message};
use super::draft::{Draft, Run, Surroundings};
use super::jinja::judge::{Analysed, judge};
use super::jinja::names::{Kind, Names};
use super::jinja::shell::rewrite;
use super::jinja::{self, Base, Piece, Refused, ValueOf};
use super::schema::{holds_secret, is_template};
use super::values::{bolt_name, is_listed};
use super::{places, server, values};
use crate::pack::import::plan::PlannedFile;
use crate::pack::import::report::Effect;
use crate::pack::import::shell::programs::is_executed;
use crate::pack::import::{any_command, processes};

const PLACE: [&str; 2] = ["parameters", "cmd"];

/// Plans a command; `None` after a blocking finding.
pub(super) fn convert(around: &Surroundings<'_>, draft: &mut Draft<'_>) -> Option<Run> {
    let command = draft.settings.command.clone().filter(|(command, _)| !command.trim().is_empty());
    if let Some((_, false)) = command {
        let message = "callers could replace the whole command; it is fixed now";
        draft.sink.add("command_fixed", Effect::Safer, &PLACE, message);
    }
    let command = command.map(|(command, _)| command);
    let given = match &command {
        Some(_) => None,
        None => Some(of_caller(draft)?),
    };
    let templates = command.as_deref().is_some_and(is_template) || places::hold_templates(draft);
    if let Some(secret) = draft.secret_parameter().filter(|_| templates) {
        let message =
            format!("the command takes the secret {secret} as text; write a script that reads it from standard input");
        draft.block("secret_argument", &["parameters", &secret], message);
        return None;
    }
    let names = if templates { names(around, draft) } else { Names::default() };
    let script = match (&command, given) {
        (Some(command), _) if is_template(command) => from_template(draft, &names, command)?,
        (Some(command), _) => {
            let mut text = Analysed::default();
            text.text(command);
            judge_text(draft, &names, text)?;
            format!("{}\n", command.trim_end())
        }
        (None, given) => run(&given.unwrap_or_default()),
    };
    let mut head = format!("#!/bin/bash\n# Imported from StackStorm: the command of {}\n", draft.path);
    head += &places::lines(draft, &names)?;
    if draft.settings.cwd_by_caller {
        let schema = json!({"type": "string", "pattern": "^/", "description": "Working directory of the command."});
        draft.parameters.insert("cwd".to_owned(), schema.as_object().cloned().unwrap_or_default());
        head += "[ -z \"$BOLT_PARAM_CWD\" ] || cd -- \"$BOLT_PARAM_CWD\" || exit\n";
    }
    if server::reads_known(&script) {
        head += &server::exports(around.pack.as_str());
    }
    if command.is_some() {
        server::note(draft, std::iter::once(("cmd", script.as_str())), &PLACE);
        places::note_directory(draft, &script);
        let is_root = draft.settings.sudo;
        draft.leftovers = processes::note_script("cmd", &script, is_root, &PLACE, &mut draft.sink);
    }
    let path = format!("bolt_st2/commands/{}.sh", draft.name);
    // Standard input holds the parameters as JSON, which the command does not expect.
    let file = PlannedFile::program(format!("{head}exec </dev/null\n{script}"));
    Some(Run {
        runner_type: "local-shell-script",
        entry_point: path.clone(),
        arguments: false,
        memory: "256MiB",
        files: BTreeMap::from([(format!("actions/{path}"), file)]),
        registered: None,
    })
}

/// Returns a script that runs the value of a parameter. StackStorm gives it to bash as well.
fn run(bolt: &str) -> String {
    format!("exec bash -c -- \"${{BOLT_PARAM_{}}}\"\n", bolt.to_ascii_uppercase())
}

/// Makes the command a parameter, and returns its name in Bolt; `None` after a blocking finding.
fn of_caller(draft: &mut Draft<'_>) -> Option<String> {
    let mut schema = draft.settings.command_schema.as_object().cloned().unwrap_or_default();
    if schema.get("immutable").and_then(Value::as_bool) == Some(true) {
        draft.block("no_command", &PLACE, "cmd is immutable and has no default, so that there is no command");
        return None;
    }
    ["default", "position", "immutable"].into_iter().for_each(|key| drop(schema.remove(key)));
    schema.entry("type").or_insert_with(|| json!("string"));
    schema.entry("description").or_insert_with(|| json!("Command that bash runs."));
    schema.insert("required".to_owned(), json!(true));
    if !schema.contains_key("enum") {
        schema.entry("minLength").or_insert_with(|| json!(1));
    }
    draft.add_parameter("cmd", &Value::Object(schema));
    let bolt = bolt_name(draft, "cmd")?;
    // The schema as it is written counts: a list of values that is none is dropped from it.
    if !draft.parameters.get(&bolt).is_some_and(is_listed) {
        any_command::note(&mut draft.sink, &PLACE, "cmd", any_command::Given::Command);
    }
    if draft.parameters.get(&bolt).is_some_and(|schema| holds_secret(&Value::Object(schema.clone()))) {
        let message = "the command is a secret, and /proc shows commands to every account of the instance";
        draft.block("secret_argument", &PLACE, message);
        return None;
    }
    Some(bolt)
}

fn from_template(draft: &mut Draft<'_>, names: &Names, command: &str) -> Option<String> {
    let pieces = jinja::parse(command);
    if let Some(secret) = pieces.as_ref().ok().and_then(|pieces| names.secret_in(pieces)) {
        let message = format!(
            "the command takes the secret config_context.{secret} as text, which /proc shows to every account of the instance; \
             write a script that reads it from bolt_config on standard input"
        );
        draft.block("secret_argument", &PLACE, message);
        return None;
    }
    let done = pieces.and_then(|pieces| match whole(draft, names, &pieces) {
        Some(name) => Ok(Err(name)),
        None => rewrite(&pieces, names).map(Ok),
    });
    let rewritten = match done {
        Ok(Ok(rewritten)) => rewritten,
        Ok(Err(name)) => return of_parameter(draft, names, &name),
        Err(refused) => return refuse(draft, &refused),
    };
    let message = "values of callers were rendered into shell text; they are quoted variables of a script now";
    draft.sink.add("template_rewritten", Effect::Safer, &PLACE, message);
    judge_text(draft, names, rewritten.analysed)?;
    for name in &rewritten.split {
        let message =
            format!("{name} is split at blanks into words, without quotes and patterns: callers choose options");
        draft.sink.add("split_words", Effect::Safer, &["parameters", name], message);
    }
    for name in &rewritten.items {
        let message = format!(
            "each item of {name} is one word, whatever is in it: not split again, no pattern, and no option, which begins with '-'"
        );
        draft.sink.add("split_words", Effect::Safer, &PLACE, message);
    }
    for name in &rewritten.replaced {
        if let Some(bolt) = bolt_name(draft, name) {
            draft.parameters.remove(&bolt);
        }
        let message = format!("{name} is computed from the other parameters and can no longer be given");
        draft.sink.add("parameter_fixed", Effect::Safer, &["parameters", name], message);
    }
    forbid_empty(draft);
    Some(rewritten.script)
}

/// Blocks the action, since its Jinja is not imported.
fn refuse<T>(draft: &mut Draft<'_>, refused: &Refused) -> Option<T> {
    let message = format!("its Jinja is not imported: {refused}; write a script that reads BOLT_PARAM_*");
    draft.block("jinja", &PLACE, message);
    None
}

/// Limits parameters to what the variables of the environment and a text need; `None` after a blocking finding.
fn judge_text(draft: &mut Draft<'_>, names: &Names, text: Analysed) -> Option<()> {
    let mut all = Analysed::default();
    // Variables whose values are run have a refusal of their own.
    for (name, template) in draft.settings.env_templates.iter().filter(|(name, _)| !is_executed(name)) {
        let pieces = jinja::parse(template).unwrap_or_default();
        all.export(name, names.made_of(&pieces));
    }
    all.append(text);
    // The author's own text needs no judgement.
    if !all.has_places() {
        return Some(());
    }
    match judge(&all, &|origin| values::allowed(draft, names, origin)) {
        Ok(judged) => values::apply(draft, judged),
        Err(refused) => return refuse(draft, &refused),
    }
    Some(())
}

/// Returns the parameter that is all of a command, so that its value is a command.
fn whole(draft: &Draft<'_>, names: &Names, pieces: &[Piece]) -> Option<String> {
    let is_blank = |piece: &&Piece| matches!(piece, Piece::Text(text) if text.trim().is_empty());
    let [Piece::Value(ValueOf { base: Base::Name(name), filters })] =
        pieces.iter().filter(|piece| !is_blank(piece)).collect::<Vec<_>>()[..]
    else {
        return None;
    };
    let schema = draft.parameters.get(&bolt_name(draft, name)?)?;
    let is_text = matches!(Kind::of(schema), Kind::Text | Kind::Other);
    (is_text && filters.is_empty() && !names.computed.contains_key(name)).then(|| name.clone())
}

/// Returns the script of a command that a parameter is. Without a default or a list of values the action is disabled.
fn of_parameter(draft: &mut Draft<'_>, names: &Names, name: &str) -> Option<String> {
    let bolt = bolt_name(draft, name)?;
    let place = ["parameters", name];
    let is_limited = draft
        .parameters
        .get(&bolt)
        .is_some_and(|schema| is_listed(schema) || schema.get("immutable") == Some(&json!(true)));
    if !is_limited && values::fix(draft, name) {
        let message = format!("callers could replace the whole command with {name}; it is immutable now");
        draft.sink.add("parameter_fixed", Effect::Safer, &place, message);
    } else if !is_limited {
        any_command::note(&mut draft.sink, &place, name, any_command::Given::Command);
    }
    let default = draft.parameters.get(&bolt).and_then(|schema| schema.get("default")).and_then(Value::as_str);
    let mut text = Analysed::default();
    text.text(default.unwrap_or_default());
    judge_text(draft, names, text)?;
    forbid_empty(draft);
    Some(run(&bolt))
}

/// Returns what templates may name. Defaults that cannot be computed are dropped, and the caller gives those values.
fn names(around: &Surroundings<'_>, draft: &mut Draft<'_>) -> Names {
    let mut names = Names { config: around.config.values(), ..Names::default() };
    for (bolt, template) in std::mem::take(&mut draft.templates) {
        let source = draft.source_names[&bolt].clone();
        let parsed =
            jinja::parse(&template).and_then(|pieces| match pieces.iter().find_map(|one| unknown(draft, one)) {
                None => Ok(pieces),
                Some(refused) => Err(refused),
            });
        match parsed {
            Ok(pieces) => drop(names.computed.insert(source, pieces)),
            Err(refused) => {
                let message = template_message(&source, &template, &refused);
                draft.sink.add("template_default", Effect::Note, &["parameters", &source], message);
                ask_caller(draft, &bolt, &source);
            }
        }
    }
    for (bolt, schema) in &draft.parameters {
        let given = schema.get("required") == Some(&Value::Bool(true))
            || schema.get("default").is_some_and(|default| default.as_str().is_none_or(|text| !text.trim().is_empty()));
        let source = draft.source_names[bolt].clone();
        names.parameters.insert(source, (bolt.clone(), Kind::of(schema), given));
    }
    names
}

/// Returns the first name in a default that a command cannot know.
fn unknown(draft: &Draft<'_>, piece: &Piece) -> Option<Refused> {
    let name = |name: &String| match draft.source_names.values().any(|known| known == name) {
        true => None,
        false => Some(Refused::new(format!("{name} is no parameter"))),
    };
    match piece {
        Piece::Text(_) => None,
        Piece::Value(value) => match &value.base {
            Base::Name(given) => name(given),
            Base::Config(_) => None,
            Base::Context => Some(Refused::context()),
            Base::Server(path) => Some(Refused::datastore(path)),
        },
        Piece::If(branches) => branches.iter().find_map(|branch| {
            let condition = branch.condition.as_ref().and_then(|condition| name(&condition.name));
            condition.or_else(|| branch.body.iter().find_map(|piece| unknown(draft, piece)))
        }),
    }
}

/// An empty value would leave `rm -rf {{directory}}/*` with the root directory.
fn forbid_empty(draft: &mut Draft<'_>) {
    for schema in draft.parameters.values_mut() {
        let text = schema.get("type").is_none_or(|kind| kind == "string");
        let default = schema.get("default").and_then(Value::as_str).is_some_and(|text| !text.trim().is_empty());
        let given = default || schema.get("required") == Some(&Value::Bool(true));
        if text && given && !schema.contains_key("minLength") {
            schema.insert("minLength".to_owned(), Value::from(1));
        }
    }
}
