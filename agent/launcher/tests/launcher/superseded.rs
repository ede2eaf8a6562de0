//! An api that was taken over, and versions that are in the store and not active any more.

use std::fs;

use packs_schema::agent::execution::State;
use packs_schema::agent::launch::{Operation, Outcome, Refusal, Start};
use serde_json::json;

use crate::driver::{Host, object};

/// A host with an action that says its parameter.
fn ready() -> Host {
    let host = Host::new();
    let parameters = json!({"word": {"type": "string"}, "token": {"type": "string", "secret": true}});
    host.action("it", "#!/bin/sh\necho \"said $BOLT_PARAM_WORD\"\n", json!({"parameters": parameters}));
    host
}

fn accept(host: &mut Host, request: &Start) -> Outcome {
    host.ask(Operation::Accept(Box::new(request.clone())))
}

/// Another version becomes active.
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
fn what_was_accepted_while_its_version_was_active_is_started_once_and_as_it_was_asked() {
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
    // Another request under the name of the one that waits.
    for parameters in [json!({"word": "another", "token": "t"}), json!({"word": "queued", "token": "u"})] {
        not_active(&mut host, &Start { parameters: object(parameters), ..queued.clone() });
    }
    not_active(&mut host, &Start { timeout_ms: Some(1), ..queued.clone() });
    let ended = host.started(&queued).finished();
    assert_eq!((ended.exit.state, ended.stdout().as_str()), (State::Succeeded, "said queued\n"));
    // Its directory is the api's: whatever says there that it was started can be removed.
    for file in ["lock", "started", "exit", "output.log"] {
        fs::remove_file(ended.dir.join(file)).unwrap();
    }
    not_active(&mut host, &queued);

    // The record is the launcher's, and outlives it.
    host.kill_launcher();
    host.launch_again();
    not_active(&mut host, &fresh);
    assert_eq!(host.started(&survivor).finished().stdout(), "said survivor\n");
}

#[test]
fn a_kill_takes_the_record_away() {
    let mut host = ready();
    let queued = host.request("it", json!({}));
    assert_eq!(accept(&mut host, &queued), Outcome::Done);
    assert_eq!(host.ask(Operation::Kill { execution: queued.execution.clone() }), Outcome::Done);
    supersede(&host);
    not_active(&mut host, &queued);
}

#[test]
fn nothing_is_started_in_a_version_that_was_withdrawn() {
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
fn without_an_active_version_nothing_fresh_is_started() {
    let mut host = ready();
    let request = host.request("it", json!({}));
    fs::remove_file(host.path("packs/demo/current")).unwrap();
    let (code, message) = host.refused(&request);
    assert!(code == Refusal::NotActive && message.contains("which is none"), "{code:?}: {message}");
}
