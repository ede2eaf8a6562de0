//! `GET /v1/access`: whether the grants let the caller do something, and which grant decides.
//!
//! The answer repeats what the caller could find out by trying. It shows whether an action is installed only to callers that
//! may read or run it; to others a grant that is limited to classes answers the same for an action of another class and for none. A
//! caller whose grant gives kill for some classes learns from the answer whether an action of these classes is installed. A refusal
//! names the grants for this caller that match the name, with all reasons, and nothing of other grants.

use hyper::Response;
use packs_schema::agent::grants::Verb;
use packs_schema::agent::rest::{AccessReview, AccessTarget, ReviewedAction};

use super::{Call, json};
use crate::access::{Caller, Decision};
use crate::api::body::Body;
use crate::api::problem::ApiError;

const PUSH_DISABLED: &str =
    "this instance does not allow pushed packs: publish the pack, or set push = true under [dev] in its agent.toml";

pub(in crate::api) fn review(call: &Call) -> Result<Response<Body>, ApiError> {
    let Call { app, caller, .. } = call;
    let verb: Verb = call.query.required("verb")?;
    let target: Option<AccessTarget> = call.query.get("action")?;
    if let Some(target) = &target {
        call.subject.set(target);
    }
    let installed = match &target {
        Some(AccessTarget::Action(action)) => app.registry.action(action)?,
        _ => None,
    };
    let class = installed.as_ref().map(|installed| installed.action.class);
    let may_see = |target: &AccessTarget| match target {
        AccessTarget::Action(action) => {
            [Verb::Read, Verb::Run].into_iter().any(|verb| caller.is_granted(verb, action, class))
        }
        AccessTarget::Pack(_) => false,
    };
    let visible = target.as_ref().is_some_and(may_see);
    let active = installed.filter(|_| visible).map(|installed| ReviewedAction {
        version: installed.version.clone(),
        class: installed.action.class,
        enabled: installed.action.enabled,
    });
    let (decision, reason) = match verb {
        Verb::Push if !app.pushes.dev.push => (Decision::Denied(Vec::new()), PUSH_DISABLED.to_owned()),
        _ => {
            let decision = caller.decide(verb, target.as_ref(), class, visible);
            let reason = explain(caller, verb, target.as_ref(), &decision, visible, active.as_ref());
            (decision, reason)
        }
    };
    let grant = decision.grant();
    let action = target.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
    tracing::info!(principal = %caller.principal(), %verb, %action, allowed = grant.is_some(), "access reviewed");
    Ok(json(
        200,
        &AccessReview {
            instance: app.instance.id().clone(),
            principal: caller.principal().clone(),
            authority: call.authority.clone(),
            verb,
            action: target,
            allowed: grant.is_some(),
            grant,
            constraints: grant.map(|grant| caller.constraints(grant)).unwrap_or_default(),
            active,
            reason,
        },
    ))
}

fn explain(
    caller: &Caller,
    verb: Verb,
    target: Option<&AccessTarget>,
    decision: &Decision,
    visible: bool,
    active: Option<&ReviewedAction>,
) -> String {
    let object = target.map_or_else(String::new, |target| format!(" on {target}"));
    match decision {
        Decision::Granted(grant) => {
            let constraints: String =
                caller.constraints(*grant).iter().map(|constraint| format!(", {constraint}")).collect();
            let mut text = format!("{grant} gives {verb}{object}{constraints}");
            if verb == Verb::Approve {
                text.push_str("; the verb is reserved: no action needs approval yet");
            }
            match active {
                Some(action) if !action.enabled => text.push_str("; the pack disables this action"),
                None if visible => text.push_str("; no active version of the pack has this action here"),
                _ => {}
            }
            text
        }
        Decision::Denied(near) => {
            let whole = match (verb, target) {
                (Verb::Push, Some(_)) => " (push needs all actions of the pack, of all classes)",
                _ => "",
            };
            let told = format!("no grant gives {} the verb {verb}{object}{whole}", caller.principal());
            if near.is_empty() {
                return format!("{told}: add one to grants.toml of this instance");
            }
            // The same for a hidden action and for an absent one.
            let unseen = match (verb, target) {
                (Verb::Push | Verb::Sync | Verb::Metrics, _) => "",
                (_, Some(AccessTarget::Action(_))) if !visible => {
                    "; no action of this name is active here that you may see"
                }
                _ => "",
            };
            format!("{told}: {}; change one of these, or add one{unseen}", near.join("; "))
        }
    }
}
