//! Health, the instance, its packs and actions, metrics.

use std::sync::atomic::Ordering;

use hyper::Response;
use packs_schema::agent::audit;
use packs_schema::agent::launch::{Operation, Outcome};
use packs_schema::agent::rest::{ActionView, Enforcement, Health, Info, PackList, PackView, Page, SyncStatus};
use packs_schema::base::name::{ActionRef, PackName, PackVersion};

use super::{Call, content, hidden, json, scope};
use crate::access::Caller;
use crate::api::App;
use crate::api::body::Body;
use crate::api::problem::ApiError;
use crate::api::visibility::covers;
use crate::clock;
use crate::exec::{LauncherError, usage};
use crate::health::{Detail, signatures};
use crate::metrics::Now;
use crate::registry::{ActiveAction, RegistryError, read_json};

/// Replaces messages for callers whom no grant names.
const CODES_ONLY: &str = "the message is shown to callers with a grant";

/// Returns health without the parts of any pack.
pub(in crate::api) fn health_without_packs(app: &App) -> Health {
    app.health.report(&app.registry, app.instance.id(), &|_| Detail::Nothing)
}

/// Returns health for callers whom no grant names: codes without messages.
pub(in crate::api) fn health_codes(app: &App) -> Response<Body> {
    let mut health = health_without_packs(app);
    codes_only(&mut health, &[]);
    json(if health.ready { 200 } else { 503 }, &health)
}

/// Removes the messages, except those of the codes `but`.
pub(in crate::api) fn codes_only(health: &mut Health, but: &[&str]) {
    for list in [&mut health.reasons, &mut health.notes] {
        for reason in list.iter_mut().filter(|reason| !but.contains(&reason.code.as_str())) {
            reason.message = CODES_ONLY.to_owned();
        }
        list.dedup();
    }
}

/// Returns health for a principal whom a grant names; `caller` is set when a grant lets it read something.
pub(in crate::api) fn health(app: &App, caller: Option<&Caller>) -> Response<Body> {
    // A store that cannot be read has a reason of its own; its packs are then left out.
    let detail =
        |pack: &PackName| caller.and_then(|caller| scope::of_pack(app, caller, pack).ok()).unwrap_or(Detail::Nothing);
    let health = app.health.report(&app.registry, app.instance.id(), &detail);
    json(if health.ready { 200 } else { 503 }, &health)
}

pub(in crate::api) fn info(call: &Call) -> Result<Response<Body>, ApiError> {
    let app = &call.app;
    let ((running, queued), (max_running, max_queued)) = (app.exec.counts(), app.exec.bounds());
    let enforcement: Option<Enforcement> = read_json(&app.enforcement)?;
    Ok(json(
        200,
        &Info {
            instance: app.instance.facts(),
            version: crate::VERSION.to_owned(),
            started_at_ms: app.started_at_ms,
            channel: app.channel.clone(),
            enforcement: enforcement.unwrap_or_default(),
            running,
            queued,
            max_running,
            max_queued,
        },
    ))
}

pub(in crate::api) fn metrics(call: &Call) -> Result<Response<Body>, ApiError> {
    let app = &call.app;
    let (running, queued) = app.exec.counts();
    let enforcement: Enforcement = read_json(&app.enforcement)?.unwrap_or_default();
    let running_usage =
        app.exec.running().into_iter().filter_map(|(id, action)| Some((action, usage::of(&enforcement, &id)?)));
    let visible = |action: &ActionRef| covers(&app.registry, &call.caller, action);
    let running_usage = running_usage.filter(|(action, _)| visible(action));
    let sync = app.registry.status()?;
    let mut ends = app.tls.ends();
    ends.extend(sync.iter().flat_map(signatures::ends));
    let mut invalid_files = app.tls.invalid_files();
    invalid_files.extend(app.access.invalid_file());
    let packs_failed = sync.iter().flat_map(|sync| &sync.failed).filter(|(_, failed)| !failed.is_building()).count();
    let sync = sync.map(|status| scope::sync_status(app, &call.caller, status)).transpose()?;
    let (max_running, max_queued) = app.exec.bounds();
    let now = Now {
        using: running_usage.collect(),
        running: (running, max_running),
        queued: (queued, max_queued),
        connections: app.connections.load(Ordering::Relaxed),
        ready: app.health.is_ready(),
        wrong: app.health.codes(&app.registry),
        ends,
        invalid_files,
        sync,
        packs_failed,
        packs: visible_packs(call)?,
        dev_packs: app.registry.pushed()?.len() as u64,
        newest_event: *app.history.newest_event().borrow(),
        history: app.exec.history_size(),
        launcher: app.exec.launcher().pid(),
        audit: app.audit.counts(),
    };
    let text = app.metrics.text(&now, &visible);
    Ok(content(200, "text/plain; version=0.0.4", Body::Whole(text.into())))
}

/// Returns the active versions of packs that the caller may see; true for signed ones.
fn visible_packs(call: &Call) -> Result<Vec<(PackName, PackVersion, bool)>, RegistryError> {
    let mut packs = Vec::new();
    for name in call.app.registry.packs()? {
        if scope::of_pack(&call.app, &call.caller, &name)? == Detail::Nothing {
            continue;
        }
        if let Some(active) = call.app.registry.pack(&name)? {
            packs.push((name, active.version().clone(), active.dev.is_none()));
        }
    }
    Ok(packs)
}

pub(in crate::api) fn list_packs(call: &Call) -> Result<Response<Body>, ApiError> {
    let status = call.app.registry.status()?;
    let mut names = call.app.registry.packs()?;
    names.extend(status.iter().flat_map(|s| &s.failed).map(|(name, _)| name.clone()));
    names.sort();
    names.dedup();
    let views = names.iter().filter_map(|name| pack_view(call, name, status.as_ref()).transpose());
    let items = views.collect::<Result<Vec<_>, _>>()?;
    let sync = status.map(|status| scope::sync_status(&call.app, &call.caller, status)).transpose()?;
    Ok(json(200, &PackList { items, sync }))
}

pub(in crate::api) fn get_pack(call: &Call) -> Result<Response<Body>, ApiError> {
    let name = PackName::new(call.segment.as_str()).map_err(|e| ApiError::BadRequest(e.to_string()))?;
    let status = call.app.registry.status()?;
    match pack_view(call, &name, status.as_ref())? {
        Some(view) => Ok(json(200, &view)),
        None => {
            call.subject.set(format_args!("{name}.*"));
            Err(ApiError::UnknownPack(name))
        }
    }
}

/// Returns a pack that is active, or whose activation failed, if the caller may see it.
fn pack_view(call: &Call, name: &PackName, status: Option<&SyncStatus>) -> Result<Option<PackView>, RegistryError> {
    let detail = scope::of_pack(&call.app, &call.caller, name)?;
    if detail == Detail::Nothing {
        return Ok(None);
    }
    let failed = status.and_then(|s| s.failed.iter().find(|(pack, _)| pack == name)).map(|(_, failed)| failed.clone());
    let failed = failed.and_then(|failed| scope::failed_version(detail, name, failed));
    let Some(active) = call.app.registry.pack(name)? else {
        return Ok(failed.map(|failed| PackView {
            name: name.clone(),
            description: String::new(),
            version: None,
            digest: None,
            dev: None,
            signed: None,
            actions: 0,
            failed: Some(failed),
        }));
    };
    let actions = scope::actions_of(&call.app, &call.caller, &active)?.len();
    Ok(Some(PackView {
        name: name.clone(),
        description: active.pack.description.clone(),
        version: Some(active.version().clone()),
        digest: Some(active.digest.clone()),
        dev: active.dev.clone(),
        signed: call.app.registry.signed_version_under(&active),
        actions: u32::try_from(actions).unwrap_or(u32::MAX),
        failed,
    }))
}

pub(in crate::api) async fn sync(call: &Call) -> Result<Response<Body>, ApiError> {
    let entry = audit::Entry::new(clock::now_ms(), "sync", audit::Outcome::Accepted);
    call.app.audit.record(entry.by(call.caller.principal().as_str())).await?;
    match call.app.exec.launcher().ask(Operation::Sync).await? {
        Outcome::Done => {
            let status = call.app.registry.status()?.unwrap_or_default();
            Ok(json(202, &scope::sync_status(&call.app, &call.caller, status)?))
        }
        Outcome::Refused { message, .. } => Err(LauncherError::Socket(message).into()),
    }
}

pub(in crate::api) fn list_actions(call: &Call) -> Result<Response<Body>, ApiError> {
    let registry = &call.app.registry;
    let mut items = Vec::new();
    for name in registry.packs()? {
        let Some(pack) = registry.pack(&name)? else { continue };
        for action in registry.actions(&pack)? {
            if let Some(active) = registry.action_of(&pack, &action)?
                && call.caller.covers(&active.action.reference(), Some(active.action.class))
            {
                items.push(view(&active));
            }
        }
    }
    Ok(json(200, &Page { items, next: None }))
}

pub(in crate::api) fn get_action(call: &Call) -> Result<Response<Body>, ApiError> {
    let name = ActionRef::new(call.segment.as_str()).map_err(|e| ApiError::BadRequest(e.to_string()))?;
    call.subject.set(&name);
    let refusal = || format!("no grant lets {} read or run {name}", call.caller.principal());
    // A name that no grant could cover is refused whether or not it is there.
    if !call.caller.could_cover(&name) {
        return Err(ApiError::Forbidden(refusal()));
    }
    match call.app.registry.action(&name)? {
        Some(active) if call.caller.covers(&name, Some(active.action.class)) => Ok(json(200, &view(&active))),
        Some(_) => Err(hidden(ApiError::UnknownAction(name.clone()), refusal())),
        None => Err(ApiError::UnknownAction(name)),
    }
}

fn view(active: &ActiveAction) -> ActionView {
    let ActiveAction { action, version, digest, dev } = active;
    ActionView { version: version.clone(), digest: digest.clone(), dev: dev.clone(), action: action.clone() }
}
