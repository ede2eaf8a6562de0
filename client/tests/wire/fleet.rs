//! Fan-out over servers that behave well, refuse, break off and are not there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bolt_client::fleet::Stopped;
use bolt_client::fleet::{self, Amount, Control, Ending, Event, Grouping, Plan, Request, Run, Strategy};
use bolt_client::inventory::Instance;
use bytes::Bytes;
use hyper::Method;
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::{Code, CreateExecution, Execution, IDEMPOTENCY_KEY};
use packs_schema::base::name::{ActionRef, Digest, ExecutionId, InstanceId, PackVersion, Principal};
use packs_schema::delivery::facts::Facts;

use crate::server::{Answer, World, answer, broken_after, id, instance, json, problem};

/// Requests that an agent of the test has received: executions by their key.
#[derive(Default)]
pub(crate) struct Agent {
    name: String,
    started: Mutex<HashMap<String, Execution>>,
    posts: Mutex<usize>,
}

impl Agent {
    pub(crate) fn new(name: &str) -> Arc<Agent> {
        Arc::new(Agent { name: name.to_owned(), ..Agent::default() })
    }

    fn execution(&self, create: &CreateExecution, state: State) -> Execution {
        Execution {
            id: ExecutionId::new(uuid::Uuid::now_v7().to_string()).unwrap(),
            instance: InstanceId::new(self.name.as_str()).unwrap(),
            action: create.action.clone(),
            version: PackVersion::new("1.0.0").unwrap(),
            digest: Digest::new("0".repeat(64)).unwrap(),
            dev: None,
            state,
            reason: None,
            parameters: create.parameters.clone(),
            noop: create.noop,
            principal: Principal::new("spiffe://test/operator").unwrap(),
            note: None,
            killed_by: None,
            kill_note: None,
            waiting: None,
            run: create.run.clone(),
            created_at_ms: 1,
            started_at_ms: None,
            ended_at_ms: None,
            duration_ms: None,
            exit_status: None,
            signal: None,
            usage: None,
            stdout: None,
            stderr: None,
            leftovers: None,
            unenforced: Vec::new(),
            result: None,
            result_error: None,
            output: None,
            output_error: None,
        }
    }

    /// Starts what `request` asks for, once for each key.
    pub(crate) fn start(&self, request: &hyper::Request<Bytes>, state: State) -> Execution {
        let create: CreateExecution = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(create.instance.as_ref().unwrap().as_str(), self.name);
        let key = request.headers()[IDEMPOTENCY_KEY].to_str().unwrap().to_owned();
        let mut started = self.started.lock().unwrap();
        started.entry(key).or_insert_with(|| self.execution(&create, state)).clone()
    }

    pub(crate) fn starts(&self) -> usize {
        self.started.lock().unwrap().len()
    }
}

fn well(agent: &Agent, request: &hyper::Request<Bytes>) -> Answer {
    match (request.method(), request.uri().path()) {
        (&Method::POST, "/v1/executions") => json(&agent.start(request, State::Succeeded)),
        (_, path) if path.ends_with("/stdout") => answer(hyper::StatusCode::OK, "text/plain", "out\n"),
        (_, path) if path.ends_with("/stderr") => answer(hyper::StatusCode::OK, "text/plain", ""),
        _ => problem(Code::NotFound, "no such route"),
    }
}

pub(crate) fn run(targets: Vec<Instance>, strategy: Strategy) -> Run {
    let facts: Vec<&Facts> = targets.iter().map(|t| &t.facts).collect();
    let plan = Plan::new(&facts, &strategy);
    Run {
        id: fleet::new_run_id(),
        request: Request::new(ActionRef::new("linux.true").unwrap()),
        targets,
        plan,
        check: None,
    }
}

fn states(report: &fleet::Report) -> Vec<&'static str> {
    report.endings.iter().map(Ending::state).collect()
}

pub(crate) fn nobody_there(name: &str) -> Instance {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    instance(name, listener.local_addr().unwrap())
}

#[tokio::test]
async fn every_instance_ends_in_a_named_state() {
    let world = World::new();
    let (one, three) = (Agent::new("i-1"), Agent::new("i-3"));
    let (a, b) = (one.clone(), three.clone());
    let first = world.server("i-1", move |request| well(&a, request)).await;
    let second = world.server("i-2", |_| problem(Code::Forbidden, "no grant")).await;
    let third = world.server("i-3", move |request| well(&b, request)).await;
    let targets = vec![first.instance.clone(), second.instance.clone(), nobody_there("i-9"), third.instance.clone()];

    let all = Strategy { grouping: Grouping::All, max_failures: Amount::Percent(100), ..Strategy::default() };
    let report = fleet::run(&run(targets.clone(), all), &world.identity(), &Control::default(), |_| {}).await;
    assert_eq!(states(&report), ["succeeded", "unauthorized", "unreachable", "succeeded"]);
    let Ending::Ended(_, output) = &report.endings[0] else { panic!() };
    assert_eq!(output.stdout, b"out\n");
    assert_eq!((one.starts(), three.starts()), (1, 1));

    let serial = fleet::run(&run(targets, Strategy::default()), &world.identity(), &Control::default(), |_| {}).await;
    assert_eq!(states(&serial), ["succeeded", "unauthorized", "not_started", "not_started"]);
    assert_eq!(serial.stopped, Some(Stopped::Failures));
    assert_eq!((one.starts(), three.starts()), (2, 1));
}

#[tokio::test]
async fn an_unreachable_instance_spends_its_own_budget() {
    let world = World::new();
    let agent = Agent::new("i-1");
    let shared = agent.clone();
    let server = world.server("i-1", move |request| well(&shared, request)).await;
    let targets = vec![nobody_there("i-8"), nobody_there("i-9"), server.instance.clone()];
    let with = |max_unreachable| Strategy { max_unreachable, ..Strategy::default() };
    let within = run(targets.clone(), with(Amount::Count(2)));
    let report = fleet::run(&within, &world.identity(), &Control::default(), |_| {}).await;
    assert_eq!((states(&report), report.stopped), (vec!["unreachable", "unreachable", "succeeded"], None));

    let beyond = run(targets, with(Amount::Count(1)));
    let mut exceeded = Vec::new();
    let report = fleet::run(&beyond, &world.identity(), &Control::default(), |event| {
        if let Event::BudgetExceeded { stopped, count, budget } = event {
            exceeded.push((stopped, count, budget));
        }
    })
    .await;
    assert_eq!(states(&report), ["unreachable", "unreachable", "not_started"]);
    assert_eq!((report.stopped, exceeded), (Some(Stopped::Unreachable), vec![(Stopped::Unreachable, 2, 1)]));
    assert_eq!(agent.starts(), 1);
}

#[tokio::test]
async fn contact_that_is_lost_after_the_start_is_a_failure() {
    let world = World::new();
    let server = world.server("i-1", |_| broken_after("{")).await;
    let strategy = Strategy { max_unreachable: Amount::Percent(100), ..Strategy::default() };
    let run = run(vec![server.instance.clone(), nobody_there("i-2")], strategy);
    let report = fleet::run(&run, &world.identity(), &Control::default(), |_| {}).await;
    assert_eq!((states(&report), report.stopped), (vec!["unreachable", "not_started"], Some(Stopped::Failures)));
}

#[tokio::test]
async fn a_version_is_asked_for_and_an_agent_that_cannot_check_it_starts_nothing() {
    let world = World::new();
    let agent = Agent::new("i-1");
    let shared = agent.clone();
    let asked =
        |request: &hyper::Request<Bytes>| serde_json::from_slice::<CreateExecution>(request.body()).unwrap().version;
    let current = world
        .server("i-1", move |request| match asked(request) {
            Some(version) if version.to_string() != "1.0.0" => problem(Code::VersionMismatch, "1.0.0 is active"),
            _ => well(&shared, request),
        })
        .await;
    let old = world.server("i-2", |_| problem(Code::InvalidBody, "unknown field `version`")).await;
    // An agent that would ignore the field starts another version.
    let ignoring = Agent::new("i-3");
    let third = world.server("i-3", move |request| well(&ignoring, request)).await;
    let strategy = Strategy { grouping: Grouping::All, max_failures: Amount::Percent(100), ..Strategy::default() };
    let mut run = run(vec![current.instance.clone(), old.instance.clone(), third.instance.clone()], strategy);
    run.request.version = Some(PackVersion::new("1.1.0").unwrap());
    let report = fleet::run(&run, &world.identity(), &Control::default(), |_| {}).await;
    assert_eq!(states(&report), ["version_mismatch", "refused", "wrong_instance"]);
    let Ending::Refused(error) = &report.endings[1] else { panic!() };
    assert!(error.to_string().contains("cannot be asked for version 1.1.0: nothing was started"), "{error}");
    assert_eq!(agent.starts(), 0);
}

#[tokio::test]
async fn a_start_whose_answer_breaks_off_starts_nothing_twice() {
    let world = World::new();
    let agent = Agent::new("i-1");
    let shared = agent.clone();
    let server = world
        .server("i-1", move |request| {
            if request.method() == Method::POST {
                let execution = shared.start(request, State::Succeeded);
                let mut posts = shared.posts.lock().unwrap();
                *posts += 1;
                // Accepted and on disk, but the answer does not arrive.
                return if *posts < 3 { broken_after("{") } else { json(&execution) };
            }
            well(&shared, request)
        })
        .await;
    let mut retries = 0;
    let run = run(vec![server.instance.clone()], Strategy::default());
    let report = fleet::run(&run, &world.identity(), &Control::default(), |event| {
        retries += usize::from(matches!(event, Event::Retrying { .. }));
    })
    .await;
    assert_eq!(states(&report), ["succeeded"]);
    assert_eq!((agent.starts(), retries), (1, 2));
}

#[tokio::test]
async fn an_agent_that_restarts_while_it_is_asked_is_asked_again() {
    let world = World::new();
    let agent = Agent::new("i-1");
    let shared = agent.clone();
    let before = world
        .server("i-1", move |request| {
            shared.start(request, State::Running);
            broken_after("{")
        })
        .await;
    let (instance, shared) = (before.instance.clone(), agent.clone());
    let address = (instance.address.host().to_owned(), instance.address.port());
    let run = run(vec![instance], Strategy::default());
    let issued = world.authority.issue_instance(&id("i-1"), bolt_client::pki::Validity::days(1)).unwrap();
    let (mut before, mut after) = (Some(before), None);
    let report = fleet::run(&run, &world.identity(), &Control::default(), |event| {
        let Event::Retrying { problem, .. } = event else { return };
        drop(before.take());
        if problem.contains("refused") && after.is_none() {
            let listener = std::net::TcpListener::bind((address.0.as_str(), address.1)).unwrap();
            listener.set_nonblocking(true).unwrap();
            let (listener, shared) = (tokio::net::TcpListener::from_std(listener).unwrap(), shared.clone());
            after = Some(world.server_on(listener, "i-1", &issued, move |request| {
                let mut started = shared.started.lock().unwrap();
                started.values_mut().for_each(|execution| execution.state = State::Succeeded);
                drop(started);
                well(&shared, request)
            }));
        }
    })
    .await;
    assert_eq!((states(&report), agent.starts()), (vec!["succeeded"], 1), "{report:?}");
    assert!(after.is_some(), "it came back");
}

#[tokio::test]
async fn a_long_execution_is_waited_for_across_a_broken_connection() {
    let world = World::new();
    let agent = Agent::new("i-1");
    let shared = agent.clone();
    let asked = Mutex::new(0);
    let server = world
        .server("i-1", move |request| match (request.method(), request.uri().path()) {
            (&Method::POST, _) => json(&shared.start(request, State::Running)),
            (_, path) if path.ends_with("/stdout") || path.ends_with("/stderr") => well(&shared, request),
            _ => {
                let mut asked = asked.lock().unwrap();
                *asked += 1;
                let mut execution = shared.started.lock().unwrap().values().next().unwrap().clone();
                match *asked {
                    1 => broken_after("{"),
                    2 => problem(Code::Unavailable, "coming up"),
                    3 => json(&execution),
                    _ => {
                        execution.state = State::Failed;
                        json(&execution)
                    }
                }
            }
        })
        .await;
    let run = run(vec![server.instance.clone()], Strategy::default());
    let mut accepted = 0;
    let report = fleet::run(&run, &world.identity(), &Control::default(), |event| {
        accepted += usize::from(matches!(event, Event::Accepted { .. }));
    })
    .await;
    assert_eq!((states(&report), accepted, agent.starts()), (vec!["failed"], 1, 1));
}

#[tokio::test]
async fn after_a_stop_nothing_is_started_and_what_runs_is_waited_for() {
    let world = World::new();
    let agents: Vec<_> = ["i-1", "i-2", "i-3"].map(Agent::new).into();
    let mut servers = Vec::new();
    for agent in &agents {
        let shared = agent.clone();
        servers.push(world.server(&agent.name, move |request| well(&shared, request)).await);
    }
    let run = run(servers.iter().map(|s| s.instance.clone()).collect(), Strategy::default());
    let stop = Control::default();
    let report = fleet::run(&run, &world.identity(), &stop, |event| {
        if matches!(event, Event::Starting { target: 1 }) {
            stop.stop();
        }
    })
    .await;
    assert_eq!(states(&report), ["succeeded", "succeeded", "not_started"]);
    assert_eq!(report.stopped, Some(Stopped::Asked));
    assert_eq!(agents[2].starts(), 0);
}

#[tokio::test]
async fn an_answer_about_another_execution_is_not_taken_for_ours() {
    let world = World::new();
    let agent = Agent::new("i-1");
    let server = world
        .server("i-1", move |request| {
            let mut execution = agent.start(request, State::Succeeded);
            execution.instance = id("i-2");
            json(&execution)
        })
        .await;
    let run = run(vec![server.instance.clone()], Strategy::default());
    let report = fleet::run(&run, &world.identity(), &Control::default(), |_| {}).await;
    assert!(matches!(&report.endings[0], Ending::Unreachable { may_run: true, .. }), "{report:?}");
}
