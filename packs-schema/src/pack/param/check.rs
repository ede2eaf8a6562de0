//! Checks a value against a schema and reports every problem, each with its place and the expected value.
//!
//! Equal to draft 4 of JSON Schema for the keywords that Bolt supports, plus StackStorm's boolean `required` on
//! properties; `tests/formats/validator.rs` compares it with the `jsonschema` crate. Differences, and their reasons:
//!
//! - Patterns have the `regex-lite` dialect: `\d`, `\w`, `\s` and `\b` match ASCII only. In ECMA 262 `\s` includes
//!   non-ASCII white space; in the crate `\b` includes non-ASCII letters.
//! - A pattern with long counted repetitions is matched against at most 8 KiB of text; longer text does not fit.
//! - `multipleOf` compares decimals as written. Beyond 2^53, and for extreme exponents, the crate rounds to binary
//!   first and differs.
//! - An integer has 64 bits and is written without a fraction: `1.0` is not one (draft 4 and StackStorm compare the
//!   notation), and neither is a larger number, which was rounded to a float when it was parsed. The crate accepts such
//!   a float.
//!
//! For secrets, problems contain neither the value, nor its length, nor names of properties.

use serde_json::{Number, Value};

use crate::base::strict::{shorten, type_name};

use super::number::{compare, equal, is_multiple, repeated};
use super::redact::SECRET_SHOWN;
use super::{Additional, Items, Required, Schema, Type};

/// Problem of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Place inside the value: `""`, `[2]`, `.name`, `[0].port`.
    pub place: String,
    /// Expected value: `must be an integer, not a string`. Never contains the value of a secret.
    pub must: String,
}

impl Problem {
    /// Formats the problem as a sentence about `name`.
    pub fn describe(&self, name: &str) -> String {
        format!("{name}{} {}", self.place, self.must)
    }
}

/// Maximum number of reported problems; a hostile array could have millions.
const MAX_PROBLEMS: usize = 64;

/// Maximum amount of text matched against heavy patterns in one value, in bytes: about 40 ms.
const MAX_HEAVY: usize = 8 << 10;

/// Returns the problems of `value`, at most 64.
pub fn check(schema: &Schema, value: &Value) -> Vec<Problem> {
    let mut problems = Problems { found: Vec::new(), heavy_left: MAX_HEAVY };
    walk(schema, value, "", schema.secret, &mut problems);
    problems.found
}

struct Problems {
    found: Vec<Problem>,
    heavy_left: usize,
}

impl Problems {
    fn add(&mut self, place: &str, must: impl Into<String>) {
        if self.found.len() < MAX_PROBLEMS {
            self.found.push(Problem { place: place.to_owned(), must: must.into() });
        }
    }
}

fn walk(schema: &Schema, value: &Value, place: &str, secret: bool, problems: &mut Problems) {
    if problems.found.len() >= MAX_PROBLEMS {
        return;
    }
    let secret = secret || schema.secret;
    if let Some(types) = &schema.types
        && !types.as_slice().iter().any(|t| is_type(*t, value))
    {
        let wanted: Vec<&str> = types.as_slice().iter().map(|t| wanted_type(*t)).collect();
        problems.add(place, format!("must be {}, not {}", wanted.join(" or "), type_name(value)));
        return;
    }
    if let Some(allowed) = &schema.enumeration
        && !allowed.iter().any(|a| equal(a, value))
    {
        let list: Vec<String> = allowed.iter().take(20).map(Value::to_string).collect();
        let more = if allowed.len() > 20 { ", …" } else { "" };
        let list = shorten(&list.join(", "), 1000);
        problems.add(place, format!("must be one of {list}{more}"));
    }
    match value {
        Value::String(text) => check_string(schema, text, place, secret, problems),
        Value::Number(number) => check_number(schema, number, place, problems),
        Value::Array(items) => check_array(schema, items, place, secret, problems),
        Value::Object(map) => check_object(schema, map, place, secret, problems),
        Value::Null | Value::Bool(_) => {}
    }
}

fn check_string(schema: &Schema, text: &str, place: &str, secret: bool, problems: &mut Problems) {
    let length = text.chars().count() as u64;
    if let Some(min) = schema.min_length.filter(|min| length < *min) {
        problems.add(place, format!("must have at least {min} characters{}", not(length, secret)));
    }
    if let Some(max) = schema.max_length.filter(|max| length > *max) {
        problems.add(place, format!("must have at most {max} characters{}", not(length, secret)));
    }
    let Some(pattern) = &schema.pattern else { return };
    if pattern.is_heavy() {
        let Some(left) = problems.heavy_left.checked_sub(text.len()) else {
            problems.add(place, format!("is too long to be matched with {}", pattern.as_str()));
            return;
        };
        problems.heavy_left = left;
    }
    if !pattern.is_match(text) {
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
        problems.add(place, format!("must have at least {min} items{}", not(count, secret)));
    }
    if let Some(max) = schema.max_items.filter(|max| count > *max) {
        problems.add(place, format!("must have at most {max} items{}", not(count, secret)));
    }
    if schema.unique_items
        && let Some(at) = repeated(items)
    {
        problems.add(&format!("{place}[{at}]"), "must not repeat an earlier item");
    }
    let places = match (&schema.items, &schema.additional_items) {
        (Some(Items::Each(each)), Some(Additional::Allowed(false))) => each.len(),
        _ => items.len(),
    };
    for (index, item) in items.iter().enumerate() {
        let at = || format!("{place}[{index}]");
        if let Some(child) = schema.for_item(index) {
            walk(child, item, &at(), secret, problems);
        } else if index >= places {
            problems.add(&at(), format!("must not be given: at most {places} items"));
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
        problems.add(place, format!("must have at least {min} properties{}", not(count, secret)));
    }
    if let Some(max) = schema.max_properties.filter(|max| count > *max) {
        problems.add(place, format!("must have at most {max} properties{}", not(count, secret)));
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
        let at = match secret && !schema.properties.contains_key(name) {
            true => format!("{place}.{SECRET_SHOWN}"),
            false => format!("{place}.{}", shorten(name, 80)),
        };
        let children = schema.for_property(name);
        let secret = secret || children.iter().any(|child| child.secret);
        for child in &children {
            walk(child, value, &at, secret, problems);
        }
        if children.is_empty() && schema.additional_properties == Some(Additional::Allowed(false)) {
            let names: Vec<&str> = schema.properties.keys().map(String::as_str).take(20).collect();
            let known = shorten(&names.join(", "), 1000);
            problems.add(&at, format!("is not a known property; known properties: {known}"));
        }
    }
}

/// Returns the actual number for a message, unless it would reveal something about a secret.
fn not(count: u64, secret: bool) -> String {
    if secret { String::new() } else { format!(", not {count}") }
}

/// True if `value` has the type `wanted`.
pub(super) fn is_type(wanted: Type, value: &Value) -> bool {
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

fn wanted_type(wanted: Type) -> &'static str {
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
