//! An output that is followed to its end, also across broken connections.

use std::time::Duration;

use packs_schema::agent::execution::output::Stream;
use packs_schema::agent::rest::OutputChunk;
use packs_schema::base::name::ExecutionId;

use super::Agent;
use super::routes::OutputFrom;
use super::stream::Lines;
use crate::error::Error;

/// How often in a row a broken connection is replaced before following gives up.
pub const MAX_RECONNECTS: u32 = 8;

/// The chunks of an execution's output, each byte once. After a broken connection it goes on where it was.
#[derive(Debug)]
pub struct FollowOutput<'a> {
    agent: &'a Agent,
    id: ExecutionId,
    follow: bool,
    from: OutputFrom,
    lines: Option<Lines<OutputChunk>>,
    broken: u32,
}

impl Agent {
    /// The output of `id` from the beginning; with `follow`, until the execution ends.
    pub fn follow_output(&self, id: &ExecutionId, follow: bool) -> FollowOutput<'_> {
        let from = OutputFrom::default();
        FollowOutput { agent: self, id: id.clone(), follow, from, lines: None, broken: 0 }
    }
}

impl FollowOutput<'_> {
    /// The next chunk; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<OutputChunk, Error>> {
        loop {
            let failed = match &mut self.lines {
                Some(lines) => match lines.next().await {
                    Some(Ok(chunk)) => {
                        self.broken = 0;
                        self.advance(&chunk);
                        return Some(Ok(chunk));
                    }
                    Some(Err(error)) => error,
                    None => return None,
                },
                None => match self.agent.output(&self.id, self.from, self.follow).await {
                    Ok(lines) => {
                        self.lines = Some(lines);
                        continue;
                    }
                    Err(error) => error,
                },
            };
            self.lines = None;
            self.broken += 1;
            if !failed.kind.is_transient() || self.broken > MAX_RECONNECTS {
                return Some(Err(failed));
            }
            tokio::time::sleep(pause(self.broken)).await;
        }
    }

    fn advance(&mut self, chunk: &OutputChunk) {
        let length = chunk.dropped_bytes.unwrap_or_else(|| length(chunk));
        let end = chunk.offset.saturating_add(length);
        match chunk.stream {
            Stream::Stdout => self.from.stdout = end,
            Stream::Stderr => self.from.stderr = end,
        }
    }
}

/// The bytes of `chunk`, `None` when it holds something else than it should.
pub fn chunk_bytes(chunk: &OutputChunk) -> Option<Vec<u8>> {
    match (&chunk.text, &chunk.base64) {
        (Some(text), _) => Some(text.clone().into_bytes()),
        (None, Some(base64)) => base64::Engine::decode(&base64::engine::general_purpose::STANDARD, base64).ok(),
        (None, None) => None,
    }
}

fn length(chunk: &OutputChunk) -> u64 {
    chunk_bytes(chunk).map_or(0, |data| data.len() as u64)
}

/// How long to wait before the nth attempt: 100 ms, doubling, at most 5 s.
pub(crate) fn pause(attempt: u32) -> Duration {
    Duration::from_millis(100 << attempt.saturating_sub(1).min(6)).min(Duration::from_secs(5))
}
