//! Output of an execution that has ended: from the answer that said so, or fetched where that does not hold all of it.

use std::time::Duration;

use packs_schema::agent::execution::StreamTotals;
use packs_schema::agent::execution::output::Stream;
use packs_schema::agent::rest::{Code, Execution};
use packs_schema::base::name::ExecutionId;

use super::Output;
use crate::connection::{Agent, Part, start_bytes};
use crate::error::{Error, Kind};
use crate::phase::Phase;

/// Time limit for fetching a stream.
const PATIENCE: Duration = Duration::from_secs(60);

impl Output {
    /// Cuts the middle out of each stream that is longer than `limit` bytes.
    pub fn shorten(&mut self, limit: usize) {
        for bytes in [&mut self.stdout, &mut self.stderr] {
            if bytes.len() > limit {
                let half = limit / 2;
                *bytes = joined(&bytes[..half], &bytes[bytes.len() - half..]);
                self.truncated = true;
            }
        }
    }
}

/// Returns both streams; of one that is longer than `limit`, the beginning and the end. Takes them out of the answer that
/// `execution` came with, where it holds them, and fetches the rest. An error is reported and does not change how the execution
/// ended.
pub(super) async fn take(agent: &Agent, execution: &mut Execution, limit: usize) -> Output {
    let mut output = Output::default();
    let (start, error) = (execution.output.take(), execution.output_error.take());
    if limit == 0 {
        return output;
    }
    // Neither is there to be read.
    if let Some(code @ (Code::Forbidden | Code::OutputGone)) = error {
        output.problem = Some(format!("{} ({code})", code.title()));
        return output;
    }
    let (stdout, stderr) = start.map_or((None, None), |start| (Some(start.stdout), Some(start.stderr)));
    for (stream, totals, start) in
        [(Stream::Stdout, execution.stdout, stdout), (Stream::Stderr, execution.stderr, stderr)]
    {
        if totals.is_some_and(|totals: StreamTotals| totals.written_bytes == 0) {
            continue;
        }
        let is_whole = start.as_ref().is_some_and(|start| !start.truncated);
        let start = start.as_ref().and_then(start_bytes);
        let bytes = match stream {
            Stream::Stdout => &mut output.stdout,
            Stream::Stderr => &mut output.stderr,
        };
        let kept = totals.map_or(0, |totals| totals.written_bytes.saturating_sub(totals.dropped_bytes));
        let read = match start {
            Some(whole) if is_whole && whole.len() <= limit => Ok((whole, false)),
            start => {
                let start = start.unwrap_or_default();
                read(agent, &execution.id, stream, limit, kept > limit as u64, start).await
            }
        };
        match read {
            Ok((read, more)) => {
                *bytes = read;
                output.truncated |= more || totals.is_some_and(|totals| totals.dropped_bytes > 0);
            }
            Err(error) => output.problem = Some(error.kind.to_string()),
        }
    }
    output
}

/// Fetches a stream, or its beginning and end if it is known to be longer than `limit`; `start` are its first bytes, as far as
/// they are known.
async fn read(
    agent: &Agent,
    id: &ExecutionId,
    stream: Stream,
    limit: usize,
    is_longer: bool,
    mut start: Vec<u8>,
) -> Result<(Vec<u8>, bool), Error> {
    let half = limit / 2;
    let reading = async {
        if !is_longer || half == 0 {
            return agent.read_part(id, stream, Part::Whole, limit).await;
        }
        if start.len() < half {
            (start, _) = agent.read_part(id, stream, Part::First(half), half).await?;
        }
        start.truncate(half);
        let (tail, _) = agent.read_part(id, stream, Part::Last(half), half).await?;
        Ok((joined(&start, &tail), true))
    };
    let late = || agent.error(Kind::TimedOut(Phase::Http, "no output within 60s"));
    tokio::time::timeout(PATIENCE, reading).await.unwrap_or_else(|_| Err(late()))
}

/// Joins whole lines of the beginning and the end, with a line between that marks the gap.
fn joined(head: &[u8], tail: &[u8]) -> Vec<u8> {
    let head = &head[..head.iter().rposition(|byte| *byte == b'\n').map_or(head.len(), |at| at + 1)];
    let tail = &tail[tail.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1)..];
    let before: &[u8] = if head.ends_with(b"\n") { b"" } else { b"\n" };
    [head, before, b"[bolt: the middle was not fetched]\n", tail].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_meet_at_whole_lines() {
        let text = |head: &str, tail: &str| String::from_utf8(joined(head.as_bytes(), tail.as_bytes())).unwrap();
        let mark = "[bolt: the middle was not fetched]\n";
        assert_eq!(text("a\nb\nc", "x\ny\nz\n"), format!("a\nb\n{mark}y\nz\n"));
        assert_eq!(text("aaa", "zzz"), format!("aaa\n{mark}zzz"));
    }
}
