//! Phases in which a request fails, and the time for one instance.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bolt_client::fleet::{self, Amount, Control, Ending, Grouping, Strategy};
use bolt_client::inventory::{Address, Instance};
use bolt_client::phase::Phase;
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Code;
use tokio::net::TcpListener;

use crate::fleet::{Agent, nobody_there, run};
use crate::server::{World, hold, instance, json, problem};

/// Listens at a port, and does with each connection what `then` says. Returns the number of connections.
async fn listen(name: &str, is_kept: bool) -> (Instance, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let instance = instance(name, listener.local_addr().unwrap());
    let accepted = Arc::new(AtomicUsize::new(0));
    let counter = accepted.clone();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::Relaxed);
            if is_kept {
                kept.push(socket);
            }
        }
    });
    (instance, accepted)
}

fn all(instance_timeout: Option<Duration>) -> Strategy {
    let (grouping, max_failures) = (Grouping::All, Amount::Percent(100));
    Strategy { grouping, max_failures, max_unreachable: Amount::Percent(100), instance_timeout, ..Strategy::default() }
}

/// Phase of an ending without an execution, and whether one may run.
fn failed(ending: &Ending) -> (Option<Phase>, bool) {
    match ending {
        Ending::Unreachable { error, may_run, .. } => (error.kind.phase(), *may_run),
        Ending::Refused(error) => (error.kind.phase(), false),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_error_names_its_phase_and_nothing_was_sent_before_the_handshake_ended() {
    let world = World::new();
    let (closing, accepted) = listen("i-closing", false).await;
    let other = world.server("i-other", |_| problem(Code::NotFound, "no such route")).await;
    let refusing = world.server("i-refusing", |_| problem(Code::Forbidden, "no grant")).await;
    let mut unresolved = nobody_there("i-unresolved");
    unresolved.address = Address::new("no-such-host.invalid:7443").unwrap();
    let wrong = Instance { address: other.instance.address.clone(), ..nobody_there("i-wrong") };
    let targets = vec![unresolved, nobody_there("i-closed"), closing, wrong, refusing.instance.clone()];
    let report = fleet::run(&run(targets, all(None)), &world.identity(), &Control::default(), |_| {}).await;
    let phases: Vec<_> = report.endings.iter().map(failed).collect();
    let expected = [Phase::Resolve, Phase::Connect, Phase::Tls, Phase::Tls, Phase::Refused];
    assert_eq!(phases, expected.map(|phase| (Some(phase), false)), "{report:?}");
    assert!(format!("{report:?}").contains("HandshakeBroken"), "{report:?}");
    // A broken handshake may be a passing fault.
    assert_eq!(accepted.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn the_time_for_one_instance_ends_its_wait_and_says_whether_something_may_run() {
    let world = World::new();
    let (silent, _) = listen("i-silent", true).await;
    let holding = world.server("i-holding", |_| hold()).await;
    let agent = Agent::new("i-running");
    let shared = agent.clone();
    let running = world
        .server("i-running", move |request| match request.method() {
            &hyper::Method::POST => json(&shared.start(request, State::Running)),
            _ => hold(),
        })
        .await;
    let report = |targets, time| {
        let (run, identity) = (run(targets, all(Some(time))), world.identity());
        async move { fleet::run(&run, &identity, &Control::default(), |_| {}).await }
    };
    let never = report(vec![silent], Duration::from_millis(100)).await;
    assert_eq!(failed(&never.endings[0]), (Some(Phase::Connect), false));
    // Long enough for a handshake on a busy machine.
    let report = report(vec![holding.instance.clone(), running.instance.clone()], Duration::from_secs(4)).await;
    let phases: Vec<_> = report.endings.iter().map(failed).collect();
    assert_eq!(phases, [(Some(Phase::Http), true), (Some(Phase::Http), true)]);
    let executions: Vec<bool> =
        report.endings.iter().map(|ending| matches!(ending, Ending::Unreachable { execution: Some(_), .. })).collect();
    assert_eq!((executions, agent.starts()), (vec![false, true], 1));
}
