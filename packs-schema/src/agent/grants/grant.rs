//! A grant, as it is written and as it is decided by.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::pattern::{ActionPattern, PrincipalPattern, glob};
use super::{Constraint, TimeWindow, Verb};
use crate::base::name::{ParamName, Principal};
use crate::delivery::filter::Filter;
use crate::pack::action::Class;

/// Grant of verbs on actions to principals.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "WrittenGrant")]
pub(super) struct Grant {
    pub(super) principal: PrincipalPattern,
    pub(super) verbs: BTreeSet<Verb>,
    pub(super) actions: Vec<ActionPattern>,
    pub(super) classes: Option<Vec<Class>>,
    /// Constraints on the values of parameters, of the verbs run and approve.
    pub(super) parameters: BTreeMap<ParamName, Constraint>,
    /// Facts of the instances on which it is in effect.
    pub(super) condition: Option<Filter>,
    /// Times at which it is in effect; none: always.
    pub(super) times: Vec<TimeWindow>,
    /// Whether its constraints hold here and now.
    pub(super) situation: Situation,
    /// Line of the file on which the grant begins.
    pub(super) line: Option<usize>,
}

/// Constraints of a grant that do not depend on the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Situation {
    /// True if the grant is for this instance.
    pub(super) is_here: bool,
    /// True if the grant is in effect at this time.
    pub(super) is_now: bool,
}

/// Grant as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenGrant {
    principal: PrincipalPattern,
    verbs: BTreeSet<Verb>,
    #[serde(default)]
    actions: Vec<ActionPattern>,
    #[serde(default)]
    classes: Option<Vec<Class>>,
    #[serde(default)]
    parameters: BTreeMap<ParamName, Constraint>,
    #[serde(default, rename = "where")]
    condition: Option<Filter>,
    #[serde(default)]
    times: Option<Vec<TimeWindow>>,
}

impl TryFrom<WrittenGrant> for Grant {
    type Error = String;
    fn try_from(written: WrittenGrant) -> Result<Grant, String> {
        let WrittenGrant { principal, verbs, actions, classes, parameters, condition, times } = written;
        // Nothing else has parameters: the grant would give it without the constraint.
        let unconstrained = verbs.iter().find(|verb| !matches!(verb, Verb::Run | Verb::Approve));
        if let (false, Some(verb)) = (parameters.is_empty(), unconstrained) {
            return Err(format!(
                "parameters constrain the verbs run and approve only, and the grant gives {verb} as well: give that by a \
                 grant of its own"
            ));
        }
        if times.as_ref().is_some_and(Vec::is_empty) {
            return Err(
                "times has no window, so that the grant is never in effect: name one, or leave times out".to_owned()
            );
        }
        if classes.as_ref().is_some_and(Vec::is_empty) {
            return Err(
                "classes names no class, so that the grant gives nothing: name one, or leave classes out".to_owned()
            );
        }
        let times = times.unwrap_or_default();
        let situation = Situation { is_here: condition.is_none(), is_now: times.is_empty() };
        Ok(Grant { principal, verbs, actions, classes, parameters, condition, times, situation, line: None })
    }
}

impl Grant {
    /// True if it is in effect here and now.
    pub(super) fn is_in_effect(&self) -> bool {
        self.situation.is_here && self.situation.is_now
    }

    /// True if it is in effect and gives the principal the verb, on whatever.
    pub(super) fn gives(&self, who: &Principal, verb: Verb) -> bool {
        self.is_in_effect() && self.has_verb(verb) && self.principal.covers(who)
    }

    /// True if the verb is one of its own, or included in one.
    pub(super) fn has_verb(&self, verb: Verb) -> bool {
        self.verbs.contains(&verb) || (verb == Verb::Metrics && self.verbs.contains(&Verb::Read))
    }

    pub(super) fn matches(&self, action: &str) -> bool {
        self.actions.iter().any(|pattern| glob(&pattern.0, action))
    }
}
