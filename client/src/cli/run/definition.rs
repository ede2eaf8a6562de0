//! The definition of a run's action: kept from an earlier run where that suffices, otherwise from an instance; and what a run
//! teaches about it.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use packs_schema::agent::rest::{ActionView, Code};
use packs_schema::base::name::Digest;
use packs_schema::pack::action::Class;
use serde_json::{Map, Value};

use super::args::RunCommand;
use super::{params, prepare};
use crate::cli::failure::{Exit, Failure};
use crate::connection::Agent;
use crate::definitions::Definitions;
use crate::errln;
use crate::error::Kind;
use crate::fleet::{Ending, Report, Run};
use crate::inventory::Instance;
use crate::show::when::now_ms;
use crate::tls::Identity;

/// Time for definitions of other versions, after a run.
const PATIENCE: Duration = Duration::from_secs(3);
/// Maximum number of versions whose definitions are fetched after a run.
const MAX_VERSIONS: usize = 8;

/// Returns the definition, and the parameters that were checked against it, before anything but reads is sent.
///
/// A kept one is used for diagnostics only: a run that may change instances shows its plan by what an instance says now. If the
/// request does not fit a kept one, that may be outdated, and an instance is asked.
pub(super) async fn find(
    command: &RunCommand,
    targets: &[Instance],
    identity: &Identity,
    definitions: &mut Definitions,
    is_quiet: bool,
) -> Result<(ActionView, Map<String, Value>), Failure> {
    let mut input = params::Input::read(command.params_file.as_deref())?;
    let kept = definitions.find(&command.action.action, command.action.version.as_ref(), now_ms());
    if let Some(view) = kept.filter(|view| view.action.class == Class::Diagnostic && !command.noop).cloned() {
        match prepare::check(command, &view.action, &mut input).await {
            Ok(parameters) => return Ok((view, parameters)),
            Err(failure) if failure.exit == Exit::Interrupted => return Err(failure),
            Err(_) => {}
        }
    }
    let view = prepare::schema(&command.action, targets, identity).await?;
    if view.dev.is_some() && !is_quiet {
        errln!("{} {} is a pushed version: it is not signed", command.action.action, view.version);
    }
    definitions.keep(view.clone(), now_ms());
    let parameters = prepare::check(command, &view.action, &mut input).await?;
    Ok((view, parameters))
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
    matches!(ending, Ending::Refused(error) if matches!(&error.kind, Kind::Problem(p) if codes.contains(&p.code)))
}
