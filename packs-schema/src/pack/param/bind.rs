//! Binds a caller's values to the parameters of an action: all values fit, or all errors are returned at once.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::base::name::ParamName;
use crate::base::strict::shorten;

use super::check::check;
use super::redact::redact_parameters;
use super::text::{ambiguous_item, plain};
use super::{Parameters, Schema, Type};

/// Error in one parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ParamError {
    /// Parameter with the place inside it: `servers[2].port`.
    pub parameter: String,
    /// Stable code: `unknown`, `missing`, `immutable`, `invalid`, `positional_dash`, `ambiguous_item` or `nul`.
    pub code: String,
    /// Expected value.
    pub message: String,
}

impl fmt::Display for ParamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.parameter, self.message)
    }
}

/// Values that fit their parameters, with defaults filled in. `Debug` output contains no secrets.
#[derive(Clone, PartialEq)]
pub struct BoundParams {
    values: Map<String, Value>,
    given: Map<String, Value>,
    public: Map<String, Value>,
}

impl BoundParams {
    /// Returns all values, including secrets: for the action's standard input only.
    pub fn values(&self) -> &Map<String, Value> {
        &self.values
    }

    /// Returns the caller's values, including secrets, without defaults: the launcher binds them again.
    pub fn given(&self) -> &Map<String, Value> {
        &self.given
    }

    /// Returns all values with [`SECRET_SHOWN`](super::redact::SECRET_SHOWN) in place of each secret: for history, logs and listings.
    pub fn public(&self) -> &Map<String, Value> {
        &self.public
    }
}

impl fmt::Debug for BoundParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BoundParams").field(&self.public).finish()
    }
}

/// Binds a caller's values to `parameters`, or returns all errors (the first [`MAX_ERRORS`]).
///
/// Follows StackStorm: a default satisfies `required`, also inside objects and lists; `null` for a parameter that does
/// not accept it counts as not given; an `immutable` parameter always has its default.
pub fn bind(parameters: &Parameters, given: &Map<String, Value>) -> Result<BoundParams, Vec<ParamError>> {
    bind_with(parameters, given, unknown_parameter, undeliverable)
}

/// Binds a site configuration. It always reaches an action as JSON too (`BOLT_CONFIG`), so items of its lists may
/// contain commas; such a list has no variable of its own.
pub fn bind_config(parameters: &Parameters, given: &Map<String, Value>) -> Result<BoundParams, Vec<ParamError>> {
    bind_with(parameters, given, unknown_config_key, |name, schema, value| {
        undeliverable(name, schema, value).filter(|error| error.code != AMBIGUOUS_ITEM)
    })
}

const AMBIGUOUS_ITEM: &str = "ambiguous_item";

fn bind_with(
    parameters: &Parameters,
    given: &Map<String, Value>,
    unknown: impl Fn(&Parameters) -> String,
    undeliverable: impl Fn(&ParamName, &Schema, &Value) -> Option<ParamError>,
) -> Result<BoundParams, Vec<ParamError>> {
    let unknown_names = given.keys().filter(|name| !known(parameters, name)).take(MAX_ERRORS);
    let mut errors: Vec<ParamError> =
        unknown_names.map(|name| error(&shorten(name, 80), "unknown", unknown(parameters))).collect();
    let mut values = Map::new();
    for (name, schema) in parameters {
        match given.get(name.as_str()).filter(|value| !counts_as_absent(schema, value)) {
            Some(_) if schema.immutable => errors.push(error(
                name.as_str(),
                "immutable",
                "is immutable: the action sets its value, leave it out".to_owned(),
            )),
            Some(value) => {
                let value = with_defaults(schema, value.clone());
                let problems = check(schema, &value);
                errors.extend(problems.into_iter().map(|p| {
                    let mut parameter = name.to_string();
                    parameter.push_str(&p.place);
                    error(&parameter, "invalid", p.must)
                }));
                errors.extend(undeliverable(name, schema, &value));
                values.insert(name.to_string(), value);
            }
            None => match &schema.default {
                Some(default) if !default.is_null() => {
                    values.insert(name.to_string(), with_defaults(schema, default.clone()));
                }
                _ if schema.is_required() => errors.push(error(name.as_str(), "missing", missing(schema))),
                _ => {}
            },
        }
    }
    if !errors.is_empty() {
        errors.truncate(MAX_ERRORS);
        return Err(errors);
    }
    let public = redact_parameters(parameters, &values);
    Ok(BoundParams { values, given: given.clone(), public })
}

/// Fills in defaults of properties that are absent, or `null` without accepting it.
pub(super) fn with_defaults(schema: &Schema, value: Value) -> Value {
    match value {
        Value::Object(mut map) => {
            for (name, child) in &schema.properties {
                let absent = map.get(name).is_none_or(|value| counts_as_absent(child, value));
                if let (true, Some(default)) = (absent, child.default.as_ref().filter(|d| !d.is_null())) {
                    map.insert(name.clone(), default.clone());
                }
            }
            let fill = |(name, value): (String, Value)| {
                let filled =
                    schema.for_property(&name).into_iter().fold(value, |value, child| with_defaults(child, value));
                (name, filled)
            };
            Value::Object(map.into_iter().map(fill).collect())
        }
        Value::Array(items) => {
            let fill = |(index, item)| match schema.for_item(index) {
                Some(child) => with_defaults(child, item),
                None => item,
            };
            Value::Array(items.into_iter().enumerate().map(fill).collect())
        }
        other => other,
    }
}

/// Maximum size of one value as an argument or environment variable, in bytes. Linux allows 128 KiB (`MAX_ARG_STRLEN`).
const MAX_DELIVERED: usize = 96 << 10;
/// Maximum number of errors in one answer.
pub const MAX_ERRORS: usize = 100;

fn known(parameters: &Parameters, name: &str) -> bool {
    ParamName::new(name).is_ok_and(|name| parameters.contains_key(&name))
}

fn counts_as_absent(schema: &Schema, value: &Value) -> bool {
    let takes_null = schema.types.as_ref().is_some_and(|t| t.as_slice().contains(&Type::Null));
    value.is_null() && !takes_null
}

fn error(parameter: &str, code: &str, message: String) -> ParamError {
    ParamError { parameter: parameter.to_owned(), code: code.to_owned(), message }
}

fn unknown_parameter(parameters: &Parameters) -> String {
    format!("is not a parameter of this action: the action takes {}", names(parameters))
}

fn unknown_config_key(schema: &Parameters) -> String {
    format!("is not in config.schema.yaml, which has {}", names(schema))
}

fn names(parameters: &Parameters) -> String {
    let names: Vec<&str> = parameters.iter().filter(|(_, s)| !s.immutable).map(|(n, _)| n.as_str()).collect();
    if names.is_empty() { "none".to_owned() } else { shorten(&names.join(", "), 1000) }
}

fn missing(schema: &Schema) -> String {
    match &schema.description {
        Some(description) => format!("must be given: {}", shorten(description.trim(), 500)),
        None => "must be given".to_owned(),
    }
}

/// Returns the error of a value that cannot be passed to a process unchanged, or that would be parsed as an option.
///
/// A position may have a negative number, and any value of the parameter's `enum`.
pub(crate) fn undeliverable(name: &ParamName, schema: &Schema, value: &Value) -> Option<ParamError> {
    if schema.holds_secret() {
        return None;
    }
    let error = |code, message: &str| Some(error(name.as_str(), code, message.to_owned()));
    if schema.position.is_some() && schema.enumeration.is_none() && has_dash(schema, value) {
        return error("positional_dash", "must not start with '-': it is passed as a positional argument");
    }
    if has_nul(value) {
        return error("nul", "must not contain a NUL character");
    }
    if let Some((index, why)) = ambiguous_item(value) {
        let parameter = format!("{name}[{index}]");
        return Some(ParamError { parameter, code: AMBIGUOUS_ITEM.to_owned(), message: why.to_owned() });
    }
    if plain(value).len() > MAX_DELIVERED {
        return error("invalid", "is too long to be passed to a process: at most 96 KiB as text");
    }
    None
}

/// True if the value, or an item that a script would split off, would be parsed as an option.
fn has_dash(schema: &Schema, value: &Value) -> bool {
    let begins = |value: &Value| value.as_str().is_some_and(|text| text.starts_with('-'));
    match value.as_array() {
        None => begins(value),
        Some(items) => items.iter().enumerate().any(|(index, item)| {
            begins(item) && schema.for_item(index).is_none_or(|schema| schema.enumeration.is_none())
        }),
    }
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(map) => map.iter().any(|(key, value)| key.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
