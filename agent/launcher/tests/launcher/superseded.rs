//! Superseded and withdrawn versions: starts that a compromised api requests.

use std::fs;

use packs_schema::agent::execution::State;
use packs_schema::agent::launch::{Operation, Outcome, Refusal, Start};
use serde_json::json;

use crate::driver::{Host, object};

/// Returns a host with an action that prints its parameter.
fn ready() -> Host {
    let host = Host::new();
    let parameters = json!({"word": {"type": "string"}, "token": {"type": "string", "secret": true}});
    host.action("it", "#!/bin/sh\necho \"said $BOLT_PARAM_WORD\"\n", json!({"parameters": parameters}));
    host
}

fn accept(host: &mut Host, request: &Start) -> Outcome {
    host.ask(Operation::Accept(Box::new(request.clone())))
}

/// Activates another version.
fn supersede(host: &Host) {
    let current = host.path("packs/demo/current");
    fs::remove_file(&current).unwrap();
    std::os::unix::fs::symlink("2.0.0-cdcdcdcdcdcd", current).unwrap();
}

fn not_active(host: &mut Host, request: &Start) {
    let (code, message) = host.refused(request);
    assert!(code == Refusal::NotActive && message.contains("2.0.0-cdcdcdcdcdcd"), "{code:?}: {message}");
}

#[test]
fn an_accepted_execution_of_a_superseded_version_starts_once_and_unchanged() {
    let mut host = ready();
    let queued = host.request("it", json!({"word": "queued", "token": "t"}));
    assert_eq!(accept(&mut host, &queued), Outcome::Done);
    assert_eq!(accept(&mut host, &queued), Outcome::Done);
    let survivor = host.request("it", json!({"word": "survivor"}));
    assert_eq!(accept(&mut host, &survivor), Outcome::Done);
    let fresh = host.request("it", json!({"word": "fresh"}));
    supersede(&host);

    not_active(&mut host, &fresh);
    assert!(matches!(accept(&mut host, &fresh), Outcome::Refused { code: Refusal::NotActive, .. }));
    not_active(&mut host, &fresh);
    // Another request with the id of the queued one.
    for parameters in [json!({"word": "another", "token": "t"}), json!({"word": "queued", "token": "u"})] {
        not_active(&mut host, &Start { parameters: object(parameters), ..queued.clone() });
    }
    not_active(&mut host, &Start { timeout_ms: Some(1), ..queued.clone() });
    let ended = host.started(&queued).finished();
    assert_eq!((ended.exit.state, ended.stdout().as_str()), (State::Succeeded, "said queued\n"));
    // Its directory belongs to the api, which can remove the lock file.
    for file in ["lock", "started", "exit", "output.log"] {
        fs::remove_file(ended.dir.join(file)).unwrap();
    }
    not_active(&mut host, &queued);

    // The record survives the launcher.
    host.kill_launcher();
    host.restart_launcher();
    not_active(&mut host, &fresh);
    assert_eq!(host.started(&survivor).finished().stdout(), "said survivor\n");
}

#[test]
fn a_kill_removes_the_record() {
    let mut host = ready();
    let queued = host.request("it", json!({}));
    assert_eq!(accept(&mut host, &queued), Outcome::Done);
    assert_eq!(host.ask(Operation::Kill { execution: queued.execution.clone() }), Outcome::Done);
    supersede(&host);
    not_active(&mut host, &queued);
}

#[test]
fn a_withdrawn_version_is_refused() {
    let mut host = ready();
    let queued = host.request("it", json!({}));
    assert_eq!(accept(&mut host, &queued), Outcome::Done);
    fs::rename(host.version().join(".bolt"), host.version().join(".bolt.withdrawn")).unwrap();
    for active in [true, false] {
        let (code, message) = host.refused(&queued);
        assert!(code == Refusal::UnknownPack && message.contains("withdrawn"), "{code:?}: {message}");
        if active {
            supersede(&host);
        }
    }
}

#[test]
fn without_an_active_version_new_requests_are_refused() {
    let mut host = ready();
    let request = host.request("it", json!({}));
    fs::remove_file(host.path("packs/demo/current")).unwrap();
    let (code, message) = host.refused(&request);
    assert!(code == Refusal::NotActive && message.contains("which is none"), "{code:?}: {message}");
}
