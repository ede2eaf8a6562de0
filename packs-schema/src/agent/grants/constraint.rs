//! Constraints on the values of parameters, in the language of parameters ([`crate::pack::param`]).

use serde::Deserialize;
use serde_json::Value;

use crate::base::finding::Severity;
use crate::pack::param::check::check;
use crate::pack::param::{Items, Required, Schema};

/// Constraint on the value of a parameter: a schema that it must fit, besides that of the action.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Schema")]
pub struct Constraint(Schema);

impl TryFrom<Schema> for Constraint {
    type Error = String;
    fn try_from(schema: Schema) -> Result<Constraint, String> {
        let findings = schema.findings("the constraint");
        if let Some(finding) = findings.iter().find(|finding| finding.severity == Severity::Error) {
            return Err(format!("{}: {}", finding.at, finding.message));
        }
        match find_meaningless(&schema) {
            Some(keyword) => Err(format!(
                "{keyword:?} restricts no value and has no effect in a constraint: use enum, pattern, type, minimum, \
                 maximum and the like"
            )),
            None => Ok(Constraint(schema)),
        }
    }
}

/// Returns a keyword that says something about a parameter, but not about its values.
fn find_meaningless(schema: &Schema) -> Option<String> {
    let own = [
        ("default", schema.default.is_some()),
        ("description", schema.description.is_some()),
        ("immutable", schema.immutable),
        ("secret", schema.secret),
        ("position", schema.position.is_some()),
        ("required", matches!(schema.required, Some(Required::This(_)))),
    ];
    let unknown = schema.other.keys().next().cloned();
    let own = own.into_iter().find(|(_, is_set)| *is_set).map(|(keyword, _)| keyword.to_owned());
    unknown.or(own).or_else(|| schema.children().find_map(find_meaningless))
}

impl Constraint {
    /// True if the value fits. A parameter without a value fits no constraint.
    pub fn allows(&self, value: Option<&Value>) -> bool {
        value.is_some_and(|value| check(&self.0, value).is_empty() && is_of_meant_type(&self.0, value))
    }
}

/// True if the value and those inside it have a type that the schema restricts, and what the schema names inside it is there. In
/// JSON Schema `pattern` lets every number and list pass; in a constraint, `pattern` without `type` means text, or another type
/// of the parameter would escape it. So would an absent property, for which an action may have a value of its own.
fn is_of_meant_type(schema: &Schema, value: &Value) -> bool {
    let text = schema.pattern.is_some() || schema.min_length.is_some() || schema.max_length.is_some();
    let number = schema.minimum.is_some() || schema.maximum.is_some() || schema.multiple_of.is_some();
    let list = schema.items.is_some()
        || schema.additional_items.is_some()
        || schema.min_items.is_some()
        || schema.max_items.is_some()
        || schema.unique_items;
    let object = !schema.properties.is_empty()
        || !schema.pattern_properties.is_empty()
        || schema.additional_properties.is_some()
        || schema.min_properties.is_some()
        || schema.max_properties.is_some()
        || schema.required.is_some();
    let is_typed = schema.types.is_some() || schema.enumeration.is_some() || !(text || number || list || object);
    let fits = is_typed
        || match value {
            Value::String(_) => text,
            Value::Number(_) => number,
            Value::Array(_) => list,
            Value::Object(_) => object,
            Value::Null | Value::Bool(_) => false,
        };
    fits && match value {
        Value::Array(items) => {
            let named = if let Some(Items::Each(each)) = &schema.items { each.len() } else { 0 };
            let is_meant =
                |(at, item): (usize, &Value)| schema.for_item(at).is_none_or(|schema| is_of_meant_type(schema, item));
            items.len() >= named && items.iter().enumerate().all(is_meant)
        }
        Value::Object(properties) => {
            let is_meant = |(name, property): (&String, &Value)| {
                schema.for_property(name).into_iter().all(|schema| is_of_meant_type(schema, property))
            };
            schema.properties.keys().all(|name| properties.contains_key(name)) && properties.iter().all(is_meant)
        }
        _ => true,
    }
}

/// Formats the constraint as JSON. It contains nothing of a caller's values.
impl std::fmt::Display for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&serde_json::to_string(&self.0).map_err(|_| std::fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_keyword_for_one_type_lets_no_other_type_pass() {
        let allows =
            |schema: Value, value: Value| serde_json::from_value::<Constraint>(schema).unwrap().allows(Some(&value));
        let pattern = json!({"pattern": "^app_"});
        assert!(allows(pattern.clone(), json!("app_users")));
        for other in [json!(["system_auth"]), json!(null), json!(1), json!(true), json!({"a": "b"})] {
            assert!(!allows(pattern.clone(), other.clone()), "{other}");
        }
        let most = json!({"maximum": 10});
        assert!(allows(most.clone(), json!(10)) && !allows(most, json!("1000")));
        let items = json!({"items": {"pattern": "^app_"}});
        assert!(allows(items.clone(), json!(["app_a", "app_b"])));
        assert!(!allows(items.clone(), json!("system")) && !allows(items, json!(["app_a", ["system"]])));
        assert!(allows(json!({"type": ["string", "null"], "pattern": "^app_"}), json!(null)), "a written type decides");
        assert!(allows(json!({"enum": [1, "one"]}), json!(1)));
    }

    #[test]
    fn what_is_absent_inside_a_value_fits_no_constraint() {
        let allows = |schema: &Value, value: Value| {
            serde_json::from_value::<Constraint>(schema.clone()).unwrap().allows(Some(&value))
        };
        let mode = json!({"properties": {"mode": {"enum": ["safe"]}}});
        assert!(allows(&mode, json!({"mode": "safe"})) && allows(&mode, json!({"mode": "safe", "more": 1})));
        for other in [json!({}), json!({"mode": null}), json!({"mode": "force"}), json!({"Mode": "safe"})] {
            assert!(!allows(&mode, other.clone()), "{other}");
        }
        let nested = json!({"items": {"properties": {"keyspace": {"pattern": "^app_"}}}});
        assert!(allows(&nested, json!([{"keyspace": "app_a"}])) && allows(&nested, json!([])));
        assert!(!allows(&nested, json!([{"keyspace": "app_a"}, {}])));
        let places = json!({"items": [{"enum": ["status"]}, {"maximum": 10}]});
        assert!(allows(&places, json!(["status", 10])) && allows(&places, json!(["status", 10, "more"])));
        assert!(!allows(&places, json!([])) && !allows(&places, json!(["status"])));
    }
}
