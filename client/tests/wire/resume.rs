//! Runs that are taken over, with an instance on which an earlier client may have started an execution: it is never told that
//! nothing runs there without knowing it.

use std::sync::Arc;

use bolt_client::error::{Error, Kind};
use bolt_client::fleet::{self, Before, Control, Earlier, Ending, Outcome, Report, Stopped, Strategy};
use bolt_client::inventory::Instance;
use packs_schema::agent::rest::Code;
use packs_schema::base::name::ExecutionId;

use crate::fleet::{nobody_there, run};
use crate::server::{World, id, instance, problem};

const EXECUTION: &str = "01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa";

/// Returns how the instance ended for the earlier client: contact was lost while this execution ran.
fn lost(name: &str) -> Ending {
    let error = Error { instance: id(name), address: "127.0.0.1:1".to_owned(), kind: Kind::ConnectionRefused };
    Ending::Unreachable { error, execution: Some(ExecutionId::new(EXECUTION).unwrap()), may_run: true }
}

async fn take_over(world: &World, targets: Vec<Instance>, before: Vec<Before>, endings: Vec<Option<Ending>>) -> Report {
    let earlier = Earlier { before, endings, checked: 0 };
    let run = run(targets, Strategy::default());
    fleet::resume(&run, earlier, &world.identity(), &Control::default(), |_| {}).await
}

#[tokio::test]
async fn an_execution_that_may_run_is_not_forgotten_while_its_instance_does_not_answer() {
    let world = World::new();
    let other = world.server("i-2", |_| problem(Code::NotFound, "not asked")).await;
    // Another instance has its address now: no start reaches it, and there is no second attempt.
    let gone = instance("i-1", other.instance.address.to_string().parse().unwrap());
    for (before, ending, known) in [
        (Before::Untouched, None, (false, None)),
        (Before::Started, None, (true, None)),
        (Before::Started, Some(lost("i-1")), (true, Some(EXECUTION))),
    ] {
        let report = take_over(&world, vec![gone.clone()], vec![before], vec![ending]).await;
        let Ending::Unreachable { execution, may_run, .. } = &report.endings[0] else { panic!("{report:?}") };
        assert_eq!((*may_run, execution.as_ref().map(ExecutionId::as_str)), known, "{report:?}");
        assert_eq!(report.endings[0].state(), "wrong_instance");
    }
}

#[tokio::test]
async fn a_refusal_does_not_say_that_an_earlier_start_runs_nothing() {
    let world = World::new();
    for code in [Code::Forbidden, Code::UnknownAction, Code::InvalidParameters, Code::VersionMismatch, Code::Busy] {
        let server = world.server("i-1", move |_| problem(code, "no")).await;
        let targets = || vec![server.instance.clone()];
        let report = take_over(&world, targets(), vec![Before::Started], vec![Some(lost("i-1"))]).await;
        let Ending::Unreachable { execution: Some(execution), may_run: true, .. } = &report.endings[0] else {
            panic!("{code:?}: {report:?}");
        };
        assert_eq!(execution.as_str(), EXECUTION, "{code:?}");
        let report = take_over(&world, targets(), vec![Before::Untouched], vec![None]).await;
        assert!(matches!(&report.endings[0], Ending::Refused(_)), "{code:?}: {report:?}");
    }
}

/// The agent fails to read the record of what it has accepted, or its task fails.
#[tokio::test]
async fn an_error_that_may_follow_the_acceptance_is_no_refusal() {
    let world = World::new();
    for (code, may_run) in [(Code::Internal, true), (Code::StorageFailed, true), (Code::Busy, false)] {
        let server = world.server("i-1", move |_| problem(code, "no")).await;
        let report = take_over(&world, vec![server.instance.clone()], vec![], vec![]).await;
        let found = matches!(&report.endings[0], Ending::Unreachable { may_run: true, .. });
        assert_eq!(found, may_run, "{code:?}: {report:?}");
    }
}

/// Another client has the run.
#[derive(Debug)]
struct Taken;

#[async_trait::async_trait]
impl fleet::Fence for Taken {
    async fn may_start(&self) -> bool {
        false
    }
}

struct WithoutPermission;

impl fleet::Observer for WithoutPermission {
    fn event(&mut self, _event: fleet::Event) {}

    fn fence(&self) -> Option<Arc<dyn fleet::Fence>> {
        Some(Arc::new(Taken))
    }
}

#[tokio::test]
async fn what_may_run_is_kept_where_another_client_has_taken_the_run() {
    let world = World::new();
    let earlier = Earlier {
        before: vec![Before::Started, Before::Started, Before::Untouched],
        endings: vec![Some(lost("i-1")), None, None],
        checked: 0,
    };
    let all = Strategy { grouping: fleet::Grouping::All, ..Strategy::default() };
    let run = run(vec![nobody_there("i-1"), nobody_there("i-2"), nobody_there("i-3")], all);
    let report = fleet::resume(&run, earlier, &world.identity(), &Control::default(), WithoutPermission).await;
    assert_eq!(report.endings[0].execution().map(ExecutionId::as_str), Some(EXECUTION));
    let states: Vec<&str> = report.endings.iter().map(Ending::state).collect();
    assert_eq!(states, ["unreachable", "unknown", "not_started"], "{report:?}");
}

#[tokio::test]
async fn what_was_asked_before_is_not_called_not_started_when_the_run_is_stopped() {
    let world = World::new();
    let targets = vec![nobody_there("i-1"), nobody_there("i-2"), nobody_there("i-3")];
    let before = vec![Before::Ended(Outcome::Failed), Before::Started, Before::Untouched];
    let report = take_over(&world, targets, before, vec![Some(lost("i-1")), None, None]).await;
    assert_eq!(report.stopped, Some(Stopped::Failures));
    let Ending::Unreachable { error, may_run: true, .. } = &report.endings[1] else { panic!("{report:?}") };
    assert_eq!(error.kind.to_string(), "it was asked to start, and its answer is not known");
    let states: Vec<&str> = report.endings.iter().map(Ending::state).collect();
    assert_eq!(states, ["unreachable", "unknown", "not_started"]);
}
