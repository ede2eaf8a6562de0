//! Errors as Python gets them: the name of an exception, and what it holds.

use std::fmt;

use bolt_client::config::{ConfigError, Setting};
use bolt_client::error::Error;
use bolt_client::inventory::SelectionError;
use bolt_client::phase::Phase;
use bolt_client::runner::RunError;
use bolt_client::runs::{ResumeError, StoreError};
use bolt_client::show;
use serde::Serialize;
use serde_json::{Value, json};

/// Error of an operation.
#[derive(Debug, Serialize)]
pub(crate) struct Fault {
    /// Name of the exception.
    exception: &'static str,
    message: String,
    hint: Option<String>,
    /// Fields of the exception, or null.
    fields: Value,
}

impl Fault {
    fn new(exception: &'static str, message: impl fmt::Display) -> Fault {
        Fault { exception, message: show::visible_lines(&message.to_string()), hint: None, fields: Value::Null }
    }

    fn hint(self, hint: impl Into<String>) -> Fault {
        Fault { hint: Some(hint.into()), ..self }
    }

    /// An argument of the call is wrong.
    pub(crate) fn argument(name: &str, problem: impl fmt::Display) -> Fault {
        Fault::new("InvalidArgument", format!("{name}: {problem}"))
    }

    /// No instance was chosen, where all of several would be.
    pub(crate) fn not_chosen(known: usize) -> Fault {
        let message = format!("which instances? The inventory has {}", show::counted(known, "instance"));
        Fault::new("NoInstances", message)
            .hint("give where, on, region, zone or from_run, or everywhere=True for all instances")
    }

    /// The caller has to state that the run may change instances.
    pub(crate) fn not_confirmed(message: String, plan: Value) -> Fault {
        let fault = Fault::new("NotConfirmed", message).hint("check the plan, then give confirmed=True");
        Fault { fields: json!({ "plan": plan }), ..fault }
    }

    /// The caller stopped the operation before it started anything, or gave it up.
    pub(crate) fn given_up() -> Fault {
        Fault::new("GivenUp", "the operation was given up")
    }

    /// Runs cannot be recorded.
    pub(crate) fn no_store() -> Fault {
        Fault::new("RunStoreError", "there is no record of runs: neither XDG_STATE_HOME nor HOME is set")
    }

    /// Instances of a recorded run are not in the inventory.
    pub(crate) fn gone(run: &str) -> Fault {
        Fault::new("NoInstances", format!("no such instance of run {run} is in the inventory"))
    }

    pub(crate) fn panicked() -> Fault {
        Fault::new("BoltError", "bolt_fleet failed; this is a fault of the package. Executions that were started go on")
    }
}

/// Returns the error of an instance.
pub(crate) fn of_instance(error: &Error) -> Value {
    json!({
        "exception": exception(error.kind.outcome()),
        "message": show::visible_lines(&error.to_string()),
        "hint": error.kind.hint(),
        "fields": {
            "instance": error.instance,
            "address": error.address,
            "code": error.kind.code(),
            "phase": error.kind.phase().map(Phase::as_str),
            "outcome": error.kind.outcome(),
        },
    })
}

/// Returns the name of the exception for an outcome.
fn exception(outcome: &str) -> &'static str {
    match outcome {
        "unreachable" | "unknown" => "Unreachable",
        "tls_failed" => "TlsFailed",
        "wrong_instance" => "WrongInstance",
        "unauthorized" => "Unauthorized",
        "no_such_action" => "NoSuchAction",
        "invalid_parameters" => "InvalidParameters",
        "version_mismatch" => "VersionMismatch",
        "busy" => "Busy",
        "not_started" => "NotStarted",
        _ => "Refused",
    }
}

impl From<ConfigError> for Fault {
    fn from(error: ConfigError) -> Fault {
        let fault = Fault::new("ConfigurationError", chain(&error));
        match &error {
            ConfigError::Gather(gather) => {
                let hint = gather.hint().map(|hint| hint.replace("--partial", "partial=True"));
                Fault { exception: "InventoryError", hint, ..Fault::new("", gather) }
            }
            ConfigError::Missing { setting, .. } => {
                let key = match setting {
                    Setting::Inventory => "inventory = \"…\", or [[inventory]] tables,".to_owned(),
                    _ => format!("{} = \"…\"", setting.name()),
                };
                fault.hint(format!("write {key} in client.toml, or set {}", setting.variable()))
            }
            _ => fault,
        }
    }
}

impl From<SelectionError> for Fault {
    fn from(error: SelectionError) -> Fault {
        let message = error.to_string();
        // The message names options of the command.
        let renamed = [
            ("--where ", "where "),
            ("--region ", "region "),
            ("--zone ", "zone "),
            ("--on ", "on "),
            ("--exclude", "exclude"),
        ];
        Fault::new("NoInstances", renamed.iter().fold(message, |text, (flag, name)| text.replace(flag, name)))
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Fault {
        let exception = match &error {
            StoreError::Exists(_) => "RunExists",
            StoreError::Unknown { .. } => "UnknownRun",
            StoreError::Busy { .. } => "RunBusy",
            _ => "RunStoreError",
        };
        Fault::new(exception, error)
    }
}

impl From<RunError> for Fault {
    fn from(error: RunError) -> Fault {
        match error {
            RunError::Request { .. } | RunError::Check { .. } => Fault::new("InvalidParameters", error),
            RunError::CheckClass { .. } | RunError::Canary { .. } | RunError::NoSecrets(_) => {
                Fault::new("InvalidArgument", error)
            }
            RunError::UnknownAction { .. } => Fault::new("NoSuchAction", error),
            RunError::NoDefinition { ref failed, .. } => match failed.first() {
                None => Fault::new("WrongInstance", error),
                Some(first) => Fault {
                    exception: exception(first.kind.outcome()),
                    hint: first.kind.hint().map(str::to_owned),
                    fields: of_instance(first)["fields"].clone(),
                    ..Fault::new("", &error)
                },
            },
            RunError::Store(store) => store.into(),
            RunError::Unrecordable(_) => Fault::new("RunStoreError", error)
                .hint("make room, or use Fleet(record=False): then a run cannot be resumed"),
            RunError::Resume(ResumeError::Secrets { .. }) => Fault::new("InvalidParameters", error),
            RunError::Resume(ResumeError::Damaged { .. }) => Fault::new("RunStoreError", error),
            RunError::NothingToRetry(_) => Fault::new("NoInstances", error)
                .hint("unreachable=True repeats it on instances that were not reached, not_started=True where it did not begin"),
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(&format!(": {inner}"));
        source = inner.source();
    }
    text
}
