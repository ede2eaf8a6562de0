//! Parameter language: JSON Schema draft 4 as StackStorm uses it.
//!
//! ```text
//!  action file ──parse──▶ Schema ──┐
//!                                  ├─bind──▶ BoundParams ──deliver──▶ stdin, environment, arguments
//!  caller's JSON object ───────────┘              └──public──▶ history, listings (no secrets)
//! ```
//!
//! Client, agent and launcher [`bind`](bind::bind) with the same code. Only a [`BoundParams`](bind::BoundParams) can be
//! delivered, and it exists only if every value fits.

pub mod bind;
pub mod cast;
pub mod check;
mod number;
mod parse;
mod pattern;
mod read;
pub mod redact;
pub(super) mod text;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

#[cfg(feature = "schemas")]
pub(crate) use parse::ANNOTATIONS;
pub use pattern::Pattern;

use crate::base::absent::{null_is_default, null_values};
use crate::base::name::ParamName;

/// Parameters of an action, by name.
pub type Parameters = BTreeMap<ParamName, Schema>;

/// JSON type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Type {
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A list.
    Array,
    /// A map.
    Object,
    /// `null`.
    Null,
}

/// Types of a value: one, or several of which one must match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Types {
    /// `type: string`
    One(Type),
    /// `type: [string, "null"]`
    Many(Vec<Type>),
}

impl Types {
    /// Returns the types as a slice.
    pub fn as_slice(&self) -> &[Type] {
        match self {
            Types::One(one) => std::slice::from_ref(one),
            Types::Many(many) => many,
        }
    }
}

/// Keyword `required`: a boolean on a parameter or property (StackStorm), or the names of an object's required
/// properties (draft 4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Required {
    /// This value must be given.
    This(bool),
    /// These properties must be given.
    Properties(Vec<String>),
}

/// Keywords `additionalProperties` and `additionalItems`: allowed or not, or a schema for them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Additional {
    /// Allowed or not.
    Allowed(bool),
    /// Schema of each.
    Schema(Box<Schema>),
}

/// Keyword `items`: one schema for all items, or one for each position.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Items {
    /// Schema of all items.
    All(Box<Schema>),
    /// Schemas by index.
    Each(Vec<Schema>),
}

/// Schema of a value. An absent keyword does not restrict values; unknown keywords are kept in `other` and become
/// findings when the action is checked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Schema {
    /// JSON type or types; absent: any type.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub types: Option<Types>,
    /// Description for callers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Value if the caller gives none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// `true`: the value must be given. On an object: the names of its required properties.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required: Option<Required>,
    /// `true`: callers cannot set it, it always has its default. Unlike other keys, `immutable` and `secret` must not
    /// be `null`.
    #[serde(skip_serializing_if = "is_false")]
    pub immutable: bool,
    /// `true`: passed on standard input only, and never stored or shown.
    #[serde(skip_serializing_if = "is_false")]
    pub secret: bool,
    /// Position among the positional arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u32>,
    /// Allowed values.
    #[serde(rename = "enum", skip_serializing_if = "Option::is_none")]
    pub enumeration: Option<Vec<Value>>,
    /// Regular expression that a string must contain a match of (anchor it with `^` and `$`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Pattern>,
    /// Minimum length of a string, in characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_length: Option<u64>,
    /// Maximum length of a string, in characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u64>,
    /// Minimum of a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum: Option<Number>,
    /// Maximum of a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum: Option<Number>,
    /// `true`: the number must be greater than `minimum`.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_false")]
    pub exclusive_minimum: bool,
    /// `true`: the number must be less than `maximum`.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_false")]
    pub exclusive_maximum: bool,
    /// The number must be a multiple of this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiple_of: Option<Number>,
    /// Schema of an array's items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<Items>,
    /// Schema of further items, if `items` has one schema for each position.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub additional_items: Option<Additional>,
    /// Minimum number of items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_items: Option<u64>,
    /// Maximum number of items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_items: Option<u64>,
    /// `true`: no two items may be equal.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_false")]
    pub unique_items: bool,
    /// Schemas of an object's properties, by name.
    #[serde(deserialize_with = "null_values", skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, Schema>,
    /// Schemas of properties whose name matches a pattern.
    #[serde(deserialize_with = "null_values", skip_serializing_if = "BTreeMap::is_empty")]
    pub pattern_properties: BTreeMap<Pattern, Schema>,
    /// Schema of all other properties.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub additional_properties: Option<Additional>,
    /// Minimum number of properties.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_properties: Option<u64>,
    /// Maximum number of properties.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_properties: Option<u64>,
    /// Unknown keywords.
    #[serde(flatten)]
    #[cfg_attr(feature = "schemas", schemars(skip))]
    pub other: BTreeMap<String, Value>,
}

impl Schema {
    /// True if the value must be given; a `default` satisfies this.
    pub fn is_required(&self) -> bool {
        matches!(self.required, Some(Required::This(true)))
    }

    /// True if this value or any value inside it is secret.
    pub fn holds_secret(&self) -> bool {
        self.secret || self.children().any(Schema::holds_secret)
    }

    /// Returns the schemas directly inside this one.
    pub(crate) fn children(&self) -> impl Iterator<Item = &Schema> {
        let items: &[Schema] = match &self.items {
            Some(Items::All(one)) => std::slice::from_ref(one),
            Some(Items::Each(each)) => each,
            None => &[],
        };
        let additional = [&self.additional_items, &self.additional_properties].into_iter().filter_map(|a| match a {
            Some(Additional::Schema(schema)) => Some(&**schema),
            _ => None,
        });
        items.iter().chain(self.properties.values()).chain(self.pattern_properties.values()).chain(additional)
    }

    /// Returns the schema of the item at `index` of an array.
    pub(crate) fn for_item(&self, index: usize) -> Option<&Schema> {
        match &self.items {
            Some(Items::All(each)) => Some(each),
            Some(Items::Each(each)) => each.get(index).or(match &self.additional_items {
                Some(Additional::Schema(rest)) => Some(rest),
                _ => None,
            }),
            None => None,
        }
    }

    /// Returns all schemas of the property `name` of an object.
    pub(crate) fn for_property(&self, name: &str) -> Vec<&Schema> {
        let matching = self.pattern_properties.iter().filter(|(pattern, _)| pattern.is_match(name));
        let mut schemas: Vec<&Schema> = self.properties.get(name).into_iter().collect();
        schemas.extend(matching.map(|(_, schema)| schema));
        if let (true, Some(Additional::Schema(rest))) = (schemas.is_empty(), &self.additional_properties) {
            schemas.push(rest);
        }
        schemas
    }

    /// Returns the findings about the schema itself; `at` names its place.
    pub fn findings(&self, at: &str) -> Vec<crate::base::finding::Finding> {
        parse::findings(self, at)
    }
}

fn is_false(value: &bool) -> bool {
    !value
}
