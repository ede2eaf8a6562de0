//! Lists, shows and stops executions.

use std::time::Duration;

use hyper::Response;
use packs_schema::agent::execution::State;
use packs_schema::agent::grants::Verb;
use packs_schema::agent::rest::{DEFAULT_PAGE, KillRequest, MAX_PAGE, Page};

use super::create::{check_note, parse_body};
use super::{Call, execution_id, hidden, json, start, visible, wait_for_end};
use crate::api::body::Body;
use crate::api::problem::ApiError;
use crate::api::request_body;
use crate::api::visibility::{class_of, covers};
use crate::exec::usage;
use crate::history::Filter;
use crate::registry::read_json;

pub(in crate::api) async fn list(call: &Call) -> Result<Response<Body>, ApiError> {
    let query = &call.query;
    let limit = query.get::<u32>("limit")?.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(ApiError::BadRequest(format!("query parameter limit: it is from 1 to {MAX_PAGE}")));
    }
    let wanted = Filter {
        action: query.get("action")?,
        state: query.get("state")?,
        ended: query.flag("ended")?,
        principal: query.get("principal")?,
        run: query.get("run")?,
        since_ms: query.number("since_ms")?,
        until_ms: query.number("until_ms")?,
        limit,
        after: query.get("cursor")?,
    };
    if let Some(cursor) = wanted.after.as_ref().filter(|cursor| !call.app.history.owns_cursor(cursor)) {
        let message = format!("the cursor {cursor} is of a history that was replaced: list again without a cursor");
        return Err(ApiError::CursorGone { message, begin: None });
    }
    let (caller, app) = (call.caller.clone(), call.app.clone());
    let visible = move |action: &_| covers(&app.registry, &caller, action);
    call.app.exec.write_started().await;
    let (items, next) = call.app.history.list(wanted, visible).await?;
    Ok(json(200, &Page { items, next: next.map(|place| place.to_string()) }))
}

pub(in crate::api) async fn get(call: &Call) -> Result<Response<Body>, ApiError> {
    let (wait, output) = (call.query.wait()?, call.query.output()?);
    let mut record = visible(call).await?;
    if wait > Duration::ZERO
        && !record.state.is_terminal()
        && let Some(now) = wait_for_end(&call.app, &record.id, wait).await?
    {
        record = now;
    }
    if record.state == State::Queued {
        record.waiting = call.app.exec.waiting(&record.id, |action| covers(&call.app.registry, &call.caller, action));
    }
    if record.state == State::Running {
        record.usage = read_json(&call.app.enforcement)?.and_then(|enforcement| usage::of(&enforcement, &record.id));
    }
    if let Some(limit) = output {
        start::attach(&call.app, &call.live_access.caller(), &mut record, limit).await;
    }
    Ok(json(200, &record))
}

pub(in crate::api) async fn kill(call: Call) -> Result<Response<Body>, ApiError> {
    let id = execution_id(&call)?;
    let Call { app, caller, subject, headers, body, .. } = call;
    let bytes = request_body::read(body).await?;
    let asked = if bytes.is_empty() { KillRequest::default() } else { parse_body(&headers, &bytes)?.1 };
    check_note(asked.note.as_deref())?;
    let Some(record) = app.exec.view(&id).await? else { return Err(ApiError::UnknownExecution(id)) };
    subject.set(&record.action);
    let class = class_of(&app.registry, &record.action);
    let Some(permit) = caller.may(&record.action, class) else {
        // A caller that may not see the execution does not learn that it exists.
        let reason = format!("no grant lets {} kill {}", caller.principal(), record.action);
        return Err(if caller.is_granted(Verb::Read, &record.action, class) {
            ApiError::Forbidden(reason)
        } else {
            hidden(ApiError::UnknownExecution(id), reason)
        });
    };
    Ok(json(202, &app.exec.kill(permit, &id, asked.note).await?))
}
