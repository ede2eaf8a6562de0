//! Instance of a run: start, wait for the end, fetch the output.

use std::time::Duration;

use packs_schema::agent::execution::StreamTotals;
use packs_schema::agent::execution::output::Stream;
use packs_schema::agent::rest::{Code, CreateExecution, Execution};
use packs_schema::base::name::{ExecutionId, RunId};
use tokio::sync::mpsc::UnboundedSender;

use super::{Ending, Event, Output, Run, start_key};
use crate::connection::{Agent, NO_CONNECTION, pause};
use crate::error::{Error, Kind};
use crate::inventory::Instance;
use crate::tls::Identity;

/// Number of attempts to start before the instance counts as unreachable.
const START_ATTEMPTS: u32 = 3;
/// Number of failed waits in a row before contact counts as lost: about half a minute with the pauses between.
const WAIT_ATTEMPTS: u32 = 10;
/// Time that the start waits for the end: short actions need one request, and the id of a long one is known soon.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// Time that each further request waits for the end.
const WAIT: Duration = Duration::from_secs(30);

/// Runs `create` on `instance` to its end. Always `Some`; the caller handles a panic.
pub(super) async fn start(
    target: usize,
    instance: Instance,
    identity: Identity,
    run: RunId,
    create: CreateExecution,
    output_limit: usize,
    events: UnboundedSender<Event>,
) -> Option<Ending> {
    let agent = Agent::new(&instance, &identity);
    let report = |event| {
        // Without a receiver, the caller has dropped the run; executions that were started go on.
        let _ = events.send(event);
    };
    let execution = match accept(target, &agent, &run, &create, Some(FIRST_WAIT), &report).await {
        Ok(execution) => execution,
        Err(ending) => return Some(ending),
    };
    report(Event::Accepted { target, execution: execution.id.clone() });
    let id = execution.id.clone();
    Some(match wait(target, &agent, execution, &report).await {
        Ok(ended) => {
            let output = fetch(&agent, &ended, output_limit).await;
            Ending::Ended(Box::new(ended), output)
        }
        Err(error) => Ending::Unreachable { error, execution: Some(id), may_run: true },
    })
}

/// Sends the start until it is answered. All attempts have the same idempotency key, and so are one start.
async fn accept(
    target: usize,
    agent: &Agent,
    run: &RunId,
    create: &CreateExecution,
    wait: Option<Duration>,
    report: &impl Fn(Event),
) -> Result<Execution, Ending> {
    let key = start_key(run, agent.instance().id());
    let mut may_run = false;
    for attempt in 1.. {
        let error = match agent.create(create, Some(&key), wait).await {
            Ok(execution) => return Ok(execution),
            Err(error) => error,
        };
        match &error.kind {
            kind if kind.is_refusal() && !(kind.is_transient() && attempt < WAIT_ATTEMPTS) => {
                return Err(Ending::Refused(explain_old_agent(error, create)));
            }
            // Without a connection nothing was sent.
            Kind::TimedOut(NO_CONNECTION) => {}
            Kind::Broken(_) | Kind::TimedOut(_) | Kind::Protocol(_) | Kind::WrongAnswer(_) => may_run = true,
            _ => {}
        }
        if attempt >= attempts(&error.kind, may_run) {
            return Err(Ending::Unreachable { error, execution: None, may_run });
        }
        report(Event::Retrying { target, problem: error.kind.to_string() });
        tokio::time::sleep(pause(attempt)).await;
    }
    unreachable!("the loop ends by returning")
}

/// An agent that does not know the field `version` refuses the whole request, so that nothing starts unchecked.
fn explain_old_agent(mut error: Error, create: &CreateExecution) -> Error {
    if let (Kind::Problem(problem), Some(version)) = (&mut error.kind, &create.version)
        && problem.code == Code::InvalidBody
    {
        problem.detail = format!(
            "this agent cannot be asked for version {version}: nothing was started; upgrade the agent, or run without @{version}"
        );
    }
    error
}

/// Returns how often a start is attempted that fails with `kind`. A host that does not answer at all is tried once: five
/// seconds each add up over a fleet. An agent that may have accepted the start, and is gone now, may be restarting.
fn attempts(kind: &Kind, may_run: bool) -> u32 {
    match kind {
        Kind::ConnectionRefused | Kind::Connect(_) | Kind::TimedOut(NO_CONNECTION) if may_run => WAIT_ATTEMPTS,
        // The agent restarts; the key finds the execution that it accepted before.
        Kind::Problem(_) => WAIT_ATTEMPTS,
        Kind::TimedOut(NO_CONNECTION) => 1,
        Kind::Broken(_) | Kind::TimedOut(_) => START_ATTEMPTS,
        _ => 1,
    }
}

/// Waits until `execution` has ended, also across restarts of the agent.
async fn wait(
    target: usize,
    agent: &Agent,
    mut execution: Execution,
    report: &impl Fn(Event),
) -> Result<Execution, Error> {
    let mut failed = 0;
    while !execution.state.is_terminal() {
        match agent.execution(&execution.id, Some(WAIT)).await {
            Ok(now) => {
                failed = 0;
                execution = now;
            }
            Err(error) => {
                failed += 1;
                let unavailable = matches!(&error.kind, Kind::Problem(p) if p.status == 503);
                if failed > WAIT_ATTEMPTS || !(error.kind.is_transient() || unavailable) {
                    return Err(error);
                }
                report(Event::Retrying { target, problem: error.kind.to_string() });
                tokio::time::sleep(pause(failed)).await;
            }
        }
    }
    Ok(execution)
}

/// Fetches both streams; of one that is longer than `limit`, the beginning and the end. An error is reported and does not change
/// how the execution ended.
async fn fetch(agent: &Agent, execution: &Execution, limit: usize) -> Output {
    let mut output = Output::default();
    if limit == 0 {
        return output;
    }
    for stream in Stream::ALL {
        let (totals, bytes) = match stream {
            Stream::Stdout => (execution.stdout, &mut output.stdout),
            Stream::Stderr => (execution.stderr, &mut output.stderr),
        };
        if totals.is_some_and(|totals: StreamTotals| totals.written_bytes == 0) {
            continue;
        }
        let kept = totals.map_or(0, |totals| totals.written_bytes.saturating_sub(totals.dropped_bytes));
        match read(agent, &execution.id, stream, limit, kept > limit as u64).await {
            Ok((read, more)) => {
                *bytes = read;
                output.truncated |= more || totals.is_some_and(|totals| totals.dropped_bytes > 0);
            }
            Err(error) => output.problem = Some(error.kind.to_string()),
        }
    }
    output
}

async fn read(
    agent: &Agent,
    id: &ExecutionId,
    stream: Stream,
    limit: usize,
    ends: bool,
) -> Result<(Vec<u8>, bool), Error> {
    let late = || agent.error(Kind::TimedOut("no output within 60s"));
    let half = limit / 2;
    let reading = async {
        if !ends || half == 0 {
            return agent.stream(id, stream, 0, false).await?.collect(limit).await;
        }
        let (head, _) = agent.range(id, stream, 0, half as u64 - 1).await?.collect(half).await?;
        let (tail, _) = agent.last(id, stream, half as u64).await?.collect(half).await?;
        Ok((joined(&head, &tail), true))
    };
    tokio::time::timeout(Duration::from_secs(60), reading).await.unwrap_or_else(|_| Err(late()))
}

/// Joins whole lines of the beginning and the end, with a line between that marks the gap.
fn joined(head: &[u8], tail: &[u8]) -> Vec<u8> {
    let head = &head[..head.iter().rposition(|byte| *byte == b'\n').map_or(head.len(), |at| at + 1)];
    let tail = &tail[tail.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1)..];
    let before: &[u8] = if head.ends_with(b"\n") { b"" } else { b"\n" };
    [head, before, b"[bolt: the middle was not fetched]\n", tail].concat()
}

/// Starts the execution of `run` on one of its instances, and returns when it is accepted.
pub(crate) async fn accept_on(run: &Run, target: usize, identity: &Identity) -> Result<Execution, Ending> {
    let instance = &run.targets[target];
    let (agent, create) = (Agent::new(instance, identity), run.request.for_instance(&run.id, instance.id()));
    accept(target, &agent, &run.id, &create, None, &|_| {}).await
}

/// Waits until an execution has ended, also across restarts of its agent.
pub(crate) async fn wait_for_end(agent: &Agent, execution: Execution) -> Result<Execution, Error> {
    wait(0, agent, execution, &|_| {}).await
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
