//! Actions whose callers give a whole command, or name a program. They are imported disabled: agents run them only after a
//! person has enabled them, and should have restricted the parameter.

use serde_json::{Map, Value};

use super::report::{ANY_COMMAND, Effect, ImportFinding};
use super::schema::Sink;
use super::shell::{Limit, limit_of_pattern};

/// Part of an action that callers give without a restriction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Given {
    /// Text that a shell or another program runs.
    Command,
    /// The name of a program, and nothing that a shell reads.
    Program,
}

/// Notes that callers give this with a parameter.
pub(super) fn note(sink: &mut Sink<'_>, place: &[&str], parameter: &str, given: Given) {
    let freedom = match given {
        Given::Command => "give any command",
        Given::Program => "choose any program",
    };
    let message = format!(
        "callers would {freedom} with {parameter}; the action is disabled: restrict the parameter by an enum or a pattern, and set \
         enabled: true after a review"
    );
    sink.add(ANY_COMMAND, Effect::Safer, place, message);
}

/// Notes that callers give this with a parameter, unless that has been noted.
pub(super) fn note_once(sink: &mut Sink<'_>, place: &[&str], parameter: &str, given: Given) {
    let named = format!(" with {parameter};");
    if !sink.findings.iter().any(|finding| finding.code == ANY_COMMAND && finding.message.contains(&named)) {
        note(sink, place, parameter, given);
    }
}

/// Names of parameters whose text is a command of the caller's choice.
const NAMES: [&str; 8] = ["command", "commands", "cmd", "cmds", "code", "script", "shell_command", "execute"];

/// True for a parameter that is a command by its name, and whose schema allows characters of code.
pub(super) fn is_command(name: &str, schema: &Map<String, Value>) -> bool {
    NAMES.contains(&name) && is_open(schema)
}

/// True for a parameter of text, or of a list of texts, whose schema allows characters of code.
pub(super) fn is_open(schema: &Map<String, Value>) -> bool {
    let limits = |pattern: &Value| pattern.as_str().is_some_and(|pattern| limit_of_pattern(pattern) > Limit::Free);
    let restricted =
        |schema: &Map<String, Value>| schema.contains_key("enum") || schema.get("pattern").is_some_and(limits);
    let items = schema.get("items").and_then(Value::as_object);
    let is_type = |kind: &Value| ["\"string\"", "\"array\""].iter().any(|known| kind.to_string().contains(known));
    let fixed = schema.get("immutable") == Some(&Value::Bool(true));
    schema.get("type").is_none_or(is_type) && !(fixed || restricted(schema) || items.is_some_and(restricted))
}

/// True if an action with these findings is written disabled.
pub(super) fn disables(findings: &[ImportFinding]) -> bool {
    findings.iter().any(|finding| finding.code == ANY_COMMAND)
}
