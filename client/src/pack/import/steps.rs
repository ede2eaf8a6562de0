//! Actions that are several scripts, run one after the other by a supplied runner: `steps/run_steps.py`.
//!
//! Scripts are files of the pack; `steps.json` says in which order they run, when one is skipped, and what a failure
//! does. Values of callers reach them as environment variables only. A script that is a value itself is a file that the
//! runner writes, and its action is disabled (`any_command`).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::converted::ActionText;
use super::plan::PlannedFile;

/// Directory of the runner and its scripts.
const DIRECTORY: &str = "actions/bolt_steps";
const RUNNER: &str = "bolt_steps/run_steps.py";
/// Longest time-out of an action, in seconds.
pub(super) const MAX_TIMEOUT: u64 = 86_400;

/// Text that is made of texts and of values of variables when the action runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Variable(String),
}

/// Source of an environment variable of the scripts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Variable {
    /// A parameter, by Bolt's name; the items of a list are joined by a text, or are JSON.
    Parameter(String, Option<String>),
    /// The author's text.
    Text(String),
    /// Another variable.
    Environment(String),
    /// The host's name.
    Hostname,
}

/// Steps that follow the end of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// The next step.
    Continue,
    /// No further step.
    Exit,
    /// No further step, and the step counts as succeeded.
    SucceedAndExit,
}

/// Script that is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) name: String,
    /// Text of the script, with a shebang.
    pub(super) script: String,
    /// Source of the script that a caller gives in its place. Without a shebang it is run by the interpreter.
    pub(super) program: Option<Variable>,
    /// Words before the path of the script; none for one that is run itself.
    pub(super) interpreter: Vec<String>,
    pub(super) arguments: Vec<Vec<Piece>>,
    /// The script and its arguments are one word, quoted for the shell that is the interpreter.
    pub(super) one_word: bool,
    /// Seconds; none without a limit of its own.
    pub(super) timeout: Option<Vec<Piece>>,
    pub(super) directory: Option<Vec<Piece>>,
    pub(super) on_failure: After,
    pub(super) on_success: After,
    /// Runs whatever happened before.
    pub(super) always: bool,
    /// Pairs that must be equal.
    pub(super) when: Vec<[Vec<Piece>; 2]>,
    /// Runs when this step failed; `true` if its success stands for the step's.
    pub(super) handler: Option<(Box<Step>, bool)>,
}

impl Step {
    /// Makes a step whose script a caller gives; `shell` runs it.
    pub(super) fn of_caller(name: &str, program: Variable, shell: &str) -> Step {
        Step { program: Some(program), interpreter: vec![shell.to_owned()], ..Step::new(name, String::new()) }
    }

    pub(super) fn new(name: &str, script: String) -> Step {
        Step {
            name: name.to_owned(),
            script,
            program: None,
            interpreter: Vec::new(),
            arguments: Vec::new(),
            one_word: false,
            timeout: None,
            directory: None,
            on_failure: After::Continue,
            on_success: After::Continue,
            always: false,
            when: Vec::new(),
            handler: None,
        }
    }

    /// Returns the scripts of the step and of its handler, with their names.
    pub(super) fn scripts(&self) -> impl Iterator<Item = (&str, &str)> {
        let handler = self.handler.as_ref().map(|(handler, _)| (handler.name.as_str(), handler.script.as_str()));
        std::iter::once((self.name.as_str(), self.script.as_str())).chain(handler)
    }
}

/// Action of steps.
pub(super) struct StepsAction<'a> {
    pub(super) name: &'a str,
    pub(super) description: &'a str,
    /// The system and file that it comes from.
    pub(super) origin: &'a str,
    pub(super) enabled: bool,
    /// Schemas by Bolt's name.
    pub(super) parameters: Map<String, Value>,
    pub(super) variables: BTreeMap<String, Variable>,
    pub(super) steps: Vec<Step>,
    /// Time-out of the whole, in seconds.
    pub(super) timeout: u64,
    /// Account to run as; none for one of the execution's own.
    pub(super) run_as: Option<String>,
    /// Processes that the scripts start may stay after its end.
    pub(super) leftovers: bool,
    /// Executions on an instance run one at a time.
    pub(super) alone: bool,
    /// Exit statuses 168, 169 and 194 have the meaning that Systems Manager gives them.
    pub(super) ssm: bool,
}

impl StepsAction<'_> {
    /// Returns the action's text, the files of its steps, and its entry for [`files`].
    pub(super) fn write(self) -> (String, BTreeMap<String, PlannedFile>, Value) {
        let mut files = BTreeMap::new();
        let steps: Vec<Value> = self.steps.iter().map(|step| written(self.name, step, &mut files)).collect();
        let variables: Map<String, Value> =
            self.variables.iter().map(|(name, variable)| (name.clone(), source(variable))).collect();
        let entry = json!({"variables": variables, "ssm": self.ssm, "steps": steps});
        let mut allowed = json!({"no_noop": "imported; its source knows no dry run"});
        if !self.parameters.is_empty() {
            allowed["unused_parameter"] = json!("the supplied runner passes it on");
        }
        let mut bolt = json!({
            "class": "remediation",
            "timeout": format!("{}s", self.timeout.clamp(1, MAX_TIMEOUT)),
            "limits": {"memory": "256MiB"},
            "arguments": false,
            "lint": {"allow": allowed},
        });
        if let Some(account) = self.run_as {
            bolt["run_as"] = json!(account);
        }
        if self.alone {
            bolt["concurrency"] = json!({"max": 1, "when_busy": "reject"});
        }
        if self.leftovers {
            bolt["leftovers"] = json!("keep");
        }
        let text = ActionText {
            name: self.name,
            description: self.description,
            runner_type: "local-shell-script",
            entry_point: RUNNER,
            enabled: self.enabled,
            tags: &[],
            parameters: self.parameters,
            bolt,
        };
        (text.text(self.origin), files, entry)
    }
}

fn written(action: &str, step: &Step, files: &mut BTreeMap<String, PlannedFile>) -> Value {
    let word: String = step.name.chars().filter(|c| c.is_ascii_alphanumeric() || "_-".contains(*c)).take(40).collect();
    let path = step.program.is_none().then(|| format!("{DIRECTORY}/scripts/{action}/{}_{word}", files.len() + 1));
    files.extend(path.clone().map(|path| (path, PlannedFile::program(step.script.clone()))));
    let word = |after: After| match after {
        After::Continue => "continue",
        After::Exit => "exit",
        After::SucceedAndExit => "succeed",
    };
    let handler = step.handler.as_ref().map(|(handler, replaces)| {
        let mut handler = written(action, handler, files);
        handler["replaces"] = json!(replaces);
        handler
    });
    json!({
        "name": step.name,
        "script": path,
        "program": step.program.as_ref().map(source),
        "interpreter": step.interpreter,
        "arguments": step.arguments.iter().map(|argument| pieces(argument)).collect::<Vec<_>>(),
        "one_word": step.one_word,
        "timeout": step.timeout.as_deref().map(pieces),
        "directory": step.directory.as_deref().map(pieces),
        "on_failure": word(step.on_failure),
        "on_success": word(step.on_success),
        "always": step.always,
        "when": step.when.iter().map(|[a, b]| json!([pieces(a), pieces(b)])).collect::<Vec<_>>(),
        "handler": handler,
    })
}

fn source(variable: &Variable) -> Value {
    match variable {
        Variable::Parameter(name, None) => json!({"parameter": name}),
        Variable::Parameter(name, Some(delimiter)) => json!({"parameter": name, "delimiter": delimiter}),
        Variable::Text(text) => json!({"text": text}),
        Variable::Environment(name) => json!({"environment": name}),
        Variable::Hostname => json!({"hostname": true}),
    }
}

fn pieces(pieces: &[Piece]) -> Value {
    let piece = |piece: &Piece| match piece {
        Piece::Text(text) => json!({"text": text}),
        Piece::Variable(name) => json!({"variable": name}),
    };
    pieces.iter().map(piece).collect()
}

/// Returns the runner and its registry of actions.
pub(super) fn files(registry: &Map<String, Value>) -> impl Iterator<Item = (String, PlannedFile)> {
    let registry = serde_json::to_string_pretty(&json!({"actions": registry})).unwrap_or_default() + "\n";
    [
        ("run_steps.py", PlannedFile::program(include_str!("steps/run_steps.py"))),
        ("README.txt", PlannedFile::text(include_str!("steps/readme.txt"))),
        ("steps.json", PlannedFile::text(registry)),
    ]
    .into_iter()
    .map(|(name, file)| (format!("{DIRECTORY}/{name}"), file))
}
