//! Steps of a document, of all schema versions, and whether they run on Linux.

use serde_json::{Value, json};

use super::parameters::is_reference;
use super::scripts::{parts, pieces};
use crate::pack::import::scripted::{Blocked, Parameter};
use crate::pack::import::shell::Part;
use crate::pack::import::steps::Piece;

/// Step of a document.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DocumentStep<'a> {
    pub(super) name: String,
    pub(super) action: &'a str,
    pub(super) inputs: &'a Value,
    /// The step as a whole, in documents of version 2.
    pub(super) whole: &'a Value,
}

/// Returns the steps.
pub(super) fn of(document: &Value) -> Vec<DocumentStep<'_>> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Some(steps) = document.get("mainSteps").and_then(Value::as_array) {
        return steps
            .iter()
            .enumerate()
            .map(|(index, step)| DocumentStep {
                name: Some(text(step, "name"))
                    .filter(|name| !name.is_empty())
                    .unwrap_or(format!("number {}", index + 1)),
                action: step.get("action").and_then(Value::as_str).unwrap_or_default(),
                inputs: step.get("inputs").unwrap_or(&Value::Null),
                whole: step,
            })
            .collect();
    }
    let plugins = document.get("runtimeConfig").and_then(Value::as_object).into_iter().flatten();
    plugins
        .flat_map(|(action, plugin)| {
            let properties = plugin.get("properties").unwrap_or(&Value::Null);
            let list = properties.as_array().map_or_else(|| vec![properties], |list| list.iter().collect());
            list.into_iter().enumerate().map(move |(index, inputs)| DocumentStep {
                name: inputs.get("id").and_then(Value::as_str).map_or_else(|| format!("{index}"), str::to_owned),
                action,
                inputs,
                whole: &Value::Null,
            })
        })
        .collect()
}

/// Condition under which a step runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    /// On Linux, if these pairs are equal.
    Linux(Vec<[Vec<Piece>; 2]>),
    /// On other systems only.
    Elsewhere,
}

/// Reads the precondition of a step.
pub(super) fn condition(
    step: &DocumentStep<'_>,
    version: &str,
    parameters: &[Parameter],
) -> Result<Condition, Blocked> {
    let blocked = |message: &str| {
        ("precondition", format!("{}: {message}; the step fails in Systems Manager as well", step.name))
    };
    let given = step.whole.get("precondition").and_then(Value::as_object).filter(|given| !given.is_empty());
    let Some(given) = given else { return Ok(Condition::Linux(Vec::new())) };
    if version != "2.2" {
        return Err(blocked("preconditions need schema version 2.2"));
    }
    let mut pairs = Vec::new();
    for (operator, operands) in given {
        let operands: Vec<&str> = operands.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let ("StringEquals", [left, right]) = (operator.as_str(), operands.as_slice()) else {
            return Err(blocked("only StringEquals of two texts is a precondition"));
        };
        if let Some(platform) = match (*left, *right) {
            ("platformType", "platformType") => None,
            ("platformType", platform) | (platform, "platformType") => Some(platform),
            _ => None,
        } {
            if !platform.eq_ignore_ascii_case("linux") {
                return Ok(Condition::Elsewhere);
            }
            continue;
        }
        let has_value = |text: &str| parts(text, parameters).iter().any(|part| matches!(part, Part::Value(_)));
        if left == right || is_reference(left) || is_reference(right) || !(has_value(left) || has_value(right)) {
            return Err(blocked("a precondition compares a parameter with a text"));
        }
        pairs.push([pieces(&json!(left), parameters), pieces(&json!(right), parameters)]);
    }
    Ok(Condition::Linux(pairs))
}
