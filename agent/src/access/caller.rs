//! Admitted callers and their permits: each question about one is put to the grants by which it was admitted.

use std::sync::Arc;

use packs_schema::agent::grants::{GrantPlace, Grants, Object, Question, Verb, Verdict};
use packs_schema::agent::rest::AccessTarget;
use packs_schema::base::name::{ActionRef, PackName, Principal};
use packs_schema::pack::action::Class;
use serde_json::{Map, Value};

/// Maximum number of grants in a refusal that says what they require.
const MAX_TOLD: usize = 4;

/// Principal that a grant gives one of some verbs on something.
#[derive(Debug, Clone)]
pub struct Caller {
    pub(super) principal: Principal,
    /// Verbs of which one on an action suffices.
    pub(super) verbs: &'static [Verb],
    pub(super) grants: Arc<Grants>,
    /// Generation of these grants.
    pub(super) generation: u64,
}

impl Caller {
    /// Returns the generation of the grants by which the caller was admitted.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns the principal.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Issues a permit for an action if a grant covers it; `class` is `None` for an action that is no longer installed. A grant
    /// that constrains values of parameters gives none: see [`Caller::may_run`].
    pub fn may(&self, action: &ActionRef, class: Option<Class>) -> Option<Permit> {
        self.may_with(action, class, &Map::new())
    }

    /// Issues a permit for a start with these values of the parameters, defaults included, or says what the grants require.
    pub fn may_run(&self, action: &ActionRef, class: Class, parameters: &Map<String, Value>) -> Result<Permit, String> {
        self.may_with(action, Some(class), parameters).ok_or_else(|| {
            let unmet = self.verbs.iter().flat_map(|verb| {
                let question = Question {
                    who: &self.principal,
                    verb: *verb,
                    object: Object::Action(action),
                    class: Some(class),
                    parameters: Some(parameters),
                };
                self.grants.unmet(&question).into_iter().map(|(place, mismatch)| format!("{place}: {mismatch}"))
            });
            unmet.take(MAX_TOLD).collect::<Vec<_>>().join("; ")
        })
    }

    fn may_with(&self, action: &ActionRef, class: Option<Class>, parameters: &Map<String, Value>) -> Option<Permit> {
        let gives = |verb: &&Verb| self.grants.find_with(&self.principal, **verb, action, class, parameters).is_some();
        let verb = self.verbs.iter().find(gives)?;
        Some(Permit { principal: self.principal.clone(), verb: *verb, action: action.clone() })
    }

    /// True if a grant covers the action.
    pub fn covers(&self, action: &ActionRef, class: Option<Class>) -> bool {
        self.verbs.iter().any(|verb| self.is_granted(*verb, action, class))
    }

    /// True if a grant covers every action that the pack could have: the rule for the pack itself.
    pub fn covers_pack(&self, pack: &PackName) -> bool {
        self.verbs.iter().any(|verb| self.grants.allows_pack(&self.principal, *verb, pack))
    }

    /// True if a grant could cover some action of the pack, whether or not the pack has it.
    pub fn could_cover_in(&self, pack: &PackName) -> bool {
        self.verbs.iter().any(|verb| self.grants.allows_in_pack(&self.principal, *verb, pack))
    }

    /// True if the verb on the action is granted, whether or not the caller was admitted by it.
    pub fn is_granted(&self, verb: Verb, action: &ActionRef, class: Option<Class>) -> bool {
        allows(&self.grants, &self.principal, verb, action, class)
    }

    /// Decides whether the caller may do `verb` on the target, which is of `class` where that is known; for any of the verbs,
    /// also those by which it was not admitted. The reasons of a refusal do not depend on the class of an action that the caller
    /// may not see: they are the same if there is no such action.
    pub(crate) fn decide(
        &self,
        verb: Verb,
        target: Option<&AccessTarget>,
        class: Option<Class>,
        is_visible: bool,
    ) -> Decision {
        let pack = target.map(AccessTarget::pack);
        let object = match (target, &pack) {
            // A poll is about all packs.
            _ if verb == Verb::Sync => Object::Any,
            // An action is pushed with its pack.
            (Some(AccessTarget::Action(action)), _) if verb != Verb::Push => Object::Action(action),
            (_, Some(pack)) => Object::Pack(pack),
            (_, None) => Object::Any,
        };
        let question = Question { who: &self.principal, verb, object, class, parameters: None };
        if let Some(grant) = self.grants.find_for(&question) {
            return Decision::Granted(grant);
        }
        let near = self.grants.near_misses(&Question { class: class.filter(|_| is_visible), ..question });
        let describe = |verdict: &Verdict<'_>| {
            let reasons: Vec<String> = verdict.mismatches.iter().map(ToString::to_string).collect();
            format!("{}: {}", verdict.place, reasons.join(", and "))
        };
        let more = near.len().saturating_sub(MAX_TOLD);
        let told = near.iter().take(MAX_TOLD).map(describe);
        Decision::Denied(told.chain((more > 0).then(|| format!("and {more} more"))).collect())
    }

    /// Describes the constraints of a grant, one a line.
    pub(crate) fn constraints(&self, grant: GrantPlace) -> Vec<String> {
        self.grants.constraints(grant)
    }

    /// True if a grant covers an action of this name for some class: then the caller may learn that the action does not exist.
    pub fn could_cover(&self, action: &ActionRef) -> bool {
        [Class::Diagnostic, Class::Remediation, Class::Maintenance]
            .into_iter()
            .any(|class| self.covers(action, Some(class)))
    }
}

/// Decision about a verb of a caller, with the grant that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Allowed by this grant.
    Granted(GrantPlace),
    /// Allowed by no grant: those for the caller that match the target's name, each with all reasons why it does not allow it.
    Denied(Vec<String>),
}

impl Decision {
    /// Returns the grant that allows it.
    pub(crate) fn grant(&self) -> Option<GrantPlace> {
        match self {
            Decision::Granted(grant) => Some(*grant),
            Decision::Denied(_) => None,
        }
    }
}

fn allows(grants: &Grants, who: &Principal, verb: Verb, action: &ActionRef, class: Option<Class>) -> bool {
    match class {
        Some(class) => grants.allows(who, verb, action, class),
        None => grants.allows_unclassed(who, verb, action),
    }
}

/// Proof that a principal may do a verb on an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permit {
    principal: Principal,
    verb: Verb,
    action: ActionRef,
}

impl Permit {
    /// Returns the principal.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Returns the verb.
    pub fn verb(&self) -> Verb {
        self.verb
    }

    /// Returns the action.
    pub fn action(&self) -> &ActionRef {
        &self.action
    }
}
