//! Bound values in the three forms in which a script receives them. Secrets are in the first only.

use serde_json::{Map, Value};

use super::Parameters;
use super::bind::BoundParams;

/// The key on standard input under which an action finds its pack's whole configuration, when some of it is secret.
pub const CONFIG_KEY: &str = "bolt_config";

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
/// Arguments are StackStorm's (its documentation: "Converting Existing Scripts into Actions"): those with a
/// `position` in its order, each always there and empty when there is no value; then `--name=value` of the
/// others that have one. In a position a boolean is `1` or `0`, a list is joined by commas, an object is
/// JSON; by name a boolean is `--name` or nothing.
///
/// Not StackStorm's: positions come first, so that a script may read `$1` whatever else is given; lists and
/// objects by name are written as in a position, where StackStorm writes Python; a list that holds lists or
/// objects is JSON. A list with an item that the commas would split is not bound at all ([`ambiguous_item`]), so that what a
/// script reads is what was checked.
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

/// Values bound to a schema, parted: what may be seen, and what is secret or holds a secret.
pub fn part_secrets(schema: &Parameters, values: &Map<String, Value>) -> (Map<String, Value>, Map<String, Value>) {
    let is_open = |name: &str| schema.iter().any(|(known, s)| known.as_str() == name && !s.holds_secret());
    values.clone().into_iter().partition(|(name, _)| is_open(name))
}

fn arguments(parameters: &Parameters, open: &Map<String, Value>) -> Vec<String> {
    let places = parameters.iter().filter(|(_, schema)| !schema.holds_secret());
    let mut positional: Vec<(u32, &str)> =
        places.filter_map(|(name, schema)| Some((schema.position?, name.as_str()))).collect();
    positional.sort_unstable();
    let mut arguments: Vec<String> =
        positional.iter().map(|(_, name)| open.get(*name).map_or_else(String::new, in_position)).collect();
    for (name, value) in open {
        match value {
            _ if positional.iter().any(|(_, positional)| *positional == name) => {}
            Value::Bool(true) => arguments.push(format!("--{name}")),
            Value::Bool(false) | Value::Null => {}
            Value::String(text) if text.is_empty() => {}
            value => arguments.push(format!("--{name}={}", plain(value))),
        }
    }
    arguments
}

fn in_position(value: &Value) -> String {
    match value {
        Value::Bool(flag) => u8::from(*flag).to_string(),
        Value::Object(map) if map.is_empty() => String::new(),
        value => plain(value),
    }
}

/// The first item of a list that a script could not tell from several, or from none, once the list is joined by commas, and why.
///
/// A list that holds lists or objects is passed as JSON, from which every item can be read.
pub fn ambiguous_item(value: &Value) -> Option<(usize, &'static str)> {
    let items = value.as_array().filter(|items| joined_by_commas(items))?;
    items.iter().enumerate().find_map(|(index, item)| {
        let text = plain(item);
        let why = if text.is_empty() {
            "must not be empty: lists reach a script joined by commas, so it would be lost"
        } else if text.contains(',') {
            "must not hold a comma: lists reach a script joined by commas, so it would become several items"
        } else if text.contains(['\n', '\r']) {
            "must not hold a line break: lists reach a script as one line, joined by commas"
        } else {
            return None;
        };
        Some((index, why))
    })
}

fn joined_by_commas(items: &[Value]) -> bool {
    items.iter().all(|item| !item.is_array() && !item.is_object())
}

/// A value as text: scalars as they are, lists of scalars joined by commas, the rest as JSON.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) if joined_by_commas(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
