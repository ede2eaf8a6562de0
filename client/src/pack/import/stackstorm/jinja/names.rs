//! Parameters that a template may refer to.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value};

use super::{Base, Outcome, Piece, Refused};

/// Type of a parameter that a template may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pack::import::stackstorm) enum Kind {
    Text,
    Number,
    Boolean,
    List,
    Other,
}

impl Kind {
    /// Returns the kind of the values of a schema.
    pub(in crate::pack::import::stackstorm) fn of(schema: &Map<String, Value>) -> Kind {
        match schema.get("type").and_then(Value::as_str) {
            Some("string") => Kind::Text,
            Some("integer" | "number") => Kind::Number,
            Some("boolean") => Kind::Boolean,
            Some("array") => Kind::List,
            _ => Kind::Other,
        }
    }
}

/// Value of which a text is made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::pack::import::stackstorm) enum Origin {
    /// A parameter, by its name in the source.
    Parameter(String),
    /// A value of the site's configuration, by its path.
    Config(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Parameter(name) => f.write_str(name),
            Origin::Config(path) => write!(f, "config_context.{path}"),
        }
    }
}

/// Values of which a text is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::pack::import::stackstorm) struct MadeOf {
    pub(in crate::pack::import::stackstorm) origins: BTreeSet<Origin>,
    /// A filter may put characters of code into it, however the values are limited.
    pub(in crate::pack::import::stackstorm) adds: bool,
}

/// Value of the site configuration that a template may name.
#[derive(Debug, Clone)]
pub(in crate::pack::import::stackstorm) struct ConfigValue {
    /// Name in Bolt.
    pub(in crate::pack::import::stackstorm) bolt: String,
    pub(in crate::pack::import::stackstorm) kind: Kind,
    /// True if the value is a secret or holds one, and is in no variable of the environment.
    pub(in crate::pack::import::stackstorm) secret: bool,
}

/// Parameters and configuration that a template may refer to.
#[derive(Debug, Default)]
pub(in crate::pack::import::stackstorm) struct Names {
    /// By the name in the template: the name in Bolt, the kind, and true if it is always given.
    pub(in crate::pack::import::stackstorm) parameters: BTreeMap<String, (String, Kind, bool)>,
    /// Defaults that are templates themselves, by the name in the template.
    pub(in crate::pack::import::stackstorm) computed: BTreeMap<String, Vec<Piece>>,
    /// The pack's configuration, by the name in the template.
    pub(in crate::pack::import::stackstorm) config: BTreeMap<String, ConfigValue>,
}

impl Names {
    /// Returns a value of the configuration.
    pub(super) fn config(&self, path: &[String]) -> Outcome<&ConfigValue> {
        let shown = || format!("config_context.{}", path.join("."));
        match self.config.get(&path[0]) {
            None => Err(Refused::new(format!("{}, which is not in config.schema.yaml", shown()))),
            Some(value) if value.secret => Err(Refused::new(format!("the secret {}", shown()))),
            Some(_) if path.len() > 1 => Err(Refused::new(format!("{}, a part of a value", shown()))),
            Some(value) => Ok(value),
        }
    }

    /// Returns the first secret of the configuration in a template, also by way of computed defaults.
    pub(in crate::pack::import::stackstorm) fn secret_in(&self, pieces: &[Piece]) -> Option<String> {
        self.secret_below(pieces, &mut Vec::new())
    }

    /// Returns of which values a text is made, also by way of computed defaults.
    pub(in crate::pack::import::stackstorm) fn made_of(&self, pieces: &[Piece]) -> MadeOf {
        let mut made = MadeOf::default();
        self.add_to(&mut made, pieces);
        made
    }

    fn add_to(&self, made: &mut MadeOf, pieces: &[Piece]) {
        for piece in pieces {
            match piece {
                Piece::Text(_) => {}
                Piece::If(branches) => branches.iter().for_each(|branch| self.add_to(made, &branch.body)),
                Piece::Value(value) => {
                    made.adds |= value.adds_code();
                    match &value.base {
                        Base::Name(name) => {
                            if made.origins.insert(Origin::Parameter(name.clone()))
                                && let Some(pieces) = self.computed.get(name)
                            {
                                self.add_to(made, pieces);
                            }
                        }
                        Base::Config(path) => drop(made.origins.insert(Origin::Config(path.join(".")))),
                        Base::Context | Base::Server(_) => {}
                    }
                }
            }
        }
    }

    fn secret_below<'a>(&'a self, pieces: &'a [Piece], seen: &mut Vec<&'a str>) -> Option<String> {
        pieces.iter().find_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::If(branches) => branches.iter().find_map(|branch| self.secret_below(&branch.body, seen)),
            Piece::Value(value) => match &value.base {
                Base::Config(path) if self.config.get(&path[0]).is_some_and(|value| value.secret) => {
                    Some(path.join("."))
                }
                Base::Name(name) if !seen.contains(&name.as_str()) => {
                    seen.push(name);
                    self.computed.get(name).and_then(|pieces| self.secret_below(pieces, seen))
                }
                Base::Name(_) | Base::Config(_) | Base::Context | Base::Server(_) => None,
            },
        })
    }
}
