//! The definition of a run's action: kept from an earlier run where that suffices, otherwise from an instance; and updating the
//! kept ones after a run.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use packs_schema::agent::rest::{ActionView, Code};
use packs_schema::base::name::{ActionRef, Digest, PackVersion};
use packs_schema::pack::action::Class;
use serde_json::{Map, Value};

use super::{Input, Order, RunError, check_request};
use crate::connection::Agent;
use crate::definitions::Definitions;
use crate::error::{Error, Kind};
use crate::fleet::{Ending, Report, Run, across};
use crate::inventory::Instance;
use crate::show::when::now_ms;
use crate::tls::Identity;

/// Number of instances that are asked for the definition at once.
const TRIES: usize = 8;
/// Maximum number that are asked before none of them counts as reachable.
const MOST: usize = 64;
/// Time for definitions of other versions, after a run.
const PATIENCE: Duration = Duration::from_secs(3);
/// Maximum number of versions whose definitions are fetched after a run.
const MAX_VERSIONS: usize = 8;

/// Returns the definition, and the parameters that were checked against it, before anything but reads is sent.
///
/// A kept one is used for diagnostics only: a run that may change instances shows its plan by what an instance says now. If the
/// request does not fit a kept one, that may be outdated, and an instance is asked.
pub(super) async fn find<I: Input>(
    order: &Order,
    targets: &[Instance],
    identity: &Identity,
    definitions: &mut Definitions,
    input: &mut I,
) -> Result<(ActionView, Map<String, Value>), I::Error> {
    let kept = definitions.find(&order.action, order.version.as_ref(), now_ms());
    if let Some(view) = kept.filter(|view| view.action.class == Class::Diagnostic && !order.noop).cloned() {
        match check_request(order, &view, input).await {
            Ok(parameters) => return Ok((view, parameters)),
            Err(error) if I::is_final(&error) => return Err(error),
            Err(_) => {}
        }
    }
    let view = ask(&order.action, order.version.as_ref(), targets, identity).await?;
    definitions.keep(view.clone(), now_ms());
    let parameters = check_request(order, &view, input).await?;
    Ok((view, parameters))
}

/// Returns the action as the first instance has it that answers; with a version, the first that has this one active, else
/// any.
pub(super) async fn ask(
    action: &ActionRef,
    version: Option<&PackVersion>,
    targets: &[Instance],
    identity: &Identity,
) -> Result<ActionView, RunError> {
    let mut failed: Vec<Error> = Vec::new();
    let mut other = None;
    for some in targets[..targets.len().min(MOST)].chunks(TRIES) {
        // The first answer is enough: an instance that hangs delays nothing.
        let mut answers: FuturesUnordered<_> =
            some.iter().map(|instance| async move { Agent::new(instance, identity).action(action).await }).collect();
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(view) if view.action.reference() != *action => {}
                Ok(view) if version.is_none_or(|version| *version == view.version) => return Ok(view),
                Ok(view) => other = other.or(Some(view)),
                Err(error) => failed.push(error),
            }
        }
    }
    match other {
        Some(view) => Ok(view),
        None => Err(none(action, failed, targets, identity).await),
    }
}

/// Returns the error where no instance described the action.
async fn none(action: &ActionRef, mut failed: Vec<Error>, targets: &[Instance], identity: &Identity) -> RunError {
    // In the order of the instances, whichever answered first.
    failed.sort_by_key(|error| targets.iter().position(|target| *target.id() == error.instance));
    let is_missing = |error: &&Error| matches!(&error.kind, Kind::Problem(p) if matches!(p.code, Code::UnknownAction | Code::UnknownPack | Code::NotFound));
    if let Some(error) = failed.iter().find(is_missing) {
        let there: Vec<Instance> = targets.iter().filter(|t| *t.id() == error.instance).cloned().collect();
        let answers = across(&there, identity, 1, async |agent| agent.actions().await).await;
        let known = answers.into_iter().filter_map(|(_, a)| a.ok()).flatten().map(|view| view.action.reference());
        return RunError::UnknownAction { action: action.clone(), known: known.collect() };
    }
    if let Some(refused) = failed.iter().position(|error| error.kind.is_refusal()) {
        failed[..=refused].rotate_right(1);
    }
    RunError::NoDefinition { action: action.clone(), failed }
}

/// Learns from the executions of a run which versions there are, and returns the definitions of those that were not known.
pub(super) async fn learn(
    run: &Run,
    report: &Report,
    identity: &Identity,
    definitions: &mut Definitions,
) -> Vec<ActionView> {
    let action = &run.request.action;
    let mut versions: BTreeMap<&Digest, &Instance> = BTreeMap::new();
    for (instance, ending) in run.targets.iter().zip(&report.endings) {
        if let Ending::Ended(execution, _) = ending
            && execution.dev.is_none()
        {
            versions.entry(&execution.digest).or_insert(instance);
        }
    }
    if versions.is_empty() && report.endings.iter().any(is_refused_by_definition) {
        definitions.forget(action);
    }
    let (known, new): (Vec<_>, Vec<_>) =
        versions.into_iter().partition(|(digest, _)| definitions.contains(action, digest));
    for (digest, _) in known {
        definitions.confirm(action, digest, now_ms());
    }
    let asked = new.into_iter().take(MAX_VERSIONS).map(|(digest, instance)| async move {
        let view = Agent::new(instance, identity).action(action).await.ok()?;
        (view.digest == *digest).then_some(view)
    });
    let answers = tokio::time::timeout(PATIENCE, join_all(asked)).await.unwrap_or_default();
    let views: Vec<ActionView> = answers.into_iter().flatten().collect();
    for view in &views {
        definitions.keep(view.clone(), now_ms());
    }
    views
}

/// True if an instance refused because its definition of the action differs from the one that the request was made by.
fn is_refused_by_definition(ending: &Ending) -> bool {
    let codes = [Code::UnknownAction, Code::InvalidParameters, Code::ClassMismatch, Code::ActionDisabled];
    match ending {
        Ending::Refused(error) | Ending::Unreachable { error, .. } => {
            matches!(&error.kind, Kind::Problem(problem) if codes.contains(&problem.code))
        }
        Ending::Ended(..) | Ending::NotStarted => false,
    }
}
