//! Bound values in the three forms in which a script receives them. Secrets are in the first only.

use serde_json::{Map, Value};

use super::Parameters;
use super::bind::BoundParams;

/// What an action's process is given of its parameters.
#[derive(Clone, PartialEq)]
pub struct Delivery {
    /// One JSON object on standard input, secrets included.
    pub stdin: Vec<u8>,
    /// `BOLT_PARAM_<NAME>` and value.
    pub environment: Vec<(String, String)>,
    /// Positional by `position`, then `--name=value`.
    pub arguments: Vec<String>,
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").field("environment", &self.environment).field("arguments", &self.arguments).finish()
    }
}

/// The three forms of `bound`.
///
/// As StackStorm writes them: a positional value that was not given is an empty argument when a later one was
/// given; a boolean is `1` or `0` in a position and a flag (or nothing) by name; arrays of scalars are joined by commas and
/// anything deeper is JSON.
pub fn deliver(parameters: &Parameters, bound: &BoundParams) -> Delivery {
    let mut stdin = serde_json::to_vec(bound.values()).expect("a JSON map serialises");
    stdin.push(b'\n');
    let open: Map<String, Value> = parameters
        .iter()
        .filter(|(_, schema)| !schema.holds_secret())
        .filter_map(|(name, _)| bound.values().get_key_value(name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let environment =
        open.iter().map(|(name, value)| (format!("BOLT_PARAM_{}", name.to_ascii_uppercase()), plain(value))).collect();
    Delivery { stdin, environment, arguments: arguments(parameters, &open) }
}

fn arguments(parameters: &Parameters, open: &Map<String, Value>) -> Vec<String> {
    let mut positional: Vec<(u32, &str)> = parameters
        .iter()
        .filter(|(_, schema)| !schema.holds_secret())
        .filter_map(|(name, schema)| schema.position.map(|position| (position, name.as_str())))
        .collect();
    positional.sort_unstable();
    let mut arguments: Vec<String> = positional
        .iter()
        .map(|(_, name)| match open.get(*name) {
            Some(Value::Bool(flag)) => u8::from(*flag).to_string(),
            Some(value) => plain(value),
            None => String::new(),
        })
        .collect();
    while arguments.last().is_some_and(String::is_empty) {
        arguments.pop();
    }
    for (name, value) in open {
        match value {
            _ if positional.iter().any(|(_, positional)| *positional == name) => {}
            Value::Bool(true) => arguments.push(format!("--{name}")),
            Value::Bool(false) | Value::Null => {}
            value => arguments.push(format!("--{name}={}", plain(value))),
        }
    }
    arguments
}

/// A value as text: scalars as they are, lists of scalars joined by commas, the rest as JSON.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(|i| !i.is_array() && !i.is_object()) => {
            items.iter().map(plain).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}
