//! Working directory and variables of the environment that an action's file sets, also those that hold Jinja.
//!
//! A script of bash computes them in its first lines ([`lines`]), the supplied runners as they compute defaults
//! ([`register`]). A secret is in neither: other programs of the account read both. What cannot be carried blocks the action.

use serde_json::{Map, Value, json};

use super::defaults::computed_pieces;
use super::draft::{Draft, Surroundings};
use super::jinja::filters::quoted;
use super::jinja::names::Names;
use super::jinja::shell::text;
use super::jinja::{self, Base, Piece, Refused, ValueOf};
use crate::pack::import::report::Effect;
use crate::pack::import::shell::programs::is_executed;
use crate::pack::import::{any_command, shell};

/// Returns the lines of a script that set variables and directory; `None` after a blocking finding.
pub(super) fn lines(draft: &mut Draft<'_>, names: &Names) -> Option<String> {
    let mut lines = String::new();
    for (name, value) in &draft.settings.env {
        lines += &format!("export {name}={}\n", quoted(value));
    }
    for (name, template) in draft.settings.env_templates.clone() {
        refuse_executed(draft, &name, &template)?;
        let (preamble, word) = carried(draft, &template, &["env", &name], |template| word_of(template, names))?;
        lines += &format!("{preamble}export {name}={word}\n");
    }
    if let Some(directory) = &draft.settings.cwd {
        lines += &format!("cd -- {} || exit\n", quoted(directory));
    }
    if let Some(template) = draft.settings.cwd_template.clone() {
        let (preamble, word) = carried(draft, &template, &["cwd"], |template| word_of(template, names))?;
        // An empty value, or one that is a directory of its own, would have the command run elsewhere.
        let word = word.replace("}\"", ":?has no value, and the working directory needs one}\"");
        lines += &format!(
            "{preamble}directory={word}\ncase \"$directory\" in\n    /*) cd -- \"$directory\" || exit ;;\n    *) echo \"the working \
             directory must begin with '/': $directory\" >&2; exit 64 ;;\nesac\n"
        );
    }
    Some(lines)
}

/// Adds variables and directory to the entry of a supplied runner; `None` after a blocking finding.
pub(super) fn register(around: &Surroundings<'_>, draft: &mut Draft<'_>, entry: &mut Map<String, Value>) -> Option<()> {
    let mut computed = Map::new();
    for (name, template) in draft.settings.env_templates.clone() {
        refuse_executed(draft, &name, &template)?;
        let found = computed_pieces(around, draft, &template);
        computed.insert(name.clone(), carried(draft, &template, &["env", &name], |_| found)?);
    }
    let directory = match draft.settings.cwd_template.clone() {
        Some(template) => {
            let found = computed_pieces(around, draft, &template);
            carried(draft, &template, &["cwd"], |_| found)?
        }
        None => Value::Null,
    };
    entry.insert("env".to_owned(), json!(draft.settings.env));
    entry.insert("env_computed".to_owned(), Value::Object(computed));
    entry.insert("cwd".to_owned(), json!(draft.settings.cwd));
    entry.insert("cwd_computed".to_owned(), directory);
    Some(())
}

/// Blocks the action if callers would give the value of a variable that names programs, or is run: `PATH`.
fn refuse_executed(draft: &mut Draft<'_>, name: &str, template: &str) -> Option<()> {
    if !is_executed(name) || !reads_parameters(template) {
        return Some(());
    }
    let message = format!(
        "env {name}, {template:?}, would let callers choose what the action runs; write the value into the action or the site's \
         configuration"
    );
    draft.block("template_env", &["parameters", "env"], message);
    None
}

/// Disables the action if callers choose the directory in which it runs programs by relative paths; `script` is its text.
pub(super) fn note_directory(draft: &mut Draft<'_>, script: &str) {
    let of_template = draft.settings.cwd_template.as_deref().is_some_and(reads_parameters);
    if (draft.settings.cwd_by_caller || of_template) && shell::runs_relative(script) {
        any_command::note(&mut draft.sink, &["parameters", "cwd"], "cwd", any_command::Given::Program);
    }
}

/// True for a template with the value of a parameter.
fn reads_parameters(template: &str) -> bool {
    let is_parameter =
        |piece: &Piece| !matches!(piece, Piece::Text(_) | Piece::Value(ValueOf { base: Base::Config(_), .. }));
    jinja::parse(template).is_ok_and(|pieces| pieces.iter().any(is_parameter))
}

/// True if any of them holds Jinja.
pub(super) fn hold_templates(draft: &Draft<'_>) -> bool {
    draft.settings.cwd_template.is_some() || !draft.settings.env_templates.is_empty()
}

fn word_of(template: &str, names: &Names) -> Result<(String, String), Refused> {
    let pieces = jinja::parse(template)?;
    match names.secret_in(&pieces) {
        Some(path) => Err(Refused::new(format!("the secret config_context.{path}"))),
        None => text(&pieces, names),
    }
}

/// Reports how a template of `what` is carried, or that it cannot be.
fn carried<T>(
    draft: &mut Draft<'_>,
    template: &str,
    what: &[&str],
    carry: impl FnOnce(&str) -> Result<T, Refused>,
) -> Option<T> {
    let place = ["parameters", what[0]];
    let named = what.join(" ");
    match carry(template) {
        Ok(carried) => {
            let message = format!("{named}, {template:?}, is computed when the action runs");
            draft.sink.add("template_computed", Effect::Note, &place, message);
            Some(carried)
        }
        Err(refused) => {
            let message = format!(
                "{named}, {template:?}, cannot be computed here ({refused}); set it in the script from BOLT_PARAM_*, a secret \
                 from standard input"
            );
            let code = if what[0] == "cwd" { "template_cwd" } else { "template_env" };
            draft.block(code, &place, message);
            None
        }
    }
}
