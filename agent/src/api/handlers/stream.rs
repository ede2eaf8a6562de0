//! `GET /v1/events`: changes of state as lines of JSON, of actions that the caller may see.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use hyper::Response;
use hyper::header::{HeaderName, HeaderValue};
use packs_schema::agent::rest::{EVENT_CURSOR, EventCursor};
use packs_schema::base::name::ActionRef;
use tokio::sync::watch;

use super::{Call, content};
use crate::api::App;
use crate::api::body::{Body, until_stop};
use crate::api::live_access::LiveAccess;
use crate::api::problem::ApiError;
use crate::api::visibility::covers;
use crate::exec::EventFollower;
use crate::history::{CursorCheck, History, HistoryError};

/// Number of events that one step reads.
const BATCH: u32 = 200;

struct Events {
    app: Arc<App>,
    live_access: Arc<LiveAccess>,
    after: u64,
    newest: Option<watch::Receiver<u64>>,
    /// Has changes written as they happen, when following.
    _follower: Option<EventFollower>,
}

pub(in crate::api) async fn events(call: &Call) -> Result<Response<Body>, ApiError> {
    let follow = call.query.flag("follow")?;
    let follower = if follow {
        Some(call.app.exec.follow_events().await)
    } else {
        call.app.exec.write_started().await;
        None
    };
    let newest = call.app.history.newest_event();
    let now = *newest.borrow();
    let after = match call.query.get::<EventCursor>("after")? {
        Some(cursor) => {
            check(&call.app.history, &cursor).await?;
            cursor.event
        }
        None if follow => now,
        None => 0,
    };
    let events = Events {
        app: call.app.clone(),
        live_access: call.live_access.clone(),
        after,
        newest: follow.then_some(newest),
        _follower: follower,
    };
    let lines = stream::try_unfold(events, |mut events| async move {
        Ok::<_, HistoryError>(events.next().await?.map(|lines| (lines, events)))
    });
    let mut response =
        content(200, "application/x-ndjson", Body::stream(until_stop(lines, call.app.stopping.clone()), None));
    if let Ok(value) = HeaderValue::from_str(&call.app.history.event_cursor(after).to_string()) {
        response.headers_mut().insert(HeaderName::from_static(EVENT_CURSOR), value);
    }
    Ok(response)
}

/// Refuses a cursor after which events are missing or have been numbered again.
async fn check(history: &History, cursor: &EventCursor) -> Result<(), ApiError> {
    let why = match history.check_cursor(cursor).await? {
        CursorCheck::Valid => return Ok(()),
        CursorCheck::OtherHistory => "it is of a history that was replaced".to_owned(),
        CursorCheck::Beyond(newest) => format!("the newest event is {newest}, so the history was replaced"),
        CursorCheck::Pruned => "events after it are no longer kept".to_owned(),
    };
    let message = format!("no events follow the cursor {cursor}: {why}; begin again with the oldest that is kept");
    Err(ApiError::CursorGone { message, begin: Some(history.event_cursor(0).to_string()) })
}

impl Events {
    /// Returns the next lines; waits for them only when following.
    async fn next(&mut self) -> Result<Option<Bytes>, HistoryError> {
        loop {
            if let Some(newest) = &mut self.newest {
                newest.mark_unchanged();
            }
            let batch = self.app.history.events(self.after, BATCH).await?;
            // With the grants now in effect: they may have changed since the request began.
            let caller = self.live_access.caller();
            let mut known: HashMap<ActionRef, bool> = HashMap::new();
            let mut lines = Vec::new();
            let last = batch.last().map(|event| event.event);
            for event in batch {
                let may = *known
                    .entry(event.action.clone())
                    .or_insert_with(|| covers(&self.app.registry, &caller, &event.action));
                if may {
                    serde_json::to_writer(&mut lines, &event).expect("an event serialises");
                    lines.push(b'\n');
                }
            }
            self.after = last.unwrap_or(self.after);
            if !lines.is_empty() {
                return Ok(Some(lines.into()));
            }
            if last.is_some() {
                continue;
            }
            let Some(newest) = &mut self.newest else { return Ok(None) };
            if newest.changed().await.is_err() {
                return Ok(None);
            }
        }
    }
}
