//! StackStorm's runners: maps them to Bolt's, and reports their parameters.
//!
//! An action file may override parameters of its runner by listing them among its own; they are then not parameters of
//! the action (StackStorm's documentation: "Overriding Runner Parameters"). The names depend on the runner: `username`
//! belongs to remote runners, but to the action itself under `python-script`.

use serde_json::Value;

use crate::base::finding::Finding;
use crate::pack::param::Schema;

use super::{ActionFile, Runner};

const LOCAL: &[&str] = &["content_version", "cwd", "debug", "env", "kwarg_op", "sudo", "sudo_password", "timeout"];
const REMOTE: &[&str] = &[
    "bastion_host",
    "cwd",
    "dir",
    "env",
    "hosts",
    "kwarg_op",
    "parallel",
    "passphrase",
    "password",
    "port",
    "private_key",
    "sudo",
    "sudo_password",
    "timeout",
    "username",
];
const PYTHON: &[&str] = &["content_version", "debug", "env", "log_level", "timeout"];

/// Returns the names of the parameters that StackStorm's runner `runner` has itself; none of an unknown runner.
pub fn parameters_of(runner: &str) -> impl Iterator<Item = &'static str> {
    let (names, command) = match runner {
        "python-script" | "run-python" => (PYTHON, None),
        "local-shell-script" | "run-local-script" => (LOCAL, None),
        "local-shell-cmd" | "run-local" => (LOCAL, Some("cmd")),
        "remote-shell-script" | "run-remote-script" => (REMOTE, None),
        "remote-shell-cmd" | "run-remote" => (REMOTE, Some("cmd")),
        _ => (&[] as &[_], None),
    };
    command.into_iter().chain(names.iter().copied())
}

/// True if StackStorm's runner `runner` has a parameter `name`.
pub(super) fn has_parameter(runner: &str, name: &str) -> bool {
    parameters_of(runner).any(|known| known == name)
}

/// Reports an overridden runner parameter and its equivalent in Bolt.
pub(super) fn parameter(name: &str, schema: &Schema, at: String) -> Finding {
    let message = match (name, schema.default.as_ref()) {
        ("timeout", _) => "overrides the time-out of StackStorm's runner; use bolt.timeout instead",
        ("cmd", _) => "is the command of StackStorm's runner; Bolt runs the entry_point and nothing else",
        ("sudo", Some(Value::Bool(true))) => {
            return Finding::warning("runner_parameter", at, "runs as root in StackStorm; set bolt.run_as: root");
        }
        ("kwarg_op", Some(Value::String(given))) if given != "--" => {
            let message = format!("has named arguments written {given}name=value; Bolt writes --name=value");
            return Finding::warning("runner_parameter", at, message);
        }
        _ => "is a parameter of StackStorm's runner and has no effect in Bolt",
    };
    Finding::note("runner_parameter", at, format!("{name} {message}"))
}

/// Returns the runner of `file`; `None`, with an error among the findings, if Bolt has no equivalent.
pub(super) fn of(file: &ActionFile, at: &str, found: &mut Vec<Finding>) -> Option<Runner> {
    let at = format!("{at}: runner_type");
    match file.runner_type.as_str() {
        "python-script" | "run-python" => {
            if file.bolt.is_none() {
                let message = "StackStorm calls run() of a class in the file; Bolt runs the file as a program: make it read the \
                               parameters from standard input in it";
                found.push(Finding::warning("python_class", at, message));
            }
            Some(Runner::PythonScript)
        }
        "local-shell-script" | "run-local-script" => Some(Runner::LocalShellScript),
        // Bolt already runs on the instance that the remote runner would connect to.
        "remote-shell-script" | "run-remote-script" => {
            let message =
                "Bolt runs it on the instance itself: hosts and credentials have no effect; use local-shell-script";
            found.push(Finding::warning("remote_runner", at, message));
            Some(Runner::LocalShellScript)
        }
        "remote-shell-cmd" | "run-remote" | "local-shell-cmd" | "run-local" => {
            let message = "its command is a shell template; Bolt never passes a parameter through a shell: write a script \
                           with an entry_point and use local-shell-script";
            found.push(Finding::error("shell_template", at, message));
            None
        }
        "action-chain" | "orquesta" | "mistral-v2" | "cloudslang" | "inquirer" | "announcement" | "noop"
        | "http-request" | "http-runner" | "winrm-cmd" | "winrm-ps-cmd" | "winrm-ps-script" => {
            let message =
                format!("Bolt runs single actions, not {}; call them from your orchestrator", file.runner_type);
            found.push(Finding::error("runner_not_supported", at, message));
            None
        }
        other => {
            let message = format!("unknown runner {other:?}; use python-script or local-shell-script");
            found.push(Finding::error("unknown_runner", at, message));
            None
        }
    }
}
