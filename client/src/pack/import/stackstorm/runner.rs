//! StackStorm's runners and their parameters, which an action overrides by listing them among its own.

use std::collections::BTreeMap;

use packs_schema::base::strict::shorten;
use packs_schema::pack::action::runner;
use serde_json::{Map, Value};

use super::schema::is_template;
use crate::pack::import::report::Effect;
use crate::pack::import::schema::{Sink, truth};

/// Kind of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A class in a Python file.
    Python,
    /// A file that is run.
    Script,
    /// A shell command.
    Command,
    /// A graph of actions.
    Workflow,
    /// Anything else, with the reason why it is not run.
    Other(&'static str),
}

impl Kind {
    pub(super) fn of(runner: &str) -> Kind {
        match runner {
            "python-script" | "run-python" => Kind::Python,
            "local-shell-script" | "run-local-script" | "remote-shell-script" | "run-remote-script" => Kind::Script,
            "local-shell-cmd" | "run-local" | "remote-shell-cmd" | "run-remote" => Kind::Command,
            "orquesta" | "mistral-v1" | "mistral-v2" | "action-chain" | "cloudslang" => Kind::Workflow,
            "http-request" | "http-runner" => Kind::Other("it sends one HTTP request; write a script with curl"),
            "winrm-cmd" | "winrm-ps-cmd" | "winrm-ps-script" => Kind::Other("it runs on Windows"),
            "inquirer" => Kind::Other("it asks a person; see approvals"),
            "announcement" => Kind::Other("it posts to StackStorm's own stream"),
            "noop" => Kind::Other("it does nothing"),
            _ => Kind::Other("Bolt knows no such runner"),
        }
    }
}

/// Settings of the runner, from the overridden parameters.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) timeout_seconds: u64,
    pub(super) sudo: bool,
    pub(super) cwd: Option<String>,
    /// The working directory, if it holds Jinja.
    pub(super) cwd_template: Option<String>,
    /// Callers may choose the working directory.
    pub(super) cwd_by_caller: bool,
    pub(super) env: BTreeMap<String, String>,
    /// Variables whose value holds Jinja.
    pub(super) env_templates: BTreeMap<String, String>,
    pub(super) kwarg_op: String,
    pub(super) log_level: String,
    /// The command, and true if callers cannot replace it.
    pub(super) command: Option<(String, bool)>,
    /// Schema of the command that callers give.
    pub(super) command_schema: Value,
}

/// Takes the runner's parameters out of `parameters`.
pub(super) fn take(kind: Kind, runner: &str, parameters: &mut Map<String, Value>, sink: &mut Sink<'_>) -> Settings {
    let remote = runner.starts_with("remote") || runner.starts_with("run-remote");
    let mut settings = Settings {
        timeout_seconds: if kind == Kind::Python { 600 } else { 60 },
        kwarg_op: "--".to_owned(),
        log_level: "debug".to_owned(),
        ..Settings::default()
    };
    for name in runner::parameters_of(runner) {
        let Some(schema) = parameters.remove(name) else { continue };
        set(&mut settings, name, &schema, sink);
    }
    if remote {
        let message = "runs on the instance itself: hosts, accounts and keys of the remote runner have no effect";
        sink.add("remote_runner", Effect::Note, &["runner_type"], message);
    }
    settings
}

fn set(settings: &mut Settings, name: &str, schema: &Value, sink: &mut Sink<'_>) {
    let default = schema.get("default").unwrap_or(&Value::Null);
    let immutable = schema.get("immutable").and_then(Value::as_bool).unwrap_or(false);
    let place = ["parameters", name];
    match name {
        "timeout" => {
            let number = default.as_f64().or_else(|| default.as_str().and_then(|text| text.parse().ok()));
            let unusable = number.is_none() && !default.is_null();
            if unusable || number.is_some_and(|seconds| seconds > 86_400.0) {
                let message = format!(
                    "the time-out {} is {}",
                    shorten(&default.to_string(), 60),
                    if unusable {
                        "no number of seconds: that of the runner is used"
                    } else {
                        "longer than a day, which an action has"
                    }
                );
                sink.add("timeout", Effect::Note, &place, message);
            }
            if let Some(seconds) = number.filter(|seconds| *seconds > 0.0) {
                settings.timeout_seconds = seconds.clamp(1.0, 86_400.0).to_string().parse().unwrap_or_else(|_| {
                    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a day")]
                    let whole = seconds.clamp(1.0, 86_400.0).ceil() as u64;
                    whole
                });
            }
            if !immutable {
                sink.add("timeout_fixed", Effect::Note, &place, "callers cannot change the time-out; see bolt.timeout");
            }
        }
        "sudo" => {
            settings.sudo = truth(default).unwrap_or_else(|| default.as_f64() == Some(1.0));
            if default.as_str().is_some_and(is_template) {
                let message =
                    "sudo is computed by StackStorm's server, and off here; set bolt.run_as to root if it is needed";
                sink.add("sudo", Effect::Note, &place, message);
            } else if !settings.sudo && !immutable {
                sink.add("sudo_fixed", Effect::Safer, &place, "callers can no longer choose to run it as root");
            }
            if settings.sudo {
                let message =
                    "runs as root, as with sudo in StackStorm; name an account that may do less in bolt.run_as";
                sink.add("runs_as_root", Effect::Note, &place, message);
            }
        }
        "cwd" => match default.as_str() {
            Some(template) if is_template(template) => settings.cwd_template = Some(template.to_owned()),
            Some(directory) => settings.cwd = Some(directory.to_owned()),
            None => settings.cwd_by_caller = !immutable,
        },
        "dir" => {
            let message = "dir is where StackStorm copies the script to; here it is in the pack";
            sink.add("no_effect", Effect::Note, &place, message);
        }
        "env" => {
            if !default.is_null() && !default.is_object() {
                let message = "env is no map of names and values; write one, or set the variables in the script";
                sink.add("template_env", Effect::Blocks, &place, message);
            }
            for (name, value) in default.as_object().into_iter().flatten() {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                if !is_variable(name) {
                    let message = format!(
                        "the variable {name:?} is not set: it changes how programs are loaded, or is no name of one; set it in \
                         the script if it is needed"
                    );
                    sink.add("env_dropped", Effect::Safer, &place, message);
                } else if is_template(&text) {
                    settings.env_templates.insert(name.clone(), text);
                } else {
                    settings.env.insert(name.clone(), text);
                }
            }
            if !immutable {
                sink.add("env_fixed", Effect::Safer, &place, "callers can no longer set variables of the environment");
            }
        }
        "kwarg_op" => settings.kwarg_op = default.as_str().unwrap_or("--").to_owned(),
        "log_level" => settings.log_level = default.as_str().unwrap_or("debug").to_owned(),
        "cmd" => {
            settings.command = default.as_str().map(|text| (text.to_owned(), immutable));
            settings.command_schema = schema.clone();
        }
        _ => {}
    }
}

/// True for a name of a variable that does not change how programs are loaded.
fn is_variable(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(good)
        && !["LD_", "BOLT", "PYTHON", "BASH_"].iter().any(|prefix| name.starts_with(prefix))
}
