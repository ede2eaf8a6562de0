//! Follows events across broken connections, restarts of the agent and a replaced history.

use packs_schema::agent::rest::{Code, EVENT_CURSOR, EventCursor, StateChange};

use super::Agent;
use super::call::Call;
use super::follow::{MAX_RECONNECTS, pause};
use super::stream::Lines;
use crate::error::{Error, Kind};

/// Item of a followed event stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// The next state change.
    Change(StateChange),
    /// The events after the last cursor are lost: the history was replaced, or the cursor is older than the oldest event.
    /// Following restarts with the oldest event that is kept, so that changes may be repeated and some are missing.
    Restarted(String),
}

/// Endless stream of an instance's state changes, starting after a cursor.
#[derive(Debug)]
pub struct FollowEvents<'a> {
    agent: &'a Agent,
    /// Cursor to continue after; `None` until the agent has returned the current one.
    after: Option<EventCursor>,
    lines: Option<Lines<StateChange>>,
    broken: u32,
}

impl Agent {
    /// Requests `GET /v1/events`: state changes after `after`, the oldest first; with `follow` the stream does not end.
    /// Without `after` it starts with the oldest event, or when following with the next one. Returns the cursor after
    /// which the answer starts.
    pub async fn events(
        &self,
        after: Option<&EventCursor>,
        follow: bool,
    ) -> Result<(Option<EventCursor>, Lines<StateChange>), Error> {
        let mut call = Call::get("/v1/events");
        if let Some(after) = after {
            call = call.query("after", &after.to_string());
        }
        if follow {
            call = call.query("follow", "true");
        }
        let (wire, response) = self.exchange(call).await?;
        let begin = response.headers().get(EVENT_CURSOR).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok((begin, Lines::new(super::ByteStream::new(response.into_body(), wire, self, 0))))
    }

    /// Follows the state changes after `after`, or without it those from now on.
    pub fn follow_events(&self, after: Option<EventCursor>) -> FollowEvents<'_> {
        FollowEvents { agent: self, after, lines: None, broken: 0 }
    }
}

impl FollowEvents<'_> {
    /// Returns the cursor after the last item: pass it to a later [`Agent::follow_events`].
    pub fn cursor(&self) -> Option<&EventCursor> {
        self.after.as_ref()
    }

    /// Returns the next change. After an error the next call reconnects.
    pub async fn next(&mut self) -> Result<Followed, Error> {
        loop {
            let failed = match &mut self.lines {
                Some(lines) => match lines.next().await {
                    Some(Ok(change)) => {
                        self.broken = 0;
                        // Agents of earlier versions send event numbers without a cursor.
                        let cursor = change.cursor.as_ref().and_then(|cursor| cursor.parse().ok());
                        self.after = Some(cursor.unwrap_or(EventCursor { epoch: None, event: change.event }));
                        return Ok(Followed::Change(change));
                    }
                    Some(Err(error)) => error,
                    None => self.agent.error(Kind::Broken("the agent ended the stream".to_owned())),
                },
                None => match self.agent.events(self.after.as_ref(), true).await {
                    Ok((begin, lines)) => {
                        self.after = begin.or(self.after.take());
                        self.lines = Some(lines);
                        continue;
                    }
                    Err(error) => error,
                },
            };
            self.lines = None;
            if let Kind::Problem(problem) = &failed.kind
                && problem.code == Code::CursorGone
            {
                let oldest = EventCursor { epoch: None, event: 0 };
                let begin = problem.begin.as_ref().and_then(|begin| begin.parse().ok()).unwrap_or(oldest);
                // An agent that rejects the cursor that it just returned is not asked again.
                if self.after.as_ref() != Some(&begin) {
                    self.after = Some(begin);
                    return Ok(Followed::Restarted(crate::show::visible(&problem.detail)));
                }
            }
            self.broken += 1;
            if !failed.kind.is_transient() || self.broken > MAX_RECONNECTS {
                self.broken = 0;
                return Err(failed);
            }
            tokio::time::sleep(pause(self.broken)).await;
        }
    }
}
