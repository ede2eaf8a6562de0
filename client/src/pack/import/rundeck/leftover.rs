//! Parts of a job that no action has, by name.

use std::collections::BTreeSet;

use packs_schema::base::strict::shorten;
use serde_json::Value;

use super::context::Context;
use crate::pack::import::report::Effect;
use crate::pack::import::schema::{Sink, is_nothing, truth, unknown_keys};
use crate::pack::import::scripted::Parameter;
use crate::pack::import::steps::Step;

/// Keys of a job that are read, or have no meaning outside Rundeck's pages.
const JOB_KEYS: [&str; 18] = [
    "name",
    "group",
    "description",
    "uuid",
    "id",
    "project",
    "context",
    "options",
    "sequence",
    "timeout",
    "loglevel",
    "executionEnabled",
    "scheduleEnabled",
    "nodefilters",
    "nodesSelectedByDefault",
    "nodeFilterEditable",
    "defaultTab",
    "multipleExecutions",
];
/// Keys of a step that are read, or describe it.
const STEP_KEYS: [&str; 15] = [
    "exec",
    "script",
    "scriptfile",
    "scripturl",
    "jobref",
    "type",
    "nodeStep",
    "configuration",
    "description",
    "args",
    "scriptInterpreter",
    "interpreterArgsQuoted",
    "fileExtension",
    "expandTokenInScriptFile",
    "errorhandler",
];
/// Keys of an option that are read, or have a meaning for Rundeck's pages only.
const OPTION_KEYS: [&str; 28] = [
    "name",
    "description",
    "label",
    "required",
    "value",
    "defaultValue",
    "values",
    "valuesListDelimiter",
    "enforced",
    "enforcedvalues",
    "regex",
    "multivalued",
    "delimiter",
    "secure",
    "valueExposed",
    "storagePath",
    "type",
    "optionType",
    // Named where the values are read.
    "valuesUrl",
    "valuesUrlLong",
    "valuesFrom",
    "optionValuesPluginType",
    "configRemoteUrl",
    "sortIndex",
    "sortValues",
    "hidden",
    "inputType",
    "valuesType",
];
/// Keys with a message of their own.
const NAMED: [(&str, &str); 6] = [
    ("schedule", "its schedule is not imported: schedule it in what calls Bolt"),
    ("schedules", "its schedule is not imported: schedule it in what calls Bolt"),
    ("notification", "its notifications are not imported"),
    ("retry", "its retries are not imported: a caller runs it again"),
    ("orchestrator", "its orchestrator is not imported; see the strategies of `bolt run`"),
    ("plugins", "its plugins for executions and logs are not imported"),
];
/// Maximum number of names in a message.
const MAX_NAMES: usize = 8;

/// Says what of the job is no part of an action.
pub(super) fn describe(job: &Value, sink: &mut Sink<'_>) {
    let message = match node_filter(job) {
        Some(filter) => format!("runs on the nodes {filter:?} in Rundeck; a caller names the instances with `--on`"),
        None => "names no nodes, so Rundeck runs it on its server; callers name instances with `--on`".to_owned(),
    };
    sink.add("node_filter", Effect::Note, &["nodefilters"], message);
    for (key, what) in NAMED {
        if job.get(key).is_some_and(|value| !is_nothing(value)) {
            sink.add("not_imported", Effect::Note, &[key], what);
        }
    }
    let sequence = job.get("sequence").unwrap_or(&Value::Null);
    let strategy = sequence.get("strategy").and_then(Value::as_str);
    match strategy {
        None | Some("" | "node-first" | "sequential") => {}
        Some("ruleset") => {
            let message =
                "its strategy is a set of rules, which may have conditions for steps; write one script with them";
            sink.add("strategy", Effect::Blocks, &["sequence"], message);
        }
        Some(strategy) => {
            let message =
                format!("the strategy {} is not imported: the steps run in their order", shorten(strategy, 40));
            sink.add("strategy", Effect::Note, &["sequence"], message);
        }
    }
    if sequence
        .get("pluginConfig")
        .and_then(|config| config.get("LogFilter"))
        .is_some_and(|filters| !is_nothing(filters))
    {
        let message = "its log filters are not imported: what they hide is in the output here";
        sink.add("not_imported", Effect::Note, &["sequence"], message);
    }
    if job.get("executionEnabled").and_then(truth) == Some(false) {
        sink.add("disabled", Effect::Note, &["executionEnabled"], "is disabled in Rundeck, and here");
    }
    let named = NAMED.map(|(key, _)| key);
    let mut others = unknown_keys(job, &[&JOB_KEYS[..], &named[..]].concat());
    // How many nodes at once, and in which order.
    let dispatch = job.get("nodefilters").and_then(|filters| filters.get("dispatch"));
    others.extend(dispatch.filter(|dispatch| !is_nothing(dispatch)).map(|_| "dispatch".to_owned()));
    if !others.is_empty() {
        sink.add("not_imported", Effect::Note, &[], format!("not imported: {}", others.join(", ")));
    }
}

/// Says what of a step is not imported; `number` counts from 1.
pub(super) fn note_step(command: &Value, number: usize, sink: &mut Sink<'_>) {
    let handler = command.get("errorhandler").unwrap_or(&Value::Null);
    let mut others = unknown_keys(command, &STEP_KEYS);
    others.extend(unknown_keys(handler, &[&STEP_KEYS[..], &["keepgoingOnSuccess"]].concat()));
    if !others.is_empty() {
        let message = format!("not imported of step {number}: {}", others.join(", "));
        sink.add("not_imported", Effect::Note, &["sequence"], message);
    }
}

/// Says what of an option is not imported.
pub(super) fn note_option(name: &str, option: &Value, sink: &mut Sink<'_>) {
    let others = unknown_keys(option, &OPTION_KEYS);
    if !others.is_empty() {
        let message = format!("not imported of the option {name}: {}", others.join(", "));
        sink.add("not_imported", Effect::Note, &["options", name], message);
    }
}

/// Names the variables of Rundeck that scripts read, and that are empty here.
pub(super) fn note_variables(steps: &[Step], parameters: &[Parameter], context: &Context, sink: &mut Sink<'_>) {
    let is_known = |name: &str| {
        context.variables.iter().any(|(known, _)| known == name)
            || parameters.iter().any(|parameter| parameter.value.variable == name)
    };
    let scripts = steps.iter().flat_map(Step::scripts);
    let unset: BTreeSet<&str> =
        scripts.flat_map(|(_, script)| variables(script)).filter(|name| !is_known(name)).collect();
    if !unset.is_empty() {
        let names: Vec<&str> = unset.into_iter().take(MAX_NAMES).collect();
        let message = format!("reads variables that have no value here: {}", shorten(&names.join(", "), 200));
        sink.add("unknown_variable", Effect::Note, &["sequence"], message);
    }
}

/// Returns the names of Rundeck's variables in a script.
fn variables(script: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    script.split(move |c: char| !is_part(c)).filter(|word| word.starts_with("RD_") && word.len() > 3)
}

/// Returns the node filter of a job as text.
fn node_filter(job: &Value) -> Option<String> {
    let given = job.get("nodefilters").and_then(Value::as_object)?;
    let text = match given.get("filter").and_then(Value::as_str) {
        Some(filter) => filter.to_owned(),
        None => {
            let parts = given.iter().filter(|(key, value)| *key != "dispatch" && !is_nothing(value));
            parts.map(|(key, value)| format!("{key}: {value}")).collect::<Vec<_>>().join(", ").replace('"', "")
        }
    };
    (!text.trim().is_empty()).then(|| shorten(&text, 120))
}
