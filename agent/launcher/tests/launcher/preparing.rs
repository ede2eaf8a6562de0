//! Preparations: what the launcher does while the api writes the acceptance of an execution to the disk.

use std::fs;
use std::path::PathBuf;

use packs_schema::agent::execution::State;
use packs_schema::agent::launch::{Operation, Outcome, PREPARED_FOR, Refusal, Start};
use serde_json::json;

use crate::driver::{Host, new_id, wait_for};

/// Returns the refusal; `None` if it is prepared, which is not answered. The request after it shows which.
pub(crate) fn prepare(host: &mut Host, start: &Start) -> Option<Refusal> {
    let seq = host.tell(Operation::Prepare(Box::new(start.clone())));
    host.tell(Operation::Kill { execution: new_id() });
    let first = host.receive().unwrap();
    if first.seq != seq {
        return None;
    }
    host.receive().unwrap();
    match first.outcome {
        Outcome::Refused { code, .. } => Some(code),
        Outcome::Done => panic!("a preparation was answered"),
    }
}

/// Returns what exists of an execution outside its own directory: cgroups, run-time directories, records of user ids.
pub(crate) fn made(host: &Host, start: &Start) -> Vec<PathBuf> {
    let id = start.execution.as_str();
    let groups = host.enforcement().groups.into_iter().map(|place| place.path.join(format!("bolt-{id}")));
    let directories = [host.path(&format!("run/{id}")), host.path(&format!("run/prepared-{id}"))];
    let records = fs::read_dir(host.path("run/accounts")).into_iter().flatten().flatten().map(|entry| entry.path());
    let records = records.filter(|path| fs::read_to_string(path).is_ok_and(|holder| holder == id));
    groups.chain(directories).filter(|path| path.exists()).chain(records).collect()
}

pub(crate) fn is_gone(host: &Host, start: &Start) {
    wait_for("nothing to be left", || made(host, start).is_empty().then_some(()));
}

/// Prepares until the answer and the look at what was made are within the time of a preparation, on a host with much to do.
fn prepared(host: &mut Host) -> Start {
    for _ in 0..50 {
        let request = host.request("it", json!({}));
        let begun = std::time::Instant::now();
        assert_eq!(prepare(host, &request), None);
        let found = made(host, &request);
        if begun.elapsed() < PREPARED_FOR / 2 {
            assert!(found.contains(&host.path(&format!("run/prepared-{}", request.execution))), "{found:?}");
            assert!(!host.path(&format!("state/exec/{}/lock", request.execution)).exists(), "it is not claimed");
            return request;
        }
    }
    panic!("no preparation was fast enough");
}

#[test]
fn a_prepared_execution_is_started_and_leaves_nothing() {
    let mut host = Host::new();
    host.action("it", "#!/bin/sh\necho ran\n", json!({}));
    let request = prepared(&mut host);
    assert_eq!(host.shims().len(), 0, "no process is made before the start");
    let ended = host.started(&request).finished();
    assert_eq!((ended.exit.state, ended.stdout().as_str()), (State::Succeeded, "ran\n"));
    is_gone(&host, &request);
    assert_eq!(host.refused(&request).0, Refusal::AlreadyStarted);
    let again = prepare(&mut host, &request);
    assert_eq!(again, None, "the launcher keeps no list of what has ended; the claim decides");
    assert_eq!(host.refused(&request).0, Refusal::AlreadyStarted);
    is_gone(&host, &request);
}

#[test]
fn a_preparation_without_a_start_is_discarded() {
    let mut host = Host::new();
    host.action("it", "#!/bin/sh\necho ran\n", json!({}));
    let request = prepared(&mut host);
    is_gone(&host, &request);
    let ended = host.started(&request).finished();
    assert_eq!(ended.exit.state, State::Succeeded, "it is started like any other");
    is_gone(&host, &request);
}

#[test]
fn another_request_than_the_prepared_one_is_started_as_it_is() {
    let mut host = Host::new();
    host.action("it", "#!/bin/sh\necho ran\n", json!({}));
    let mut request = prepared(&mut host);
    request.timeout_ms = Some(5_000);
    let ended = host.started(&request).finished();
    assert_eq!(ended.started.as_ref().unwrap().timeout_ms, 5_000);
    is_gone(&host, &request);
}

#[test]
fn a_version_that_is_replaced_meanwhile_is_not_started() {
    let mut host = Host::new();
    host.action("it", "#!/bin/sh\necho ran\n", json!({}));
    let request = prepared(&mut host);
    let current = host.path("packs/demo/current");
    fs::remove_file(&current).unwrap();
    std::os::unix::fs::symlink("2.0.0-cdcdcdcdcdcd", current).unwrap();
    assert_eq!(host.refused(&request).0, Refusal::NotActive);
    is_gone(&host, &request);
    assert!(!host.path(&format!("state/exec/{}/lock", request.execution)).exists());
}

#[test]
fn a_kill_discards_what_was_prepared() {
    let mut host = Host::new();
    host.action("it", "#!/bin/sh\necho ran\n", json!({}));
    let request = prepared(&mut host);
    assert_eq!(host.ask(Operation::Kill { execution: request.execution.clone() }), Outcome::Done);
    assert_eq!(made(&host, &request), Vec::<PathBuf>::new());
}

#[test]
fn the_next_launcher_removes_what_a_dead_one_had_prepared() {
    let mut host = Host::new();
    host.action("it", "#!/bin/sh\necho ran\n", json!({}));
    let request = prepared(&mut host);
    host.kill_launcher();
    assert!(!made(&host, &request).is_empty(), "nothing was prepared when the launcher died");
    host.restart_launcher();
    is_gone(&host, &request);
    assert_eq!(host.started(&request).finished().exit.state, State::Succeeded);
}

#[test]
fn few_preparations_are_open_at_once() {
    let mut host = Host::new();
    host.action("it", "#!/bin/sh\necho ran\n", json!({}));
    let requests: Vec<Start> = (0..64).map(|_| host.request("it", json!({}))).collect();
    let answers: Vec<Option<Refusal>> = requests.iter().map(|request| prepare(&mut host, request)).collect();
    assert!(answers.contains(&Some(Refusal::TooManyRunning)), "64 at once");
    for request in &requests {
        is_gone(&host, request);
    }
    assert_eq!(prepare(&mut host, &requests[0]), None, "there is space again");
    is_gone(&host, &requests[0]);
}

#[test]
fn a_running_execution_is_not_prepared() {
    let mut host = Host::new();
    host.action("it", "#!/bin/sh\necho ready; exec sleep 600\n", json!({"grace": "100ms"}));
    let request = host.request("it", json!({}));
    let running = host.started(&request);
    running.wait_for_stdout("ready");
    assert_eq!(prepare(&mut host, &request), Some(Refusal::AlreadyStarted));
    assert_eq!(host.ask(Operation::Kill { execution: request.execution.clone() }), Outcome::Done);
    assert_eq!(running.finished().exit.state, State::Killed);
    is_gone(&host, &request);
}
