//! Follows an output to its end across broken connections.

use std::time::Duration;

use packs_schema::agent::execution::output::Stream;
use packs_schema::agent::rest::OutputChunk;
use packs_schema::base::name::ExecutionId;

use super::Agent;
use super::bytes::chunk_bytes;
use super::routes::OutputFrom;
use super::stream::Lines;
use crate::error::Error;

/// Maximum number of consecutive reconnects before following fails.
pub const MAX_RECONNECTS: u32 = 8;

/// Stream of an execution's output chunks, each byte once. After a broken connection it resumes at the same offset.
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
    /// Returns the output of `id` from the beginning; with `follow`, until the execution ends.
    pub fn follow_output(&self, id: &ExecutionId, follow: bool) -> FollowOutput<'_> {
        let from = OutputFrom::default();
        FollowOutput { agent: self, id: id.clone(), follow, from, lines: None, broken: 0 }
    }
}

impl FollowOutput<'_> {
    /// Returns the next chunk; `None` at the end.
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

fn length(chunk: &OutputChunk) -> u64 {
    chunk_bytes(chunk).map_or(0, |data| data.len() as u64)
}

/// Returns the backoff before the nth attempt: 100 ms, doubled each time, at most 5 s.
pub(crate) fn pause(attempt: u32) -> Duration {
    Duration::from_millis(100 << attempt.saturating_sub(1).min(6)).min(Duration::from_secs(5))
}
