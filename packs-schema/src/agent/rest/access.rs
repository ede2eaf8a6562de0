//! Review of the caller's access (`GET /v1/access`): whether a grant allows a verb.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::agent::grants::{GrantPlace, Verb};
use crate::base::name::{ActionRef, InstanceId, NameError, PackName, PackVersion, Principal};
use crate::pack::action::Class;

/// Object of a verb: one action, or all actions of a pack. The text form is `<pack>.<action>` or `<pack>.*`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "schemas", schemars(with = "String"))]
pub enum AccessTarget {
    /// Single action.
    Action(ActionRef),
    /// Every action that the pack could have.
    Pack(PackName),
}

impl AccessTarget {
    /// Returns the pack of the action or actions.
    pub fn pack(&self) -> PackName {
        match self {
            AccessTarget::Action(action) => action.pack(),
            AccessTarget::Pack(pack) => pack.clone(),
        }
    }
}

impl FromStr for AccessTarget {
    type Err = NameError;
    fn from_str(text: &str) -> Result<AccessTarget, NameError> {
        match text.strip_suffix(".*") {
            Some(pack) => PackName::new(pack).map(AccessTarget::Pack),
            None => ActionRef::new(text).map(AccessTarget::Action),
        }
    }
}

impl TryFrom<String> for AccessTarget {
    type Error = NameError;
    fn try_from(text: String) -> Result<AccessTarget, NameError> {
        text.parse()
    }
}

impl From<AccessTarget> for String {
    fn from(target: AccessTarget) -> String {
        target.to_string()
    }
}

impl fmt::Display for AccessTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccessTarget::Action(action) => action.fmt(f),
            AccessTarget::Pack(pack) => write!(f, "{pack}.*"),
        }
    }
}

/// Response of `GET /v1/access`. It concerns the caller only, and contains no action except that of the question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct AccessReview {
    /// Instance that answers.
    pub instance: InstanceId,
    /// Principal of the caller.
    pub principal: Principal,
    /// Name of the authority of callers that vouches for it, such as `CN=Example root`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// Verb in the question.
    pub verb: Verb,
    /// Action or pack in the question; absent if the question was about any action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<AccessTarget>,
    /// True if a grant allows it.
    pub allowed: bool,
    /// Grant that allows it; absent when none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<GrantPlace>,
    /// Constraints of this grant: instances, times (UTC) and values of parameters, for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<String>,
    /// The action in the active version of its pack; absent when it is not installed, or when the caller may not see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<ReviewedAction>,
    /// Explanation in one line; for a refusal, with the way to change it.
    pub reason: String,
}

/// Action of an [`AccessReview`] as it is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct ReviewedAction {
    /// Active version of the pack.
    pub version: PackVersion,
    /// Class of the action, to which grants may be limited.
    pub class: Class,
    /// False if the action is disabled, so that it cannot be run.
    pub enabled: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_an_action_or_all_actions_of_a_pack() {
        for text in ["linux.disk", "linux.*"] {
            let target: AccessTarget = text.parse().unwrap();
            assert_eq!((target.to_string().as_str(), target.pack().as_str()), (text, "linux"));
        }
        for wrong in ["", "*", "linux", ".*", "linux.d*", "../x.*"] {
            assert!(wrong.parse::<AccessTarget>().is_err(), "{wrong}");
        }
    }
}
