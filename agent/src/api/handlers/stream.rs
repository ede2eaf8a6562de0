//! `GET /v1/events`: changes of state as lines of JSON, of actions that the caller may see.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use hyper::Response;
use packs_schema::name::ActionRef;
use tokio::sync::watch;

use super::{Call, content, covers};
use crate::access::Caller;
use crate::api::App;
use crate::api::body::Body;
use crate::api::problem::ApiError;
use crate::history::HistoryError;

/// Events that are read at once.
const BATCH: u32 = 200;

struct Events {
    app: Arc<App>,
    caller: Caller,
    after: u64,
    newest: Option<watch::Receiver<u64>>,
}

pub(in crate::api) async fn events(call: &Call) -> Result<Response<Body>, ApiError> {
    let follow = call.query.flag("follow")?;
    let newest = call.app.history.newest_event();
    let now = *newest.borrow();
    let after = call.query.get::<u64>("after")?.unwrap_or(if follow { now } else { 0 });
    let events = Events { app: call.app.clone(), caller: call.caller.clone(), after, newest: follow.then_some(newest) };
    let lines = stream::try_unfold(events, |mut events| async move {
        Ok::<_, HistoryError>(events.next().await?.map(|lines| (lines, events)))
    });
    Ok(content(200, "application/x-ndjson", Body::stream(lines, None)))
}

impl Events {
    /// The next lines; waits for them only when following.
    async fn next(&mut self) -> Result<Option<Bytes>, HistoryError> {
        loop {
            if let Some(newest) = &mut self.newest {
                newest.mark_unchanged();
            }
            let batch = self.app.history.events(self.after, BATCH).await?;
            let mut known: HashMap<ActionRef, bool> = HashMap::new();
            let mut lines = Vec::new();
            let last = batch.last().map(|event| event.event);
            for event in batch {
                let may = *known
                    .entry(event.action.clone())
                    .or_insert_with(|| covers(&self.app, &self.caller, &event.action));
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
