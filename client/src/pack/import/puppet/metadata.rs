//! Metadata of a task, `tasks/<name>.json`, as published modules contain it.

use serde_json::{Map, Value};

use crate::pack::import::report::Effect;
use crate::pack::import::schema::{Sink, truth};

/// How a task gets its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InputMethod {
    Stdin,
    Environment,
    Both,
    PowerShell,
}

impl InputMethod {
    fn of(word: &str) -> Option<InputMethod> {
        Some(match word {
            "stdin" => InputMethod::Stdin,
            "environment" => InputMethod::Environment,
            "both" => InputMethod::Both,
            "powershell" => InputMethod::PowerShell,
            _ => return None,
        })
    }

    /// Returns the word for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            InputMethod::Stdin => "stdin",
            InputMethod::Environment => "environment",
            InputMethod::Both => "both",
            InputMethod::PowerShell => "powershell",
        }
    }
}

/// Program among several of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Implementation {
    pub(super) name: String,
    pub(super) requirements: Vec<String>,
    pub(super) input_method: Option<InputMethod>,
    pub(super) files: Vec<String>,
    pub(super) remote: Option<bool>,
}

/// Metadata.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    pub(super) description: String,
    /// Absent: the task takes anything.
    pub(super) parameters: Option<Map<String, Value>>,
    pub(super) input_method: Option<InputMethod>,
    pub(super) supports_noop: bool,
    pub(super) private: bool,
    pub(super) remote: bool,
    pub(super) implementations: Vec<Implementation>,
    pub(super) files: Vec<String>,
}

impl Metadata {
    pub(super) fn read(value: &Value, sink: &mut Sink<'_>) -> Metadata {
        if !value.is_object() {
            sink.add("metadata", Effect::Note, &[], "the metadata is no object and is ignored");
        }
        let flag = |key: &str| value.get(key).and_then(truth).unwrap_or(false);
        let parameters = match value.get("parameters") {
            Some(Value::Object(parameters)) => Some(parameters.clone()),
            None | Some(Value::Null) => None,
            Some(_) => {
                sink.add("metadata", Effect::Note, &["parameters"], "parameters is no object and is ignored");
                None
            }
        };
        let implementations = value.get("implementations").and_then(Value::as_array).into_iter().flatten();
        Metadata {
            description: value.get("description").and_then(Value::as_str).unwrap_or_default().to_owned(),
            parameters,
            input_method: input_method(value, sink),
            supports_noop: flag("supports_noop"),
            private: flag("private"),
            remote: flag("remote"),
            implementations: implementations.filter_map(|one| implementation(one, sink)).collect(),
            files: words(value, "files"),
        }
    }
}

fn implementation(value: &Value, sink: &mut Sink<'_>) -> Option<Implementation> {
    Some(Implementation {
        name: value.get("name")?.as_str()?.to_owned(),
        requirements: words(value, "requirements"),
        input_method: input_method(value, sink),
        files: words(value, "files"),
        remote: value.get("remote").and_then(truth),
    })
}

fn input_method(value: &Value, sink: &mut Sink<'_>) -> Option<InputMethod> {
    let given = value.get("input_method").filter(|given| !given.is_null())?;
    let method = given.as_str().and_then(InputMethod::of);
    if method.is_none() {
        let given = packs_schema::base::strict::shorten(&given.to_string(), 40);
        let message = format!("{given} is no input method; the task gets its parameters in both ways");
        sink.add("input_method", Effect::Note, &["input_method"], message);
    }
    method
}

/// Returns the texts of a list; also a single text, as some modules have it.
pub(super) fn words(value: &Value, key: &str) -> Vec<String> {
    match value.get(key) {
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(word)) => vec![word.clone()],
        _ => Vec::new(),
    }
}
