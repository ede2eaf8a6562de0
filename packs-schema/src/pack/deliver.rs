//! Delivers bound values and the site configuration to a process, on standard input, in the environment and as
//! arguments. Secrets are on standard input only.

use serde_json::{Map, Value};

use crate::base::name::ParamName;
use crate::pack::site_config::SiteConfig;

use super::param::Parameters;
use super::param::bind::BoundParams;
use super::param::text::{ambiguous_item, joined_by_commas, plain};

/// Key of the whole site configuration in the object on standard input, present if any of it is secret.
pub const CONFIG_KEY: &str = "bolt_config";

/// Parameters and site configuration as an action's process receives them.
#[derive(Clone, PartialEq)]
pub struct Delivery {
    /// Standard input: a JSON object and a line feed. Contains the parameters, secrets included, and [`CONFIG_KEY`] if
    /// the site configuration has secrets.
    pub stdin: Vec<u8>,
    /// Names and values without secrets: `BOLT_CONFIG`, `BOLT_CONFIG_<NAME>` and `BOLT_PARAM_<NAME>`.
    pub environment: Vec<(String, String)>,
    /// Positional ones by `position`, then `--name=value`.
    pub arguments: Vec<String>,
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").field("environment", &self.environment).field("arguments", &self.arguments).finish()
    }
}

/// Returns all that an action's process receives of `bound` and of its pack's site configuration.
///
/// Arguments follow StackStorm (its documentation: "Converting Existing Scripts into Actions"): parameters with a
/// `position` in order, each always present and empty if it has no value; then `--name=value` of the others that have a
/// value. In a position a boolean is `1` or `0`, a list is joined by commas and an object is JSON; by name a boolean is
/// `--name` or absent.
///
/// Unlike StackStorm, positional arguments come first, so that a script can read `$1` regardless of the others; lists
/// and objects by name are written as in a position, where StackStorm writes Python; a list of lists or objects is
/// JSON. A list with an item that the commas would split does not bind at all (`text::ambiguous_item`), so that a script
/// reads the values that were checked.
pub fn deliver(parameters: &Parameters, bound: &BoundParams, config: &SiteConfig) -> Delivery {
    let open: Map<String, Value> = parameters
        .iter()
        .filter(|(_, schema)| !schema.holds_secret())
        .filter_map(|(name, _)| bound.values().get_key_value(name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut environment = config_environment(config.public());
    environment
        .extend(open.iter().map(|(name, value)| (format!("BOLT_PARAM_{}", name.to_ascii_uppercase()), plain(value))));
    Delivery { stdin: standard_input(bound, config), environment, arguments: arguments(parameters, &open) }
}

fn standard_input(bound: &BoundParams, config: &SiteConfig) -> Vec<u8> {
    let mut object = bound.values().clone();
    if !config.secrets().is_empty() {
        object.insert(CONFIG_KEY.to_owned(), Value::Object(config.merged()));
    }
    let mut bytes = serde_json::to_vec(&object).expect("a JSON map serialises");
    bytes.push(b'\n');
    bytes
}

/// `BOLT_CONFIG` with the whole object, and a variable for each value that has one.
fn config_environment(public: &Map<String, Value>) -> Vec<(String, String)> {
    if public.is_empty() {
        return Vec::new();
    }
    let mut list = vec![("BOLT_CONFIG".to_owned(), Value::Object(public.clone()).to_string())];
    list.extend(public.iter().filter_map(|(name, value)| {
        let name = ParamName::new(name.as_str()).ok()?;
        Some((format!("BOLT_CONFIG_{}", name.as_str().to_ascii_uppercase()), config_variable(value)?))
    }));
    list
}

/// A scalar as text, a list of scalars joined by commas. Other values, and lists with items that the commas would split, are
/// in `BOLT_CONFIG` only.
fn config_variable(value: &Value) -> Option<String> {
    match value {
        Value::Object(_) => None,
        Value::Array(items) if !joined_by_commas(items) || ambiguous_item(value).is_some() => None,
        value => Some(plain(value)),
    }
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
