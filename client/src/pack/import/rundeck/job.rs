//! Jobs, each converted to an action.

use std::collections::BTreeMap;

use packs_schema::base::strict::shorten;
use serde_json::{Map, Value, json};

use super::context::Context;
use super::steps::{self, Steps};
use super::{leftover, options, xml};
use crate::pack::import::converted::Converted;
use crate::pack::import::report::{ActionReport, Effect};
use crate::pack::import::schema::{Sink, truth};
use crate::pack::import::scripted::{Parameter, limit_values};
use crate::pack::import::secrets;
use crate::pack::import::shell;
use crate::pack::import::source::SourceTree;
use crate::pack::import::steps::{MAX_TIMEOUT, StepsAction, Variable};
use crate::pack::import::{any_command, code_lines, processes};

/// Time-out of a job that names none, in seconds. Rundeck has no limit.
const TIMEOUT: u64 = MAX_TIMEOUT;

/// Converts a job.
pub(super) fn convert(tree: &SourceTree, path: &str, name: &str, job: &Value) -> Converted {
    let text = tree.text(path).unwrap_or_default();
    let mut sink = Sink { file: path, text, findings: Vec::new() };
    let read = options::read(job, &mut sink);
    let delimiters: Vec<Option<String>> = read.iter().map(|(_, delimiter)| delimiter.clone()).collect();
    let mut parameters: Vec<Parameter> = read.into_iter().map(|(parameter, _)| parameter).collect();
    let context = Context::new(job, &parameters);
    let sequence = job.get("sequence").unwrap_or(&Value::Null);
    let mut reading = Steps {
        tree,
        parameters: &parameters,
        context: &context,
        keepgoing: sequence.get("keepgoing").and_then(truth).unwrap_or(false),
        scripts: Vec::new(),
        rewritten: Vec::new(),
        misplaced: Vec::new(),
        accounts: Vec::new(),
        secret_arguments: Vec::new(),
        others: Vec::new(),
        given: Vec::new(),
    };
    let mut planned = Vec::new();
    for (index, command) in sequence.get("commands").and_then(Value::as_array).into_iter().flatten().enumerate() {
        if command.get("enabled").and_then(truth) == Some(false) {
            let message = format!("step {} is disabled and left out", index + 1);
            sink.add("step_disabled", Effect::Note, &["sequence"], message);
            continue;
        }
        leftover::note_step(command, index + 1, &mut sink);
        match reading.step(command, index + 1) {
            Ok(step) => planned.push(step),
            Err((code, message)) => sink.add(code, Effect::Blocks, &["sequence"], message),
        }
    }
    let Steps { mut scripts, rewritten, misplaced, accounts, secret_arguments, others, given, .. } = reading;
    for index in given {
        let name = &parameters[index].source;
        any_command::note(&mut sink, &["options", name], name, any_command::Given::Command);
    }
    for step in misplaced {
        let message = format!(
            "{step:?} has places that Rundeck leaves as they are: it reads ${{option.x}} in commands and arguments, @option.x@ in \
             scripts; here they are values, as the author meant"
        );
        sink.add("notation", Effect::Note, &["sequence"], message);
    }
    for step in rewritten {
        let message = format!("values of callers were put into the text of {step:?}; they are quoted variables now");
        sink.add("template_rewritten", Effect::Safer, &["sequence"], message);
    }
    if !parameters.is_empty() {
        let scripts = others.iter().map(|(step, script)| (step.as_str(), script.as_str()));
        code_lines::note(scripts, &["sequence"], &mut sink);
    }
    for message in secret_arguments {
        sink.add(secrets::CODE, Effect::Note, &["sequence"], message);
    }
    shell::follow_between(&mut scripts);
    limit_values(&mut parameters, &scripts, &mut sink);
    leftover::note_variables(&planned, &parameters, &context, &mut sink);
    leftover::describe(job, &mut sink);
    let run_as = account(&accounts, &mut sink);
    let blocked = |sink: &Sink<'_>| sink.findings.iter().any(|finding| finding.effect == Effect::Blocks);
    if planned.is_empty() && !blocked(&sink) {
        sink.add("no_step", Effect::Blocks, &["sequence"], "the job has no step");
    }
    if blocked(&sink) {
        let report = report(name, path, sink);
        return Converted { report, action_file: None, files: BTreeMap::new(), registered: None };
    }
    secrets::note_in_environment(&parameters, "options", &mut sink);
    let leftovers = processes::note_steps(&planned, run_as.as_deref() == Some("root"), &["sequence"], &mut sink);
    let mut variables: BTreeMap<String, Variable> = context.variables.into_iter().collect();
    variables.extend(parameters.iter().zip(delimiters).map(|(parameter, delimiter)| {
        (parameter.value.variable.clone(), Variable::Parameter(parameter.bolt.clone(), delimiter))
    }));
    let action = StepsAction {
        name,
        description: job.get("description").and_then(Value::as_str).unwrap_or_default(),
        origin: &format!("Rundeck: {path}"),
        enabled: job.get("executionEnabled").and_then(truth).unwrap_or(true) && !any_command::disables(&sink.findings),
        parameters: parameters.into_iter().map(|p| (p.bolt, Value::Object(p.schema))).collect::<Map<_, _>>(),
        variables,
        steps: planned,
        timeout: timeout(job, &mut sink),
        run_as,
        leftovers,
        alone: job.get("multipleExecutions").and_then(truth) != Some(true),
        ssm: false,
    };
    let (text, files, entry) = action.write();
    Converted { report: report(name, path, sink), action_file: Some(text), files, registered: Some(entry) }
}

fn report(name: &str, path: &str, sink: Sink<'_>) -> ActionReport {
    ActionReport { name: name.to_owned(), file: path.to_owned(), runner: "job".to_owned(), findings: sink.findings }
}

/// Returns the account that all steps have by `sudo`; none for one of the execution's own.
fn account(accounts: &[(String, Option<String>)], sink: &mut Sink<'_>) -> Option<String> {
    let (_, first) = accounts.first()?;
    if let Some((step, other)) = accounts.iter().find(|(_, account)| account != first) {
        let words =
            |account: &Option<String>| account.as_ref().map_or("no sudo".to_owned(), |a| format!("sudo as {a}"));
        let message = format!(
            "{:?} runs with {} and {step:?} with {}, and an action has one account: make a job of each, or let all steps run with the same",
            accounts[0].0,
            words(first),
            words(other)
        );
        sink.add("accounts", Effect::Blocks, &["sequence"], message);
    }
    match first {
        Some(account) => {
            let message =
                format!("runs as {account}, as with sudo in Rundeck; name an account that may do less in bolt.run_as");
            sink.add(if account == "root" { "runs_as_root" } else { "runs_as" }, Effect::Note, &["sequence"], message);
        }
        None => {
            let message = "runs as an account of its own; name one that may do more in bolt.run_as";
            sink.add("account", Effect::Note, &[], message);
        }
    }
    first.clone()
}

/// Reads `1h30m`, in seconds. Rundeck has no limit where there is none, or 0.
fn timeout(job: &Value, sink: &mut Sink<'_>) -> u64 {
    let given = job.get("timeout").map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    let given = given.unwrap_or_default();
    let mut say = |why: &str| {
        let message = format!("the time-out {:?} {why}: the action has a day", shorten(&given, 40));
        sink.add("timeout", Effect::Note, &["timeout"], message);
        TIMEOUT
    };
    let (mut seconds, mut digits) = (0_u64, String::new());
    for c in given.chars().filter(|c| !c.is_whitespace()) {
        let unit = match c {
            '0'..='9' => {
                digits.push(c);
                continue;
            }
            'y' => 31_536_000,
            'w' => 604_800,
            'd' => 86_400,
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return say("is not understood"),
        };
        seconds = seconds.saturating_add(digits.parse::<u64>().unwrap_or(0).saturating_mul(unit));
        digits.clear();
    }
    match seconds.saturating_add(digits.parse().unwrap_or(0)) {
        0 => TIMEOUT,
        seconds if seconds > TIMEOUT => say("is longer than an action may take"),
        seconds => seconds,
    }
}

/// Returns the jobs of a document of XML, in the shape that they have in YAML. An element that a job or step has once is an error
/// where it is there twice.
pub(super) fn of_xml(root: &xml::Element) -> Result<Vec<Value>, String> {
    root.children("job").map(one_of_xml).collect()
}

fn one_of_xml(job: &xml::Element) -> Result<Value, String> {
    job.has_each_once()?;
    let mut value = Map::new();
    for child in &job.children {
        let text = child.text.trim();
        match child.name.as_str() {
            "sequence" => {
                let commands = child.children("command").map(steps::of_xml).collect::<Result<Vec<Value>, String>>()?;
                let sequence = json!({
                    "keepgoing": child.attribute("keepgoing"),
                    "strategy": child.attribute("strategy"),
                    "commands": commands,
                });
                value.insert("sequence".to_owned(), sequence);
            }
            "context" => {
                child.has_each_once()?;
                let project = child.child("project").map(|project| project.text.trim());
                value.insert("project".to_owned(), json!(project));
                let options = child.child("options").into_iter().flat_map(|options| options.children("option"));
                value.insert("options".to_owned(), options.map(option_of_xml).collect::<Result<Value, String>>()?);
            }
            "nodefilters" => {
                let filter = child.child("filter").map_or_else(|| filters_of_xml(child), |f| f.text.trim().to_owned());
                value.insert("nodefilters".to_owned(), json!({"filter": filter}));
            }
            "schedule" | "notification" | "retry" | "orchestrator" | "plugins" => {
                value.insert(child.name.clone(), json!(true));
            }
            name => {
                // Without text it is named in the report if there is something in it.
                let has_parts = !(child.children.is_empty() && child.attributes.is_empty());
                let read = if text.is_empty() && has_parts { json!(true) } else { json!(text) };
                value.insert(name.to_owned(), read);
            }
        }
    }
    Ok(Value::Object(value))
}

/// The older filters: `<include><tags>web</tags></include>`.
fn filters_of_xml(filters: &xml::Element) -> String {
    let of = |kind: &xml::Element| {
        kind.children.iter().map(|f| format!("{} {}: {}", kind.name, f.name, f.text.trim())).collect::<Vec<_>>()
    };
    filters.children.iter().flat_map(of).collect::<Vec<_>>().join(", ")
}

fn option_of_xml(option: &xml::Element) -> Result<Value, String> {
    option.has_each_once()?;
    let mut value = option.attribute_map();
    for child in &option.children {
        option.has_no_attribute(&child.name)?;
        let read = if child.children.is_empty() { json!(child.text.trim()) } else { json!(true) };
        value.insert(child.name.clone(), read);
    }
    Ok(Value::Object(value))
}
