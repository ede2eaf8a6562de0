//! Why a grant allows something, or not. The decision itself is made of the same checks.

use std::fmt;

use serde_json::{Map, Value};

use super::grant::{Grant, Situation};
use super::{Constraint, GrantPlace, Grants, TimeWindow, Verb};
use crate::base::name::{ActionRef, PackName, ParamName, Principal};
use crate::delivery::facts::Facts;
use crate::delivery::filter::Filter;
use crate::pack::action::Class;

/// Object of a verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object<'a> {
    /// Anything at all.
    Any,
    /// Single action.
    Action(&'a ActionRef),
    /// Every action that the pack could have, of any class, with any values of its parameters: the pack itself.
    Pack(&'a PackName),
}

/// Question to a grant, apart from instance and time.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Caller.
    pub who: &'a Principal,
    /// Verb.
    pub verb: Verb,
    /// Object of the verb.
    pub object: Object<'a>,
    /// Class of the action, where it is known; that of a pack is not looked at.
    pub class: Option<Class>,
    /// Values of the parameters, defaults included; `None`: some values.
    pub parameters: Option<&'a Map<String, Value>>,
}

/// Reason why a grant does not allow something.
#[derive(Debug, Clone, PartialEq)]
pub enum Mismatch<'a> {
    /// The grant is for other principals: this pattern.
    Principal(String),
    /// The grant gives other verbs: these.
    Verb(Vec<Verb>),
    /// The grant is for other actions: these patterns.
    Action(Vec<&'a str>),
    /// The grant is for actions of other classes, or the class is unknown.
    Class(&'a [Class]),
    /// The grant is not for this instance.
    Condition(&'a Filter),
    /// The grant is not in effect at this time.
    Times(&'a [TimeWindow]),
    /// Values of parameters that it does not allow.
    Parameters(Vec<(&'a ParamName, &'a Constraint)>),
}

/// Answer of one grant.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict<'a> {
    /// The grant.
    pub place: GrantPlace,
    /// All reasons why it does not allow it; none: it allows it.
    pub mismatches: Vec<Mismatch<'a>>,
}

impl Verdict<'_> {
    /// True if the grant allows it.
    pub fn allows(&self) -> bool {
        self.mismatches.is_empty()
    }
}

/// Check of one part of a grant.
type Check = for<'g> fn(&'g Grant, &Question<'_>) -> Option<Mismatch<'g>>;

/// Checks of a grant that do not depend on where and when it is asked. Each looks at one part, whatever the others say.
const CHECKS: [Check; 5] =
    [Grant::check_principal, Grant::check_verb, Grant::check_action, Grant::check_class, Grant::check_parameters];

impl Grants {
    /// Asks each grant, in the order of the file. The first that allows it decides; if none does, it is refused.
    pub fn explain(&self, question: &Question<'_>, facts: Option<&Facts>, at_s: i64) -> Vec<Verdict<'_>> {
        let mut verdicts = Vec::with_capacity(self.grants.len());
        for (index, grant) in self.grants.iter().enumerate() {
            let mismatches = grant.mismatches(question, grant.situation(facts, at_s));
            verdicts.push(Verdict { place: self.place(index), mismatches });
        }
        verdicts
    }

    /// Returns the grants that are for the caller and match the object by its name, with all reasons why they do not allow it here
    /// and now. Nothing of what they say about other names or other callers is told.
    pub fn near_misses(&self, question: &Question<'_>) -> Vec<Verdict<'_>> {
        let mut found = Vec::new();
        for (index, grant) in self.grants.iter().enumerate() {
            if grant.check_principal(question).is_none() && grant.check_action(question).is_none() {
                let mismatches = grant.mismatches(question, grant.situation);
                found.push(Verdict { place: self.place(index), mismatches });
            }
        }
        found.retain(|verdict| !verdict.allows());
        found
    }

    /// Returns the grants in effect that allow it for other values of the parameters.
    pub fn unmet(&self, question: &Question<'_>) -> Vec<(GrantPlace, Mismatch<'_>)> {
        let any_values = Question { parameters: None, ..*question };
        let allows = |grant: &Grant| grant.is_in_effect() && grant.allows(&any_values);
        let named = self.grants.iter().enumerate().filter(|(_, grant)| allows(grant));
        named.filter_map(|(index, grant)| Some((self.place(index), grant.check_parameters(question)?))).collect()
    }

    /// Describes the constraints of a grant, one a line; empty if it has none.
    pub fn constraints(&self, place: GrantPlace) -> Vec<String> {
        let Some(grant) = place.number.checked_sub(1).and_then(|index| self.grants.get(index)) else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        if let Some(filter) = &grant.condition {
            lines.push(format!("on instances where {}", String::from(filter.clone())));
        }
        if !grant.times.is_empty() {
            lines.push(format!("at {} UTC", join(&grant.times)));
        }
        lines.extend(grant.parameters.iter().map(|(name, constraint)| format!("with {name} that fits {constraint}")));
        lines
    }
}

impl Grant {
    /// True if it allows it where and when it is in effect.
    pub(super) fn allows(&self, question: &Question<'_>) -> bool {
        CHECKS.iter().all(|check| check(self, question).is_none())
    }

    /// Returns all reasons for which it does not allow it in this situation.
    fn mismatches(&self, question: &Question<'_>, situation: Situation) -> Vec<Mismatch<'_>> {
        let mut found: Vec<_> = CHECKS.iter().filter_map(|check| check(self, question)).collect();
        found.extend(self.condition.as_ref().filter(|_| !situation.is_here).map(Mismatch::Condition));
        found.extend((!situation.is_now).then_some(Mismatch::Times(&self.times)));
        found
    }

    /// Returns whether its constraints hold on an instance with these facts, at a time in seconds since 1970.
    pub(super) fn situation(&self, facts: Option<&Facts>, at_s: i64) -> Situation {
        let fits = |filter: &Filter| facts.is_some_and(|facts| filter.matches(facts));
        Situation {
            is_here: self.condition.as_ref().is_none_or(fits),
            is_now: self.times.is_empty() || self.times.iter().any(|window| window.contains(at_s)),
        }
    }

    fn check_principal(&self, question: &Question<'_>) -> Option<Mismatch<'_>> {
        (!self.principal.covers(question.who)).then(|| Mismatch::Principal(self.principal.to_string()))
    }

    fn check_verb(&self, question: &Question<'_>) -> Option<Mismatch<'_>> {
        let gives = self.has_verb(question.verb);
        (!gives).then(|| Mismatch::Verb(self.verbs.iter().copied().collect()))
    }

    fn check_action(&self, question: &Question<'_>) -> Option<Mismatch<'_>> {
        let matches = match question.object {
            Object::Any => true,
            Object::Action(action) => self.matches(action.as_str()),
            // No pattern has a star of its own: one that matches this text matches whatever replaces the star.
            Object::Pack(pack) => self.matches(&format!("{pack}.*")),
        };
        (!matches).then(|| Mismatch::Action(self.actions.iter().map(|pattern| pattern.0.as_str()).collect()))
    }

    fn check_class(&self, question: &Question<'_>) -> Option<Mismatch<'_>> {
        let class = match question.object {
            Object::Any => return None,
            Object::Action(_) => question.class,
            Object::Pack(_) => None,
        };
        let classes = self.classes.as_ref()?;
        let is_of_one = class.is_some_and(|class| classes.contains(&class));
        (!is_of_one).then_some(Mismatch::Class(classes))
    }

    fn check_parameters(&self, question: &Question<'_>) -> Option<Mismatch<'_>> {
        if let Object::Pack(_) = question.object {
            let all: Vec<_> = self.parameters.iter().collect();
            return (!all.is_empty()).then_some(Mismatch::Parameters(all));
        }
        let values = question.parameters?;
        let refused = |(name, constraint): &(&ParamName, &Constraint)| !constraint.allows(values.get(name.as_str()));
        let refused: Vec<_> = self.parameters.iter().filter(refused).collect();
        (!refused.is_empty()).then_some(Mismatch::Parameters(refused))
    }
}

fn join<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Principal(pattern) => write!(f, "it is for {pattern}"),
            Mismatch::Verb(verbs) if verbs.is_empty() => f.write_str("it gives no verb"),
            Mismatch::Verb(verbs) => write!(f, "it gives {} only", join(verbs)),
            Mismatch::Action(actions) if actions.is_empty() => f.write_str("it is for no action"),
            Mismatch::Action(actions) => write!(f, "it is for {} only", join(actions)),
            Mismatch::Class([]) => f.write_str("it is for actions of no class"),
            Mismatch::Class(classes) => write!(f, "it is for {} actions only", join(classes)),
            Mismatch::Condition(filter) => {
                write!(f, "it is for instances where {} only", String::from((*filter).clone()))
            }
            Mismatch::Times(times) => write!(f, "it is in effect at {} UTC only", join(times)),
            Mismatch::Parameters(refused) => {
                let constraint =
                    |(name, constraint): &(&ParamName, &Constraint)| format!("{name} must fit {constraint}");
                f.write_str(&refused.iter().map(constraint).collect::<Vec<_>>().join(", "))
            }
        }
    }
}
