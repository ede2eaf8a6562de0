//! Command documents: each becomes an action of steps.

use std::collections::BTreeMap;

use packs_schema::base::strict::shorten;
use serde_json::{Map, Value};

use super::scripts::{self, pieces};
use super::steps::{self, Condition, DocumentStep};
use super::{parameters, plugins};
use crate::pack::import::converted::Converted;
use crate::pack::import::report::{ActionReport, Effect};
use crate::pack::import::schema::{Sink, truth, unknown_keys};
use crate::pack::import::scripted::{Blocked, Parameter, limit_values};
use crate::pack::import::secrets;
use crate::pack::import::shell::{self, Part, Rewritten};
use crate::pack::import::source::SourceTree;
use crate::pack::import::steps::{After, MAX_TIMEOUT, Piece, Step, StepsAction, Variable};
use crate::pack::import::{any_command, code_lines, processes};

const SHELL: &str = "aws:runShellScript";
/// Time-out of a step that names none, in seconds.
const TIMEOUT: u64 = 3600;
/// Keys of a step, and of the inputs of a script, that are read or named elsewhere.
const STEP_KEYS: [&str; 11] = [
    "action",
    "name",
    "inputs",
    "precondition",
    "description",
    "isEnd",
    "isCritical",
    "onFailure",
    "nextStep",
    "maxAttempts",
    "timeoutSeconds",
];
const INPUT_KEYS: [&str; 9] = [
    "id",
    "runCommand",
    "timeoutSeconds",
    "workingDirectory",
    "onFailure",
    "onSuccess",
    "finallyStep",
    // Of `aws:configureDocker`.
    "action",
    "description",
];
/// Time that is left for what lies between the steps, in seconds.
const MARGIN: u64 = 60;

/// Converts the document at `path`.
pub(super) fn convert(tree: &SourceTree, path: &str, name: &str, document: &Value) -> Converted {
    let text = tree.text(path).unwrap_or_default();
    let mut sink = Sink { file: path, text, findings: Vec::new() };
    let mut parameters = parameters::read(document, &mut sink);
    let found = steps::of(document);
    let mut reading = Reading {
        version: version(document),
        sink,
        scripts: Vec::new(),
        steps: Vec::new(),
        given: Vec::new(),
        timeout: MARGIN,
    };
    for (index, step) in found.iter().enumerate() {
        if let Err((code, message)) = reading.step(step, index + 1 == found.len(), &parameters) {
            reading.sink.add(code, Effect::Blocks, &["mainSteps"], message);
        }
    }
    let Reading { mut sink, mut scripts, steps, given, timeout, .. } = reading;
    for index in given {
        if !is_read(&steps, &parameters[index].value.variable) {
            parameters[index].join_lines(&mut sink);
        }
    }
    let blocked = |sink: &Sink<'_>| sink.findings.iter().any(|finding| finding.effect == Effect::Blocks);
    if steps.is_empty() && !blocked(&sink) {
        sink.add("windows", Effect::Blocks, &["mainSteps"], "no step of it runs on Linux");
    }
    shell::follow_between(&mut scripts);
    limit_values(&mut parameters, &scripts, &mut sink);
    sink.add(
        "runs_as_root",
        Effect::Note,
        &[],
        "runs as root, as in Systems Manager; name an account that may do less",
    );
    let report = |sink: Sink<'_>| ActionReport {
        name: name.to_owned(),
        file: path.to_owned(),
        runner: found.first().map_or(String::new(), |step| step.action.to_owned()),
        findings: sink.findings,
    };
    if blocked(&sink) {
        return Converted { report: report(sink), action_file: None, files: BTreeMap::new(), registered: None };
    }
    note_keys(document, &mut sink);
    secrets::note_in_environment(&parameters, "parameters", &mut sink);
    let leftovers = processes::note_steps(&steps, true, &["mainSteps"], &mut sink);
    if timeout > MAX_TIMEOUT {
        let message = format!("its steps may take {timeout} seconds together; an action may take a day");
        sink.add("timeout", Effect::Note, &["mainSteps"], message);
    }
    let variables =
        parameters.iter().map(|p| (p.value.variable.clone(), Variable::Parameter(p.bolt.clone(), None))).collect();
    let action = StepsAction {
        name,
        description: document.get("description").and_then(Value::as_str).unwrap_or_default(),
        origin: &format!("Systems Manager: {path}"),
        enabled: !any_command::disables(&sink.findings),
        parameters: parameters.into_iter().map(|p| (p.bolt, Value::Object(p.schema))).collect::<Map<_, _>>(),
        variables,
        steps,
        timeout,
        run_as: Some("root".to_owned()),
        leftovers,
        alone: false,
        ssm: true,
    };
    let (text, files, entry) = action.write();
    Converted { report: report(sink), action_file: Some(text), files, registered: Some(entry) }
}

/// Names what of the document has no meaning for an action.
fn note_keys(document: &Value, sink: &mut Sink<'_>) {
    let unknown = unknown_keys(document, &["schemaVersion", "description", "parameters", "mainSteps", "runtimeConfig"]);
    if !unknown.is_empty() {
        sink.add("not_imported", Effect::Note, &[], format!("not imported: {}", unknown.join(", ")));
    }
}

/// True if a step reads this variable.
fn is_read(steps: &[Step], variable: &str) -> bool {
    let holds =
        |pieces: &[Piece]| pieces.iter().any(|piece| matches!(piece, Piece::Variable(name) if name == variable));
    steps.iter().any(|step| {
        step.script.contains(variable)
            || step.arguments.iter().chain(&step.timeout).chain(&step.directory).any(|pieces| holds(pieces))
            || step.when.iter().flatten().any(|pieces| holds(pieces))
    })
}

fn version(document: &Value) -> String {
    let version = document.get("schemaVersion").unwrap_or(&Value::Null);
    version.as_str().map_or_else(|| version.to_string(), str::to_owned)
}

/// A document being read.
struct Reading<'a> {
    version: String,
    sink: Sink<'a>,
    scripts: Vec<Rewritten>,
    steps: Vec<Step>,
    /// Parameters that are scripts.
    given: Vec<usize>,
    /// Time-out of the whole, in seconds.
    timeout: u64,
}

impl Reading<'_> {
    fn step(&mut self, step: &DocumentStep<'_>, last: bool, parameters: &[Parameter]) -> Result<(), Blocked> {
        let when = match steps::condition(step, &self.version, parameters)? {
            Condition::Elsewhere => {
                let message = format!("the step {} is for another system and left out", step.name);
                self.sink.add("step_elsewhere", Effect::Note, &["mainSteps"], message);
                return Ok(());
            }
            Condition::Linux(when) => when,
        };
        if step.action.is_empty() {
            let message = format!(
                "the step {} has no action, so that Systems Manager refuses the document as well; write it as a map with action, \
                 name and inputs",
                step.name
            );
            return Err(("broken_step", message));
        }
        if step.action == "aws:runPowerShellScript" {
            return Err(("powershell", format!("the step {} is a PowerShell script", step.name)));
        }
        if step.action == plugins::CONFIGURE_DOCKER {
            self.docker(step, last, when, parameters);
            return Ok(());
        }
        if step.action != SHELL {
            return Err(("plugin", plugins::refusal(&step.name, step.action)));
        }
        let command = step.inputs.get("runCommand").unwrap_or(&Value::Null);
        if let Some(index) = scripts::of_caller(command, parameters) {
            let program = self.given(index, &parameters[index]);
            let planned = Step::of_caller(&step.name, program, scripts::SHELL);
            self.plan(step, last, when, planned, parameters);
            return Ok(());
        }
        let text = scripts::text(command, parameters)?;
        if text.trim().is_empty() {
            let message = format!("the step {} has no runCommand, and does nothing", step.name);
            self.sink.add("empty_step", Effect::Note, &["mainSteps"], message);
        }
        let done = scripts::rewritten(&text, parameters)?;
        if scripts::parts(&text, parameters).len() > 1 {
            let message =
                format!("values of callers were put into the text of {}; they are quoted variables now", step.name);
            self.sink.add("template_rewritten", Effect::Safer, &["mainSteps"], message);
        }
        if scripts::is_shell(&done.script) {
            for message in secrets::in_script(&done.script, &step.name, &secrets::of(parameters)) {
                self.sink.add(secrets::CODE, Effect::Note, &["mainSteps"], message);
            }
        } else if !parameters.is_empty() {
            code_lines::note(
                std::iter::once((step.name.as_str(), done.script.as_str())),
                &["mainSteps"],
                &mut self.sink,
            );
            let known = secrets::of(parameters);
            for message in secrets::in_program(&done.script, &step.name, &known, |one| one.variable.as_str()) {
                self.sink.add(secrets::CODE, Effect::Note, &["mainSteps"], message);
            }
            code_lines::note_commands(
                &done.script,
                parameters,
                |one| one.value.variable.as_str(),
                "parameters",
                &mut self.sink,
            );
        }
        for place in scripts::undefined(&text, parameters) {
            let message = format!(
                "{} has {{{{ {place} }}}}, and the document has no such parameter: it stays as it is, as in Systems Manager",
                step.name
            );
            self.sink.add("undefined_parameter", Effect::Note, &["mainSteps"], message);
        }
        if text.contains("exit 194") {
            let message = format!(
                "{} asks for a reboot (exit 194), after which Systems Manager would run it again; here it fails and says so",
                step.name
            );
            self.sink.add("reboot", Effect::Note, &["mainSteps"], message);
        }
        let planned = Step::new(&step.name, done.script.clone());
        if scripts::is_shell(&done.script) && shell::runs_relative(&done.script) {
            self.note_directory(step, parameters);
        }
        self.scripts.push(done);
        self.plan(step, last, when, planned, parameters);
        Ok(())
    }

    /// Adds a step that is a script.
    fn plan(
        &mut self,
        step: &DocumentStep<'_>,
        last: bool,
        when: Vec<[Vec<Piece>; 2]>,
        mut planned: Step,
        parameters: &[Parameter],
    ) {
        self.options(step, last, &mut planned);
        planned.when = when;
        self.time(step, parameters, &mut planned);
        planned.directory = self.directory(step, parameters);
        self.push(planned, parameters);
    }

    /// Adds a step, and notes secrets in the arguments of its script.
    fn push(&mut self, planned: Step, parameters: &[Parameter]) {
        for message in secrets::in_arguments(&planned.arguments, &planned.name, &secrets::of(parameters)) {
            self.sink.add(secrets::CODE, Effect::Note, &["mainSteps"], message);
        }
        self.steps.push(planned);
    }

    /// Notes that callers choose the directory of programs that a step runs by relative paths.
    fn note_directory(&mut self, step: &DocumentStep<'_>, parameters: &[Parameter]) {
        let given = step.inputs.get("workingDirectory").unwrap_or(&Value::Null);
        let of_caller =
            scripts::parts(given.as_str().unwrap_or_default(), parameters).into_iter().find_map(|part| match part {
                Part::Value(index) if !parameters[index].is_listed() => Some(&parameters[index].source),
                _ => None,
            });
        if let Some(name) = of_caller {
            any_command::note(&mut self.sink, &["parameters", name], name, any_command::Given::Program);
        }
    }

    /// Returns the source of a script that a caller gives with a parameter.
    fn given(&mut self, index: usize, parameter: &Parameter) -> Variable {
        let name = &parameter.source;
        let is_noted = self.given.contains(&index);
        if !parameter.is_listed() && !is_noted {
            any_command::note(&mut self.sink, &["parameters", name], name, any_command::Given::Command);
        }
        self.given.push(index);
        Variable::Parameter(parameter.bolt.clone(), Some("\n".to_owned()))
    }

    /// Adds a step of `aws:configureDocker`.
    fn docker(&mut self, step: &DocumentStep<'_>, last: bool, when: Vec<[Vec<Piece>; 2]>, parameters: &[Parameter]) {
        let message = format!(
            "the step {} is a script that does what {} does on Amazon Linux; elsewhere it fails and says so",
            step.name, step.action
        );
        self.sink.add("supplied_step", Effect::Note, &["mainSteps"], message);
        let mut planned = Step::new(&step.name, plugins::DOCKER_SCRIPT.to_owned());
        planned.arguments = vec![pieces(step.inputs.get("action").unwrap_or(&Value::Null), parameters)];
        planned.when = when;
        self.options(step, last, &mut planned);
        self.time(step, parameters, &mut planned);
        self.push(planned, parameters);
    }

    /// Reads what follows a step.
    fn options(&mut self, step: &DocumentStep<'_>, last: bool, planned: &mut Step) {
        let word = |key: &str| step.inputs.get(key).and_then(Value::as_str).unwrap_or_default();
        planned.on_failure = match word("onFailure") {
            "exit" => After::Exit,
            "successAndExit" => After::SucceedAndExit,
            _ => After::Continue,
        };
        if word("onSuccess") == "exit" {
            planned.on_success = After::Exit;
        }
        // The agent compares with these words as they are written.
        for (key, words) in [("onFailure", &["", "exit", "successAndExit"][..]), ("onSuccess", &["", "exit"])] {
            if !words.contains(&word(key)) {
                let message = format!(
                    "{key}: {:?} of the step {} has no effect, also in Systems Manager",
                    shorten(word(key), 40),
                    step.name
                );
                self.sink.add("no_effect", Effect::Note, &["mainSteps"], message);
            }
        }
        let of_step = unknown_keys(step.whole, &STEP_KEYS);
        let of_inputs = unknown_keys(step.inputs, &INPUT_KEYS);
        if !of_step.is_empty() || !of_inputs.is_empty() {
            let message =
                format!("not imported of the step {}: {}", step.name, [of_step, of_inputs].concat().join(", "));
            self.sink.add("not_imported", Effect::Note, &["mainSteps"], message);
        }
        let always = step.inputs.get("finallyStep").and_then(truth) == Some(true);
        planned.always = always && last;
        if always && !last {
            let message = format!("{} is no last step, so that finallyStep has no effect", step.name);
            self.sink.add("no_effect", Effect::Note, &["mainSteps"], message);
        }
        for key in ["isEnd", "isCritical", "onFailure", "nextStep", "maxAttempts", "timeoutSeconds"] {
            if step.whole.get(key).is_some_and(|value| value != "" && value != 0) {
                let message = format!(
                    "{key} of the step {} has no effect in Command documents, also in Systems Manager",
                    step.name
                );
                self.sink.add("no_effect", Effect::Note, &["mainSteps"], message);
            }
        }
    }

    fn time(&mut self, step: &DocumentStep<'_>, parameters: &[Parameter], planned: &mut Step) {
        let given = step.inputs.get("timeoutSeconds").filter(|value| !value.is_null());
        let pieces = given.map_or_else(|| vec![Piece::Text(TIMEOUT.to_string())], |value| pieces(value, parameters));
        // The agent's own bounds of a step's time-out.
        let seconds = match pieces.as_slice() {
            [Piece::Text(text)] => text.trim().parse().ok().filter(|seconds| (5..=172_800).contains(seconds)),
            _ => Some(86_400),
        };
        self.timeout = self.timeout.saturating_add(seconds.unwrap_or(TIMEOUT));
        planned.timeout = Some(pieces);
    }

    fn directory(&mut self, step: &DocumentStep<'_>, parameters: &[Parameter]) -> Option<Vec<Piece>> {
        let given = step.inputs.get("workingDirectory").filter(|value| !value.is_null() && *value != "")?;
        let pieces = pieces(given, parameters);
        if matches!(pieces.as_slice(), [Piece::Text(text), ..] if !text.starts_with('/')) {
            let message = format!(
                "the working directory of {} is relative to a download, which Bolt lacks; it has no effect",
                step.name
            );
            self.sink.add("working_directory", Effect::Note, &["mainSteps"], message);
        }
        Some(pieces)
    }
}
