//! Instance of a run: start, wait for the end, take the output.
//!
//! ```text
//!  POST ?wait&output&class ──ended──▶ output, from the same answer
//!      │ └─ 202 ─▶ GET ?wait&output, until it has ended ──┘  └─ the rest of a long one: GET …/stdout, …/stderr
//!      └─ 400: an agent of an earlier version ─▶ check the class ─▶ POST ?wait, and the output apart
//! ```
//!
//! One connection serves all of it.

use std::time::Duration;

use packs_schema::agent::rest::{Code, CreateExecution, Execution, MAX_OUTPUT, Problem};
use packs_schema::base::name::{ExecutionId, RunId};
use packs_schema::pack::action::Class;
use tokio::sync::mpsc::UnboundedSender;

use super::{Before, Ending, Event, Request, Run, output, start_key};
use crate::connection::{Agent, WaitQuery, pause};
use crate::error::{Error, Kind};
use crate::inventory::Instance;
use crate::phase::Phase;
use crate::tls::Identity;

/// Number of attempts to start before the instance counts as unreachable.
const START_ATTEMPTS: u32 = 3;
/// Number of failed waits in a row before contact counts as lost: about half a minute with the pauses between.
const WAIT_ATTEMPTS: u32 = 10;
/// Time that the start waits for the end: short actions need one request, and the id of a long one is known soon.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// Time that each further request waits for the end.
const WAIT: Duration = Duration::from_secs(30);

/// Instance of a run, and its request.
pub(super) struct Target {
    pub(super) index: usize,
    pub(super) instance: Instance,
    pub(super) run: RunId,
    pub(super) create: CreateExecution,
    /// Class that the action must have.
    pub(super) class: Option<Class>,
    /// Maximum number of bytes of each output stream.
    pub(super) output_limit: usize,
    /// Time after which contact counts as lost.
    pub(super) time: Option<Duration>,
}

impl Target {
    /// Returns an instance of `run`.
    pub(super) fn new(run: &Run, index: usize) -> Target {
        Target::of(run, index, &run.id, &run.request)
    }

    /// Returns an instance of `run` with another request, under another id.
    pub(super) fn of(run: &Run, index: usize, id: &RunId, request: &Request) -> Target {
        let instance = run.targets[index].clone();
        Target {
            index,
            run: id.clone(),
            create: request.for_instance(id, instance.id()),
            class: request.class,
            output_limit: request.output_limit,
            time: run.plan.strategy().instance_timeout,
            instance,
        }
    }
}

/// How far the start on an instance has come, by this client or by an earlier one of the run.
#[derive(Debug, Clone, Default)]
pub(super) struct Flight {
    /// True if the agent may have accepted the start.
    may_run: bool,
    accepted: Option<ExecutionId>,
}

impl Flight {
    /// Returns what an earlier client has left on an instance, and with which ending.
    pub(super) fn left(before: Before, ending: Option<&Ending>) -> Flight {
        let accepted = ending.and_then(Ending::execution).cloned();
        Flight { may_run: before == Before::Started, accepted }
    }

    /// Returns the ending without an answer to the start.
    fn unanswered(&self, error: Error) -> Ending {
        Ending::Unreachable { error, execution: self.accepted.clone(), may_run: self.may_run }
    }

    /// Returns the ending of a start that was refused. An earlier start may still run: it may be why the agent is busy, and the agent
    /// does not find it by the key of another caller.
    fn refused(&self, error: Error) -> Ending {
        if self.may_run { self.unanswered(error) } else { Ending::Refused(error) }
    }
}

/// Runs `target` to its end, from where an earlier client has left it. Always `Some`; the caller handles a panic.
pub(super) async fn start(
    target: Target,
    mut flight: Flight,
    identity: Identity,
    events: UnboundedSender<Event>,
) -> Option<Ending> {
    let agent = Agent::new(&target.instance, &identity);
    let report = |event| {
        // Without a receiver, the caller has dropped the run; executions that were started go on.
        let _ = events.send(event);
    };
    let Some(time) = target.time else {
        return Some(carry(&target, &agent, &mut flight, &report).await);
    };
    match tokio::time::timeout(time, carry(&target, &agent, &mut flight, &report)).await {
        Ok(ending) => Some(ending),
        Err(_) => {
            let kind = match flight.may_run {
                true => Kind::TimeIsOver(time),
                false => Kind::TimedOut(Phase::Connect, "no connection within the time for one instance"),
            };
            Some(flight.unanswered(agent.error(kind)))
        }
    }
}

/// Starts the execution, waits for its end and takes the output.
async fn carry(target: &Target, agent: &Agent, flight: &mut Flight, report: &impl Fn(Event)) -> Ending {
    let limit = target.output_limit;
    let mut query =
        WaitQuery { wait: Some(FIRST_WAIT), output: (limit > 0).then_some(limit.min(MAX_OUTPUT)), class: target.class };
    let execution = match accept(target, agent, &mut query, flight, report).await {
        Ok(execution) => execution,
        Err(ending) => return ending,
    };
    let id = execution.id.clone();
    report(Event::Accepted { target: target.index, execution: id.clone() });
    flight.accepted = Some(id.clone());
    query = WaitQuery { wait: Some(WAIT), class: None, ..query };
    match wait(target.index, agent, execution, query, report).await {
        Ok(mut ended) => {
            let output = output::take(agent, &mut ended, limit).await;
            Ending::Ended(Box::new(ended), output)
        }
        Err(error) => Ending::Unreachable { error, execution: Some(id), may_run: true },
    }
}

/// Sends the start until it is answered. All attempts have the same idempotency key, and so are one start. Of `query`, what an
/// agent of an earlier version does not know is removed.
async fn accept(
    target: &Target,
    agent: &Agent,
    query: &mut WaitQuery,
    flight: &mut Flight,
    report: &impl Fn(Event),
) -> Result<Execution, Ending> {
    let create = &target.create;
    let key = start_key(&target.run, agent.instance().id());
    // An earlier client's start gives a dark host no further attempts.
    let (mut attempt, mut is_sent) = (0, false);
    loop {
        attempt += 1;
        let before = (flight.may_run, is_sent);
        let error = match agent.open().await {
            Ok(()) => {
                (flight.may_run, is_sent) = (true, true);
                match agent.create_with(create, Some(&key), query).await {
                    Ok(execution) => return Ok(execution),
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        if error.kind.nothing_was_sent() || error.kind.is_refusal() && !error.kind.may_follow_acceptance() {
            (flight.may_run, is_sent) = before;
        }
        if is_old_agent(&error.kind, query) {
            // Nothing was started: an agent refuses a query before it reads the body.
            if let Some(class) = query.class {
                check_class(agent, create, class, flight).await?;
            }
            *query = WaitQuery { wait: query.wait, ..WaitQuery::default() };
            attempt -= 1;
            continue;
        }
        if error.kind.is_refusal() && !(error.kind.is_transient() && attempt < WAIT_ATTEMPTS) {
            return Err(flight.refused(explain_old_agent(error, create)));
        }
        if attempt >= attempts(&error.kind, flight.may_run, is_sent) {
            return Err(flight.unanswered(error));
        }
        report(Event::Retrying { target: target.index, problem: error.kind.to_string() });
        tokio::time::sleep(pause(attempt)).await;
    }
}

/// True if the agent may be one that knows `wait` only: it refuses other names in a query.
fn is_old_agent(kind: &Kind, query: &WaitQuery) -> bool {
    let asks_more = query.output.is_some() || query.class.is_some();
    asks_more && matches!(kind, Kind::Problem(problem) if problem.code == Code::BadRequest)
}

/// Checks the class of the action in its definition, for an agent that cannot check it at the start.
async fn check_class(agent: &Agent, create: &CreateExecution, wanted: Class, flight: &Flight) -> Result<(), Ending> {
    match agent.action(&create.action).await {
        Ok(view) if view.action.class == wanted => Ok(()),
        Ok(view) => {
            let detail =
                format!("{} is a {} action here, not {wanted}: nothing was started", create.action, view.action.class);
            let problem = Problem::new(Code::ClassMismatch, detail, String::new());
            Err(flight.refused(agent.error(Kind::Problem(Box::new(problem)))))
        }
        Err(error) if error.kind.is_refusal() => Err(flight.refused(error)),
        Err(error) => Err(flight.unanswered(error)),
    }
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
/// seconds each add up over a fleet. An agent that may have accepted the start, and is gone now, may be restarting. `is_sent`: this
/// client has sent it.
fn attempts(kind: &Kind, may_run: bool, is_sent: bool) -> u32 {
    match kind {
        Kind::ConnectionRefused | Kind::Connect(_) | Kind::HandshakeBroken(_) if may_run => WAIT_ATTEMPTS,
        Kind::TimedOut(..) if is_sent && kind.nothing_was_sent() => WAIT_ATTEMPTS,
        // The agent restarts; the key finds the execution that it accepted before.
        Kind::Problem(_) => WAIT_ATTEMPTS,
        Kind::TimedOut(..) if kind.nothing_was_sent() => 1,
        Kind::HandshakeBroken(_) | Kind::Broken(_) | Kind::TimedOut(..) => START_ATTEMPTS,
        _ => 1,
    }
}

/// Waits until `execution` has ended, also across restarts of the agent.
async fn wait(
    target: usize,
    agent: &Agent,
    mut execution: Execution,
    mut query: WaitQuery,
    report: &impl Fn(Event),
) -> Result<Execution, Error> {
    let mut failed = 0;
    while !execution.state.is_terminal() {
        match agent.execution_with(&execution.id, &query).await {
            Ok(now) => {
                failed = 0;
                execution = now;
            }
            Err(error) if is_old_agent(&error.kind, &query) => query.output = None,
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

/// Starts the execution of `run` on one of its instances, and returns when it is accepted.
pub(crate) async fn accept_on(run: &Run, target: usize, identity: &Identity) -> Result<Execution, Ending> {
    let instance = &run.targets[target];
    let agent = Agent::new(instance, identity);
    let mut query = WaitQuery { class: run.request.class, ..WaitQuery::default() };
    accept(&Target::new(run, target), &agent, &mut query, &mut Flight::default(), &|_| {}).await
}

/// Waits until an execution has ended, also across restarts of its agent.
pub(crate) async fn wait_for_end(agent: &Agent, execution: Execution) -> Result<Execution, Error> {
    let query = WaitQuery { wait: Some(WAIT), ..WaitQuery::default() };
    wait(0, agent, execution, query, &|_| {}).await
}
