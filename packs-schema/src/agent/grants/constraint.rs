//! Constraints on the values of parameters, in the language of parameters ([`crate::pack::param`]).

use serde::Deserialize;
use serde_json::Value;

use crate::base::finding::Severity;
use crate::pack::param::check::check;
use crate::pack::param::{Required, Schema};

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
        value.is_some_and(|value| check(&self.0, value).is_empty())
    }
}

/// Formats the constraint as JSON. It contains nothing of a caller's values.
impl std::fmt::Display for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&serde_json::to_string(&self.0).map_err(|_| std::fmt::Error)?)
    }
}
