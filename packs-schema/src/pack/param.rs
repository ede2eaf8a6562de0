//! The parameter language: JSON Schema draft 4 as StackStorm uses it.
//!
//! ```text
//!  action file ──parse──▶ Schema ──┐
//!                                  ├─bind──▶ BoundParams ──deliver──▶ stdin, environment, arguments
//!  caller's JSON object ───────────┘              └──public──▶ history, listings (no secrets)
//! ```
//!
//! Client, agent and launcher all [`bind`](bind::bind) with the same code. Only a [`BoundParams`](bind::BoundParams) can be
//! delivered, and it exists only when every value fits.

pub mod bind;
pub mod cast;
pub mod check;
pub mod deliver;
mod number;
mod parse;
mod pattern;
mod read;
mod redact;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};

#[cfg(feature = "schemas")]
pub(crate) use parse::ANNOTATIONS;
pub use pattern::Pattern;

use crate::base::absent::{null_is_default, null_values};
use crate::base::name::ParamName;

/// The parameters of an action, by name.
pub type Parameters = BTreeMap<ParamName, Schema>;

/// A JSON type.
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

/// One type or several; a value must be of one of them.
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
    /// The types as a slice.
    pub fn as_slice(&self) -> &[Type] {
        match self {
            Types::One(one) => std::slice::from_ref(one),
            Types::Many(many) => many,
        }
    }
}

/// `required`: a boolean on a parameter or property (StackStorm), or the names of an object's required properties (draft 4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Required {
    /// This value itself must be given.
    This(bool),
    /// These properties of it must be given.
    Properties(Vec<String>),
}

/// `additionalProperties` and `additionalItems`: allowed or not, or a schema for them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Additional {
    /// Whether there may be any.
    Allowed(bool),
    /// What each must be.
    Schema(Box<Schema>),
}

/// `items`: one schema for all, or one for each place.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Items {
    /// Each item must fit this.
    All(Box<Schema>),
    /// The nth item must fit the nth schema.
    Each(Vec<Schema>),
}

/// What one value may be. A keyword that is absent demands nothing; a keyword that Bolt does not
/// know lands in `other` and becomes a finding when the action is checked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Schema {
    /// The JSON type or types; absent means any.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub types: Option<Types>,
    /// What it is for, to a caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The value when the caller gives none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// Whether it must be given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required: Option<Required>,
    /// The caller may not set it. `null` is an error here and for `secret`: whoever writes them wants something.
    #[serde(skip_serializing_if = "is_false")]
    pub immutable: bool,
    /// Delivered on standard input only, and never stored or shown.
    #[serde(skip_serializing_if = "is_false")]
    pub secret: bool,
    /// Its place among the positional arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u32>,
    /// The values that are allowed.
    #[serde(rename = "enum", skip_serializing_if = "Option::is_none")]
    pub enumeration: Option<Vec<Value>>,
    /// A regular expression that a string must contain a match of (anchor it with `^` and `$`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Pattern>,
    /// The shortest string, in characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_length: Option<u64>,
    /// The longest string, in characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u64>,
    /// The smallest number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum: Option<Number>,
    /// The largest number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum: Option<Number>,
    /// `minimum` itself is not allowed.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_false")]
    pub exclusive_minimum: bool,
    /// `maximum` itself is not allowed.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_false")]
    pub exclusive_maximum: bool,
    /// The number must be a multiple of this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiple_of: Option<Number>,
    /// What the items of an array must be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<Items>,
    /// With one schema for each place: what further items must be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub additional_items: Option<Additional>,
    /// The fewest items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_items: Option<u64>,
    /// The most items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_items: Option<u64>,
    /// No two items may be equal.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "is_false")]
    pub unique_items: bool,
    /// What the named properties of an object must be.
    #[serde(deserialize_with = "null_values", skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, Schema>,
    /// What properties with a matching name must be.
    #[serde(deserialize_with = "null_values", skip_serializing_if = "BTreeMap::is_empty")]
    pub pattern_properties: BTreeMap<Pattern, Schema>,
    /// What all other properties must be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub additional_properties: Option<Additional>,
    /// The fewest properties.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_properties: Option<u64>,
    /// The most properties.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_properties: Option<u64>,
    /// Keywords that Bolt does not know.
    #[serde(flatten)]
    #[cfg_attr(feature = "schemas", schemars(skip))]
    pub other: BTreeMap<String, Value>,
}

impl Schema {
    /// True if the value itself must be given (a `default` gives it).
    pub fn is_required(&self) -> bool {
        matches!(self.required, Some(Required::This(true)))
    }

    /// True if this value, or any value inside it, is secret.
    pub fn holds_secret(&self) -> bool {
        self.secret || self.children().any(Schema::holds_secret)
    }

    /// The schemas directly inside this one.
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

    /// What the item at `index` of an array must fit.
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

    /// What the property `name` of an object must fit: all of these.
    pub(crate) fn for_property(&self, name: &str) -> Vec<&Schema> {
        let matching = self.pattern_properties.iter().filter(|(pattern, _)| pattern.is_match(name));
        let mut schemas: Vec<&Schema> = self.properties.get(name).into_iter().collect();
        schemas.extend(matching.map(|(_, schema)| schema));
        if let (true, Some(Additional::Schema(rest))) = (schemas.is_empty(), &self.additional_properties) {
            schemas.push(rest);
        }
        schemas
    }

    /// Everything wrong with the schema itself; `at` names its place.
    pub fn findings(&self, at: &str) -> Vec<crate::base::finding::Finding> {
        parse::findings(self, at)
    }
}

fn is_false(value: &bool) -> bool {
    !value
}
