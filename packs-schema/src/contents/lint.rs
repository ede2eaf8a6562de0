//! What works, but will hurt somebody: for authors, not for the agent.

use crate::action::{Action, Class};
use crate::finding::Finding;

use super::{ACTIONS_DIRECTORY, CheckedPack, Contents, PACK_FILE};

/// Advice on a pack in which nothing is wrong. `script` gives the text of a file of the pack, when it is text.
///
/// What every check warns of anyway (no class, a secret with a position) is not repeated here.
pub fn lint(
    contents: &Contents,
    checked: &CheckedPack,
    script: &mut dyn FnMut(&str) -> Option<String>,
) -> Vec<Finding> {
    let mut found = Vec::new();
    if checked.pack.description.is_empty() {
        found.push(Finding::warning("no_description", PACK_FILE, "say in a sentence what the pack is for"));
    }
    if checked.actions.is_empty() {
        found.push(Finding::warning("no_actions", ACTIONS_DIRECTORY, "the pack has no action, so nothing can be run"));
    }
    for action in &checked.actions {
        let Some((path, file)) = contents.actions.iter().find(|(_, file)| file.name == action.name.as_str()) else {
            continue;
        };
        let mut warn = |code, key: &str, message: String| {
            found.push(Finding::warning(code, format!("{path}: {key}"), message));
        };
        if action.description.is_empty() {
            warn("no_description", "description", "say in a sentence what it does to whom".to_owned());
        }
        let remediates = action.class != Class::Diagnostic && file.bolt.as_ref().is_some_and(|b| b.class.is_some());
        if remediates && file.bolt.as_ref().is_none_or(|b| b.timeout.is_none()) {
            let message = format!("a {} has no timeout of its own; 5m is rarely right", action.class);
            warn("no_timeout", "bolt.timeout", message);
        }
        if remediates && !action.noop {
            let message = format!("a {} should say what it would do under BOLT_NOOP=1, and `noop: true`", action.class);
            warn("no_noop", "bolt.noop", message);
        }
        if let Some(text) = script(&format!("{ACTIONS_DIRECTORY}/{}", action.entry_point.as_str())) {
            for name in unmentioned(action, &text) {
                let message = format!("{} never mentions it", action.entry_point.as_str());
                warn("unused_parameter", &format!("parameters.{name}"), message);
            }
        }
    }
    found
}

/// Parameters whose name does not occur in the script, as it is or as `BOLT_PARAM_…`. Those with a position may
/// be read by number, and a script that takes all its arguments or its whole input may pass them on.
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
