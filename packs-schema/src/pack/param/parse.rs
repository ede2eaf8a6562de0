//! Checks of a schema itself, when its pack is linted or activated.

use crate::base::finding::Finding;
use crate::base::strict::shorten;

use super::bind::with_defaults;
use super::check::{check, is_type};
use super::number::compare;
use super::{Items, Required, Schema, Type};

/// Annotations of JSON Schema, which do not restrict values.
pub(crate) const ANNOTATIONS: [&str; 5] = ["title", "format", "examples", "$schema", "id"];

/// Returns the findings about `schema` and the schemas inside it.
pub(super) fn findings(schema: &Schema, at: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    walk(schema, at, &mut found);
    found
}

fn walk(schema: &Schema, at: &str, found: &mut Vec<Finding>) {
    for keyword in schema.other.keys().filter(|k| !ANNOTATIONS.contains(&k.as_str())) {
        found.push(Finding::error(
            "unknown_keyword",
            format!("{at}.{keyword}"),
            format!(
                "{keyword:?} is not a supported keyword and would have no effect; remove it or use a supported keyword"
            ),
        ));
    }
    if let Some(default) = &schema.default
        && !default.is_null()
    {
        for problem in check(schema, &with_defaults(schema, default.clone())) {
            found.push(Finding::error(
                "default_does_not_fit",
                format!("{at}.default"),
                format!("the default does not fit its own schema: {}", problem.describe("the default")),
            ));
        }
    }
    if schema.enumeration.as_ref().is_some_and(Vec::is_empty) {
        found.push(Finding::error(
            "empty_enum",
            format!("{at}.enum"),
            "an empty enum allows no value; list at least one",
        ));
    }
    let types = schema.types.as_ref().map_or(&[][..], |types| types.as_slice());
    let strangers = schema.enumeration.iter().flatten().filter(|value| !types.iter().any(|t| is_type(*t, value)));
    for value in strangers.filter(|_| !types.is_empty()).take(3) {
        let value = shorten(&value.to_string(), 80);
        found.push(Finding::warning(
            "enum_does_not_fit",
            format!("{at}.enum"),
            format!(
                "{value} does not have the parameter's type (YAML reads on, off, yes and no as booleans: quote them)"
            ),
        ));
    }
    if let Some(step) = schema.multiple_of.as_ref().filter(|step| step.as_f64().is_some_and(|step| step <= 0.0)) {
        found.push(Finding::error(
            "impossible",
            format!("{at}.multipleOf"),
            format!("nothing is a multiple of {step}; give a number above 0"),
        ));
    }
    for (low, high, names) in [
        (schema.min_length, schema.max_length, "minLength and maxLength"),
        (schema.min_items, schema.max_items, "minItems and maxItems"),
        (schema.min_properties, schema.max_properties, "minProperties and maxProperties"),
    ] {
        if low.zip(high).is_some_and(|(low, high)| low > high) {
            found.push(Finding::error("impossible", at, format!("no value satisfies both {names}")));
        }
    }
    if let (Some(low), Some(high)) = (&schema.minimum, &schema.maximum)
        && compare(low, high).is_gt()
    {
        found.push(Finding::error("impossible", at, "no value satisfies both minimum and maximum"));
    }
    let has = |t: Type| schema.types.as_ref().is_none_or(|types| types.as_slice().contains(&t));
    for (present, keyword, fits) in [
        (schema.pattern.is_some(), "pattern", has(Type::String)),
        (schema.items.is_some(), "items", has(Type::Array)),
        (!schema.properties.is_empty(), "properties", has(Type::Object)),
        (
            schema.minimum.is_some() || schema.maximum.is_some(),
            "minimum or maximum",
            has(Type::Integer) || has(Type::Number),
        ),
    ] {
        if present && !fits {
            found.push(Finding::warning(
                "keyword_without_effect",
                at,
                format!("{keyword} has no effect on a value of this type"),
            ));
        }
    }
    if let Some(Required::Properties(names)) = &schema.required {
        for name in names.iter().filter(|n| !schema.properties.is_empty() && !schema.properties.contains_key(*n)) {
            found.push(Finding::warning(
                "unknown_required",
                at,
                format!("required property {name:?} is not among the properties"),
            ));
        }
    }
    for child in schema.children().filter(|child| child.immutable || child.position.is_some()) {
        let keyword = if child.immutable { "immutable" } else { "position" };
        let message = format!("{keyword} has no effect inside a parameter");
        found.push(Finding::warning("keyword_without_effect", at, message));
    }
    for (name, child) in &schema.properties {
        walk(child, &format!("{at}.properties.{name}"), found);
    }
    match &schema.items {
        Some(Items::All(child)) => walk(child, &format!("{at}.items"), found),
        Some(Items::Each(each)) => {
            for (index, child) in each.iter().enumerate() {
                walk(child, &format!("{at}.items[{index}]"), found);
            }
        }
        None => {}
    }
    for (name, additional) in
        [("additionalItems", &schema.additional_items), ("additionalProperties", &schema.additional_properties)]
    {
        if let Some(super::Additional::Schema(child)) = additional {
            walk(child, &format!("{at}.{name}"), found);
        }
    }
    for (name, child) in &schema.pattern_properties {
        if name.is_heavy() {
            let message = "takes long to match; write it without long counted repetitions such as {1,255}";
            found.push(Finding::error("heavy_pattern", format!("{at}.patternProperties[{}]", name.as_str()), message));
        }
        walk(child, &format!("{at}.patternProperties[{}]", name.as_str()), found);
    }
}
