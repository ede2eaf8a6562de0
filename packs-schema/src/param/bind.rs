//! A caller's values bound to an action's parameters: all of them fit, or every error at once.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::name::ParamName;

use super::check::check;
use super::{Additional, Items, Parameters, Schema, Type};

/// What stands where a secret was given.
pub const SECRET_SHOWN: &str = "[secret]";

/// What is wrong with one parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ParamError {
    /// The parameter, with its place inside: `servers[2].port`.
    pub parameter: String,
    /// A stable name: `unknown`, `missing`, `immutable`, `invalid`, `positional_dash` or `nul`.
    pub code: String,
    /// What would be right.
    pub message: String,
}

impl fmt::Display for ParamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.parameter, self.message)
    }
}

/// Values that fit their parameters, with defaults filled in. Prints and serialises without secrets.
#[derive(Clone, PartialEq)]
pub struct BoundParams {
    values: Map<String, Value>,
    given: Map<String, Value>,
    public: Map<String, Value>,
}

impl BoundParams {
    /// Everything, secrets included: for the action's standard input only.
    pub fn values(&self) -> &Map<String, Value> {
        &self.values
    }

    /// What the caller gave, secrets included: what the launcher binds again.
    pub fn given(&self) -> &Map<String, Value> {
        &self.given
    }

    /// Everything, with [`SECRET_SHOWN`] in place of each secret: for history, logs and listings.
    pub fn public(&self) -> &Map<String, Value> {
        &self.public
    }
}

impl fmt::Debug for BoundParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BoundParams").field(&self.public).finish()
    }
}

/// Binds what a caller gave to `parameters`, or says everything that is wrong with it.
///
/// As StackStorm means it: a default satisfies `required`; `null` for a parameter that is not required
/// counts as not given; an `immutable` parameter always has its default.
pub fn bind(parameters: &Parameters, given: &Map<String, Value>) -> Result<BoundParams, Vec<ParamError>> {
    let mut errors = Vec::new();
    for name in given.keys().filter(|name| !known(parameters, name)) {
        errors.push(unknown(parameters, name));
    }
    let mut values = Map::new();
    for (name, schema) in parameters {
        match given.get(name.as_str()).filter(|value| !counts_as_absent(schema, value)) {
            Some(_) if schema.immutable => errors.push(error(
                name.as_str(),
                "immutable",
                "is immutable: its value belongs to the action, leave it out".to_owned(),
            )),
            Some(value) => {
                let problems = check(schema, value);
                errors.extend(problems.into_iter().map(|p| {
                    let mut parameter = name.to_string();
                    parameter.push_str(&p.place);
                    error(&parameter, "invalid", p.must)
                }));
                errors.extend(undeliverable(name, schema, value));
                values.insert(name.to_string(), value.clone());
            }
            None => match &schema.default {
                Some(default) if !default.is_null() => {
                    values.insert(name.to_string(), default.clone());
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

/// The most errors that one answer lists.
const MAX_ERRORS: usize = 100;

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

fn unknown(parameters: &Parameters, name: &str) -> ParamError {
    let shown: String = name.chars().take(80).collect();
    let names: Vec<&str> = parameters.iter().filter(|(_, s)| !s.immutable).map(|(n, _)| n.as_str()).collect();
    let known = if names.is_empty() {
        "the action takes none".to_owned()
    } else {
        format!("the action takes {}", names.join(", "))
    };
    error(&shown, "unknown", format!("is not a parameter of this action: {known}"))
}

fn missing(schema: &Schema) -> String {
    match &schema.description {
        Some(description) => format!("must be given: {}", description.trim()),
        None => "must be given".to_owned(),
    }
}

/// What cannot be handed to a process unchanged, or would be read as an option by it.
fn undeliverable(name: &ParamName, schema: &Schema, value: &Value) -> Option<ParamError> {
    if schema.holds_secret() {
        return None;
    }
    if schema.position.is_some() && value.as_str().is_some_and(|text| text.starts_with('-')) {
        let message = "must not begin with '-': it is passed as a positional argument".to_owned();
        return Some(error(name.as_str(), "positional_dash", message));
    }
    has_nul(value).then(|| error(name.as_str(), "nul", "must not contain a NUL character".to_owned()))
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(map) => map.iter().any(|(key, value)| key.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// `values` with each secret, however deep, replaced by [`SECRET_SHOWN`].
fn redact_parameters(parameters: &Parameters, values: &Map<String, Value>) -> Map<String, Value> {
    let mut shown = Map::new();
    for (name, value) in values {
        let schema = ParamName::new(name.as_str()).ok().and_then(|n| parameters.get(&n));
        shown.insert(name.clone(), schema.map_or_else(|| value.clone(), |schema| redact(schema, value)));
    }
    shown
}

fn redact(schema: &Schema, value: &Value) -> Value {
    if schema.secret {
        return Value::String(SECRET_SHOWN.to_owned());
    }
    if !schema.holds_secret() {
        return value.clone();
    }
    match value {
        Value::Array(items) => Value::Array(items.iter().enumerate().map(|(i, v)| redact_item(schema, i, v)).collect()),
        Value::Object(map) => {
            Value::Object(map.iter().map(|(name, v)| (name.clone(), redact_property(schema, name, v))).collect())
        }
        other => other.clone(),
    }
}

fn redact_item(schema: &Schema, index: usize, value: &Value) -> Value {
    match (&schema.items, &schema.additional_items) {
        (Some(Items::All(each)), _) => redact(each, value),
        (Some(Items::Each(each)), rest) => match (each.get(index), rest) {
            (Some(one), _) => redact(one, value),
            (None, Some(Additional::Schema(rest))) => redact(rest, value),
            _ => value.clone(),
        },
        (None, _) => value.clone(),
    }
}

fn redact_property(schema: &Schema, name: &str, value: &Value) -> Value {
    let named = schema.properties.get(name).into_iter();
    let matching = schema.pattern_properties.iter().filter(|(pattern, _)| pattern.is_match(name)).map(|(_, s)| s);
    let mut schemas: Vec<&Schema> = named.chain(matching).collect();
    if let (true, Some(Additional::Schema(rest))) = (schemas.is_empty(), &schema.additional_properties) {
        schemas.push(rest);
    }
    schemas.iter().fold(value.clone(), |shown, schema| redact(schema, &shown))
}
