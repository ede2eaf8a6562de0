//! Whether a value fits a schema: every problem at once, each with its place and what would be right.
//!
//! Equal to draft 4 of JSON Schema on the keywords that Bolt knows, plus StackStorm's boolean
//! `required` on properties; a property test holds it to the `jsonschema` crate.

use serde_json::{Number, Value};

use crate::strict::kind;

use super::{Additional, Items, Required, Schema, Type};

/// One way in which a value does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where inside the value: `""`, `[2]`, `.name`, `[0].port`.
    pub place: String,
    /// What would be right: `must be an integer, not a string`. Never holds the value of a secret.
    pub must: String,
}

impl Problem {
    /// The problem as a sentence about `name`.
    pub fn describe(&self, name: &str) -> String {
        format!("{name}{} {}", self.place, self.must)
    }
}

/// The most problems that are listed; a hostile array could have millions.
const MAX_PROBLEMS: usize = 64;

/// Every way in which `value` does not fit `schema`, the first [`MAX_PROBLEMS`] of them.
pub fn check(schema: &Schema, value: &Value) -> Vec<Problem> {
    let mut problems = Problems { found: Vec::new() };
    walk(schema, value, "", schema.secret, &mut problems);
    problems.found
}

struct Problems {
    found: Vec<Problem>,
}

impl Problems {
    fn add(&mut self, place: &str, must: impl Into<String>) {
        if self.found.len() < MAX_PROBLEMS {
            self.found.push(Problem { place: place.to_owned(), must: must.into() });
        }
    }
}

fn walk(schema: &Schema, value: &Value, place: &str, secret: bool, problems: &mut Problems) {
    let secret = secret || schema.secret;
    if let Some(types) = &schema.types
        && !types.as_slice().iter().any(|t| is_type(*t, value))
    {
        let wanted: Vec<&str> = types.as_slice().iter().map(|t| type_name(*t)).collect();
        problems.add(place, format!("must be {}, not {}", wanted.join(" or "), kind(value)));
        return;
    }
    if let Some(allowed) = &schema.enumeration
        && !allowed.iter().any(|a| equal(a, value))
    {
        let list: Vec<String> = allowed.iter().take(20).map(Value::to_string).collect();
        let more = if allowed.len() > 20 { ", …" } else { "" };
        problems.add(place, format!("must be one of {}{more}", list.join(", ")));
    }
    match value {
        Value::String(text) => check_string(schema, text, place, problems),
        Value::Number(number) => check_number(schema, number, place, problems),
        Value::Array(items) => check_array(schema, items, place, secret, problems),
        Value::Object(map) => check_object(schema, map, place, secret, problems),
        Value::Null | Value::Bool(_) => {}
    }
}

fn check_string(schema: &Schema, text: &str, place: &str, problems: &mut Problems) {
    let length = text.chars().count() as u64;
    if let Some(min) = schema.min_length.filter(|min| length < *min) {
        problems.add(place, format!("must have at least {min} characters, not {length}"));
    }
    if let Some(max) = schema.max_length.filter(|max| length > *max) {
        problems.add(place, format!("must have at most {max} characters, not {length}"));
    }
    if let Some(pattern) = schema.pattern.as_ref().filter(|p| !p.is_match(text)) {
        problems.add(place, format!("must match {}", pattern.as_str()));
    }
}

fn check_number(schema: &Schema, number: &Number, place: &str, problems: &mut Problems) {
    use std::cmp::Ordering::{Equal, Greater, Less};
    if let Some(min) = &schema.minimum {
        let order = compare(number, min);
        if order == Less || (order == Equal && schema.exclusive_minimum) {
            let word = if schema.exclusive_minimum { "more than" } else { "at least" };
            problems.add(place, format!("must be {word} {min}"));
        }
    }
    if let Some(max) = &schema.maximum {
        let order = compare(number, max);
        if order == Greater || (order == Equal && schema.exclusive_maximum) {
            let word = if schema.exclusive_maximum { "less than" } else { "at most" };
            problems.add(place, format!("must be {word} {max}"));
        }
    }
    if let Some(step) = schema.multiple_of.as_ref().filter(|step| !is_multiple(number, step)) {
        problems.add(place, format!("must be a multiple of {step}"));
    }
}

fn check_array(schema: &Schema, items: &[Value], place: &str, secret: bool, problems: &mut Problems) {
    let count = items.len() as u64;
    if let Some(min) = schema.min_items.filter(|min| count < *min) {
        problems.add(place, format!("must have at least {min} items, not {count}"));
    }
    if let Some(max) = schema.max_items.filter(|max| count > *max) {
        problems.add(place, format!("must have at most {max} items, not {count}"));
    }
    if schema.unique_items
        && let Some(at) = (1..items.len()).find(|i| items[..*i].iter().any(|earlier| equal(earlier, &items[*i])))
    {
        problems.add(&format!("{place}[{at}]"), "must not repeat an earlier item");
    }
    for (index, item) in items.iter().enumerate() {
        let at = || format!("{place}[{index}]");
        match &schema.items {
            None => {}
            Some(Items::All(each)) => walk(each, item, &at(), secret, problems),
            Some(Items::Each(each)) => match (each.get(index), &schema.additional_items) {
                (Some(one), _) => walk(one, item, &at(), secret, problems),
                (None, Some(Additional::Schema(rest))) => walk(rest, item, &at(), secret, problems),
                (None, Some(Additional::Allowed(false))) => {
                    problems.add(&at(), format!("must not be there: at most {} items", each.len()));
                }
                (None, None | Some(Additional::Allowed(true))) => {}
            },
        }
    }
}

fn check_object(
    schema: &Schema,
    map: &serde_json::Map<String, Value>,
    place: &str,
    secret: bool,
    problems: &mut Problems,
) {
    let count = map.len() as u64;
    if let Some(min) = schema.min_properties.filter(|min| count < *min) {
        problems.add(place, format!("must have at least {min} properties, not {count}"));
    }
    if let Some(max) = schema.max_properties.filter(|max| count > *max) {
        problems.add(place, format!("must have at most {max} properties, not {count}"));
    }
    let listed: &[String] = match &schema.required {
        Some(Required::Properties(names)) => names,
        _ => &[],
    };
    let flagged = schema.properties.iter().filter(|(_, child)| child.is_required()).map(|(name, _)| name);
    let missing = listed.iter().chain(flagged.filter(|name| !listed.contains(name)));
    for name in missing.filter(|name| !map.contains_key(*name)) {
        problems.add(&format!("{place}.{name}"), "must be given");
    }
    for (name, value) in map {
        let at = format!("{place}.{}", name.chars().take(80).collect::<String>());
        let mut known = false;
        if let Some(child) = schema.properties.get(name) {
            known = true;
            walk(child, value, &at, secret, problems);
        }
        for (_, child) in schema.pattern_properties.iter().filter(|(pattern, _)| pattern.is_match(name)) {
            known = true;
            walk(child, value, &at, secret, problems);
        }
        match &schema.additional_properties {
            _ if known => {}
            None | Some(Additional::Allowed(true)) => {}
            Some(Additional::Schema(rest)) => walk(rest, value, &at, secret, problems),
            Some(Additional::Allowed(false)) => {
                let names: Vec<&str> = schema.properties.keys().map(String::as_str).take(20).collect();
                problems.add(&at, format!("is not a known property; known are: {}", names.join(", ")));
            }
        }
    }
}

fn is_type(wanted: Type, value: &Value) -> bool {
    match (wanted, value) {
        (Type::String, Value::String(_))
        | (Type::Boolean, Value::Bool(_))
        | (Type::Number, Value::Number(_))
        | (Type::Array, Value::Array(_))
        | (Type::Object, Value::Object(_))
        | (Type::Null, Value::Null) => true,
        // Draft 4: an integer is a number written without a fraction.
        (Type::Integer, Value::Number(number)) => !number.is_f64(),
        _ => false,
    }
}

fn type_name(wanted: Type) -> &'static str {
    match wanted {
        Type::String => "a string",
        Type::Integer => "an integer",
        Type::Number => "a number",
        Type::Boolean => "a boolean",
        Type::Array => "an array",
        Type::Object => "an object",
        Type::Null => "null",
    }
}

/// An integer as itself, so that 2^53 + 1 is not rounded.
fn integer(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

fn float(number: &Number) -> f64 {
    number.as_f64().unwrap_or(f64::NAN)
}

fn compare(a: &Number, b: &Number) -> std::cmp::Ordering {
    match (integer(a), integer(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(a), None) => compare_mixed(a, float(b)),
        (None, Some(b)) => compare_mixed(b, float(a)).reverse(),
        (None, None) => float(a).total_cmp(&float(b)),
    }
}

/// Exact: a float beyond the integers decides by its sign, any other by its floor and what is left.
fn compare_mixed(integer: i128, float: f64) -> std::cmp::Ordering {
    if float.abs() >= 1e30 {
        return 0.0_f64.total_cmp(&float);
    }
    let floor = float.floor();
    integer.cmp(&(floor as i128)).then(if float > floor { std::cmp::Ordering::Less } else { std::cmp::Ordering::Equal })
}

fn is_multiple(number: &Number, step: &Number) -> bool {
    match (integer(number), integer(step)) {
        (_, Some(0)) => false,
        (Some(number), Some(step)) => number % step == 0,
        _ => {
            let quotient = float(number) / float(step);
            quotient.is_finite() && (quotient - quotient.round()).abs() < 1e-9
        }
    }
}

/// Equality of JSON Schema: `1` and `1.0` are the same number.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare(a, b).is_eq(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}
