//! Lints: warnings about packs that work but are likely to cause problems. For authors; the agent does not run them.
//!
//! ```text
//!  action files ──────────────▶ rules of this file ─┐
//!  entry points ─ shell ──────▶ shell_rules ────────┼─▶ findings, without those that the author accepts ([`allow`])
//!               ├ Python ─────▶ python_rules ───────┤
//!               └ both ───────▶ leftover_rules ─────┘
//! ```
//!
//! The rules inspect scripts with simple parsers. Each names the problem, the reason and the remedy; in doubt a rule
//! reports nothing.

mod allow;
mod leftover_rules;
mod python_rules;
mod shell;
mod shell_rules;
mod text;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex_lite::Regex;
use serde_json::Value;

use crate::base::finding::Finding;
use crate::pack::action::{Action, ActionFile, Class, Runner};
use crate::pack::param::{Items, Schema};

use super::{ACTIONS_DIRECTORY, CheckedPack, Contents, PACK_FILE, REQUIREMENTS_FILE};
use allow::Allowed;
use text::Language;

/// Maximum number of findings of one rule in one script.
const MAX_PER_SCRIPT: usize = 20;

/// Returns warnings about a pack without errors. `script` returns a file of the pack if it is text.
///
/// Warnings of every check (no class, a secret with a position) are not repeated here.
pub fn lint(
    contents: &Contents,
    checked: &CheckedPack,
    script: &mut dyn FnMut(&str) -> Option<String>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    if checked.pack.description.is_empty() {
        found.push(Finding::warning(
            "no_description",
            PACK_FILE,
            "missing; describe the purpose of the pack in a sentence",
        ));
    }
    if checked.actions.is_empty() {
        found.push(Finding::warning("no_actions", ACTIONS_DIRECTORY, "the pack has no actions; add one"));
    }
    requirements(checked, &mut found);
    for action in &checked.actions {
        let Some((path, file)) = contents.actions.iter().find(|(_, file)| file.name == action.name.as_str()) else {
            continue;
        };
        let mut of_action = definition(path, file, action);
        let entry_point = format!("{ACTIONS_DIRECTORY}/{}", action.entry_point.as_str());
        if let Some(text) = script(&entry_point) {
            of_action.extend(source(path, action, &entry_point, &text));
        }
        found.extend(without_allowed(path, file, of_action));
    }
    found
}

/// Checks the definition of an action.
fn definition(path: &str, file: &ActionFile, action: &Action) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut warn = |code, key: &str, message: String| {
        found.push(Finding::warning(code, format!("{path}: {key}"), message));
    };
    if action.description.is_empty() {
        warn("no_description", "description", "missing; describe in a sentence what the action does".to_owned());
    }
    let remediates = action.class != Class::Diagnostic && file.bolt.as_ref().is_some_and(|b| b.class.is_some());
    if remediates && file.bolt.as_ref().is_none_or(|b| b.timeout.is_none()) {
        let message = format!("the default of 5m is rarely right for a {}; set a time-out", action.class);
        warn("no_timeout", "bolt.timeout", message);
    }
    for (name, schema) in action.parameters.iter().filter(|(_, schema)| !schema.holds_secret()) {
        if let Some(said) = comma_in_items(schema) {
            warn("list_item_comma", &format!("parameters.{name}.items"), said);
        }
    }
    if remediates && !action.noop {
        let message = format!(
            "a {} should support dry runs: report under BOLT_NOOP=1 what it would change, and set noop: true",
            action.class
        );
        warn("no_noop", "bolt.noop", message);
    }
    if !action.enabled {
        let message =
            "the action is disabled, so that agents refuse it; set enabled: true after a review, or remove the action";
        found.push(Finding::note("disabled", format!("{path}: enabled"), message));
    }
    found
}

/// Warns if the schema allows items with a comma, which no caller can give because lists are joined by commas.
fn comma_in_items(schema: &Schema) -> Option<String> {
    static COUNTED: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\{[0-9]*,[0-9]*\}").expect("a valid pattern"));
    let Some(Items::All(items)) = &schema.items else { return None };
    let listed = items.enumeration.iter().flatten().filter_map(Value::as_str).any(|text| text.contains(','));
    let pattern = items.pattern.as_ref().map(|pattern| COUNTED.replace_all(pattern.as_str(), ""));
    let (which, allows) = match pattern {
        _ if listed => ("enum lists an item with", true),
        Some(pattern) => ("pattern allows", pattern.contains(',')),
        None => ("", false),
    };
    allows.then(|| {
        format!(
            "the {which} a comma, but items with a comma are refused, because lists are passed to a script joined by commas; remove it, or \
             make the items objects, which are passed as JSON"
        )
    })
}

fn requirements(checked: &CheckedPack, found: &mut Vec<Finding>) {
    let needed = &checked.requirements;
    if let Some(first) = needed.first()
        && !checked.actions.iter().any(|action| action.runner_type == Runner::PythonScript)
    {
        let are = if needed.len() == 1 { "is" } else { "and the other requirements are" };
        let message = format!("{} {are} installed but not used: no action has runner_type: python-script", first.name);
        found.push(Finding::warning("unused_requirements", REQUIREMENTS_FILE, message));
    }
    for bare in needed.iter().filter(|requirement| !requirement.pinned && !requirement.hashed).take(MAX_PER_SCRIPT) {
        let message = format!(
            "{0} is not pinned, so instances may install different versions; write {0}==1.2.3, preferably with --hash=sha256:\u{2026}",
            bare.name
        );
        found.push(Finding::warning("unpinned_requirement", format!("{REQUIREMENTS_FILE}:{}", bare.line), message));
    }
    // A single finding for all of them, because hashes are generated together.
    let mut bare = needed.iter().filter(|requirement| !requirement.hashed);
    if let Some(first) = bare.next() {
        let have = match bare.count() {
            0 => "has".to_owned(),
            more => format!("and {more} more have"),
        };
        let message = format!(
            "{} {have} no hash: agents refuse them (python.require_hashes), and where they do not, the package index \
             decides what code runs; write the file with `pip-compile --generate-hashes` or `uv pip compile --generate-hashes`",
            first.name
        );
        found.push(Finding::warning(
            "requirement_without_hash",
            format!("{REQUIREMENTS_FILE}:{}", first.line),
            message,
        ));
    }
}

/// Collects the findings of script rules.
struct Sink<'a> {
    path: &'a str,
    allowed: Vec<Allowed>,
    found: Vec<Finding>,
}

impl Sink<'_> {
    fn warn(&mut self, code: &str, line: usize, message: String) {
        let at = format!("{}:{line}", self.path);
        let known = self.found.iter().any(|f| f.code == code && f.at == at);
        let many = self.found.iter().filter(|f| f.code == code).count() >= MAX_PER_SCRIPT;
        if !known && !many && !allow::covers(&self.allowed, code, line) {
            self.found.push(Finding::warning(code, at, message));
        }
    }
}

/// Checks the source of an entry point.
fn source(path: &str, action: &Action, entry_point: &str, text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    let allowed = allow::in_script(entry_point, text, &mut found);
    let mut sink = Sink { path: entry_point, allowed, found };
    variables(action, text, &mut sink);
    match text::language(text) {
        Language::Shell => shell_rules::rules(action, text, &mut sink),
        Language::Python => {
            python_rules::rules(action, text, &mut sink);
            leftover_rules::python(action, text, &mut sink);
        }
        Language::Other => {}
    }
    let mut found = sink.found;
    for name in unmentioned(action, text) {
        let message = format!("{} never uses it", action.entry_point.as_str());
        found.push(Finding::warning("unused_parameter", format!("{path}: parameters.{name}"), message));
    }
    found
}

static VARIABLE: LazyLock<Regex> = LazyLock::new(|| Regex::new("BOLT_PARAM_([A-Za-z0-9_]+)").expect("a valid pattern"));

/// Finds uses of variables that are never set.
fn variables(action: &Action, text: &str, sink: &mut Sink<'_>) {
    let known: BTreeMap<String, bool> = action
        .parameters
        .iter()
        .map(|(name, schema)| (name.as_str().to_ascii_uppercase(), schema.holds_secret()))
        .collect();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with('#')) {
        for name in VARIABLE.captures_iter(line).filter_map(|found| found.get(1)).map(|name| name.as_str()) {
            match known.get(name) {
                Some(false) => {}
                Some(true) => {
                    let message = format!(
                        "BOLT_PARAM_{name} is never set: a secret is passed in the JSON on standard input only"
                    );
                    sink.warn("secret_variable", index + 1, message);
                }
                None => {
                    let message =
                        format!("BOLT_PARAM_{name} is never set: the action's file declares no such parameter");
                    sink.warn("undeclared_parameter", index + 1, message);
                }
            }
        }
    }
}

/// Removes findings that the action's file accepts.
fn without_allowed(path: &str, file: &ActionFile, found: Vec<Finding>) -> Vec<Finding> {
    let Some(lint) = file.bolt.as_ref().and_then(|bolt| bolt.lint.as_ref()) else { return found };
    let place = |code: &str| format!("{path}: bolt.lint.allow.{code}");
    let (none, given): (Vec<_>, Vec<_>) = lint.allow.iter().partition(|(_, reason)| allow::reason_is_none(reason));
    let needless = given
        .iter()
        .filter(|(code, _)| !found.iter().any(|f| f.code == **code))
        .map(|(code, _)| Finding::note("lint_needless", place(code), "no finding has this code; remove it"));
    let mut more: Vec<Finding> = needless.collect();
    more.extend(
        none.iter().map(|(code, _)| Finding::warning("lint_reason", place(code), "give a reason for accepting it")),
    );
    let mut found: Vec<Finding> =
        found.into_iter().filter(|f| !given.iter().any(|(code, _)| **code == f.code)).collect();
    found.extend(more);
    found
}

/// Returns parameters whose name does not occur in the script, either plain or as `BOLT_PARAM_…`. A parameter with a
/// position may be read by number, and a script that uses all its arguments or its whole input may pass it on.
fn unmentioned<'a>(action: &'a Action, text: &str) -> Vec<&'a str> {
    if text.contains("\"$@\"") || text.contains("json.load(sys.stdin)") && text.contains("**") {
        return Vec::new();
    }
    let lower = text.to_ascii_lowercase();
    let named = |name: &str| {
        let name = name.to_ascii_lowercase();
        lower.contains(&name) || lower.contains(&name.replace('_', "-"))
    };
    action
        .parameters
        .iter()
        .filter(|(name, schema)| schema.position.is_none() && !named(name.as_str()))
        .map(|(name, _)| name.as_str())
        .collect()
}

#[cfg(test)]
mod tests;
