//! Executions that are refused, or accepted and not started: each with its reason, and nothing left behind.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use bolt_client::local::LocalAgent;
use bolt_tests::http::Call;
use bolt_tests::{Operator, PackSource, World, is_root, limits_available, skip, spec};
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::{Code, Execution, Health};
use serde_json::json;

use crate::calls::{refused, until};

/// The directory of the active version of the probe pack.
fn active(agent: &LocalAgent) -> PathBuf {
    agent.directory().join("packs/probe/current").canonicalize().expect("the pack is active")
}

/// Runs `probe.hello`, which must end as an error whose reason names `reason`.
async fn must_not_start(operator: &Operator, reason: &str) {
    let execution = operator.run("probe.hello", json!({})).await;
    assert_eq!(execution.state, State::Error, "{execution:?}");
    let text = execution.reason.expect("an error has a reason");
    assert!(text.contains(reason), "{text:?} does not name {reason:?}");
}

#[tokio::test]
async fn a_full_queue() {
    let world = World::with_probe();
    let agent = world.start(&spec("i-1").set("execution", "max_running", 1).set("execution", "max_queued", 2));
    let operator = world.operator(&agent);
    let running = operator.start("probe.sleep", json!({})).await;
    operator.wait_for_output(&running).await;
    for _ in 0..2 {
        operator.start("probe.hello", json!({})).await;
    }
    let answer = operator.submit("probe.hello", json!({})).await;
    refused(&answer, Code::QueueFull, "2");
    assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
    let killed = operator.send(Call::post(&format!("/v1/executions/{}/kill", running.id), "")).await;
    assert_eq!(killed.status, 202, "{}", killed.text());
    assert_eq!(operator.wait(&running).await.state, State::Killed);
    // The queued execution runs now.
    let all: packs_schema::agent::rest::Page<Execution> = operator.send(Call::get("/v1/executions")).await.json();
    for execution in all.items.iter().filter(|e| e.action.as_str() == "probe.hello") {
        assert_eq!(operator.wait(execution).await.state, State::Succeeded);
    }
}

#[tokio::test]
async fn a_busy_exclusive_group() {
    let world = World::with_probe();
    let agent = world.agent();
    let operator = world.operator(&agent);
    let first = operator.start("probe.alone", json!({})).await;
    operator.wait_for_output(&first).await;
    refused(&operator.submit("probe.alone", json!({})).await, Code::Busy, "alone");
    operator.send(Call::post(&format!("/v1/executions/{}/kill", first.id), "")).await;
    assert_eq!(operator.wait(&first).await.state, State::Killed);
    let second = operator.start("probe.alone", json!({})).await;
    operator.wait_for_output(&second).await;
}

#[tokio::test]
async fn an_entry_point_that_is_missing() {
    let world = World::with_probe();
    let agent = world.agent();
    let operator = world.operator(&agent);
    fs::remove_file(active(&agent).join("actions/hello.sh")).unwrap();
    must_not_start(&operator, "hello.sh").await;
}

#[tokio::test]
async fn an_entry_point_that_is_not_executable() {
    let world = World::with_probe();
    let agent = world.agent();
    let operator = world.operator(&agent);
    let path = active(&agent).join("actions/hello.sh");
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    must_not_start(&operator, "not executable").await;
}

#[tokio::test]
async fn an_entry_point_outside_the_pack() {
    let world = World::with_probe();
    let agent = world.agent();
    let operator = world.operator(&agent);
    let path = active(&agent).join("actions/hello.sh");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/bin/true", &path).unwrap();
    must_not_start(&operator, "hello.sh").await;
    // And one that its definition puts outside.
    let definition = active(&agent).join(".bolt/actions/hello.json");
    let text = fs::read_to_string(&definition).unwrap().replace("hello.sh", "../../../../bin/true");
    fs::write(&definition, text).unwrap();
    must_not_start(&operator, "").await;
}

#[tokio::test]
async fn an_entry_point_that_others_may_write() {
    let world = World::with_probe();
    let agent = world.agent();
    let operator = world.operator(&agent);
    let path = active(&agent).join("actions/hello.sh");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o757)).unwrap();
    must_not_start(&operator, "writ").await;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(path.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
    must_not_start(&operator, "writ").await;
}

#[tokio::test]
async fn an_entry_point_of_another_owner() {
    if !is_root() {
        return skip("an_entry_point_of_another_owner", "giving files away needs root");
    }
    let world = World::with_probe();
    let agent = world.agent();
    let operator = world.operator(&agent);
    let path = active(&agent).join("actions/hello.sh");
    std::os::unix::fs::chown(&path, Some(65_000), None).unwrap();
    must_not_start(&operator, "65000").await;
}

#[tokio::test]
async fn an_account_that_does_not_exist() {
    if !is_root() {
        return skip("an_account_that_does_not_exist", "running as another account needs root");
    }
    let world = World::empty();
    let yaml = "bolt: {class: diagnostic, run_as: no-such-account}";
    world.publish(&PackSource::new("probe", "1.0.0").action("hello", yaml, "#!/bin/sh\n"));
    let agent = world.agent();
    let operator = world.operator(&agent);
    must_not_start(&operator, "no-such-account").await;
}

/// An invalid default account is reported before an action fails because of it.
#[tokio::test]
async fn a_default_account_that_cannot_be_used_or_is_shared_is_in_health() {
    const TEST: &str = "a_default_account_that_cannot_be_used_or_is_shared_is_in_health";
    if !is_root() {
        return skip(TEST, "running as another account needs root");
    }
    let world = World::with_probe();
    for (id, account, wrong) in [
        ("i-1", "no-such-account", Some("there is no account")),
        ("i-2", "root", Some("is root")),
        ("i-3", "64100", None),
    ] {
        let agent = world.start(&spec(id).set("execution", "default_run_as", account));
        let operator = world.operator(&agent);
        let health: Health = operator.send(Call::get("/v1/health")).await.json();
        let reason = health.reasons.iter().find(|reason| reason.code == "execution_configuration");
        assert_eq!(reason.is_some(), wrong.is_some(), "{health:?}");
        assert!(reason.is_none_or(|reason| reason.message.contains(wrong.unwrap())), "{reason:?}");
        let note = health.notes.iter().find(|note| note.code == "shared_account").expect("it is shared");
        assert!(note.message.contains(account), "{note:?}");
    }
}

/// The launcher counts shims that the api does not know: the execution is queued, and starts when a slot is free.
#[tokio::test]
async fn a_start_that_the_launcher_has_no_place_for_is_tried_again() {
    let world = World::with_probe();
    let agent = world.start(&spec("i-1").set("execution", "max_running", 1).set("execution", "max_shims", 1));
    let operator = world.operator(&agent);
    // Run-time directory as left by a killed shim, until it is cleaned up.
    let left = agent.directory().join("run/01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa");
    std::fs::create_dir(&left).unwrap();
    let waiting = operator.start("probe.hello", json!({})).await;
    let log = || std::fs::read_to_string(agent.log()).unwrap_or_default();
    until("the refusal", async || log().contains("execution.max_shims")).await;
    std::fs::remove_dir(&left).unwrap();
    assert_eq!(operator.wait(&waiting).await.state, State::Succeeded);
}

#[tokio::test]
async fn no_limits_where_they_are_required() {
    let world = World::with_probe();
    let mut spec = spec("i-1").set("execution", "require_limits", true);
    if is_root() {
        // Root on this host can cap; a place where none can be made takes that away.
        spec = spec.set("execution", "cgroup", "cgroup.procs/none");
    }
    let agent = world.start(&spec);
    let operator = world.operator(&agent);
    must_not_start(&operator, "require_limits").await;
}

#[tokio::test]
async fn memory_and_processes_beyond_the_limits() {
    if !limits_available() {
        return skip("memory_and_processes_beyond_the_limits", "limits need root and the memory and pids controllers");
    }
    let world = World::empty();
    let eat = "#!/usr/bin/env python3\nx = []\nwhile True:\n    x.append(bytearray(1 << 20))\n";
    let fork = "#!/usr/bin/env python3\nimport os, sys, time\nn = 0\ntry:\n    while n < 500:\n        if os.fork() == 0:\n            \
                time.sleep(600)\n            os._exit(0)\n        n += 1\nexcept OSError:\n    print('stopped at', n)\n    sys.exit(3)\n";
    let pack = PackSource::new("probe", "1.0.0")
        .action("eat", "bolt: {class: diagnostic, limits: {memory: 32MiB}}", eat)
        .action("fork", "bolt: {class: diagnostic, grace: 100ms, limits: {pids: 20}}", fork);
    world.publish(&pack);
    let agent = world.agent();
    let operator = world.operator(&agent);
    let eaten = operator.run("probe.eat", json!({})).await;
    assert_eq!(eaten.state, State::OutOfMemory, "{eaten:?}");
    assert!(eaten.usage.unwrap().peak_memory_bytes.unwrap() <= 33 << 20, "{eaten:?}");
    let forked = operator.run("probe.fork", json!({})).await;
    assert_eq!((forked.state, forked.exit_status), (State::Failed, Some(3)), "{forked:?}");
    assert_eq!(forked.leftovers.clone().unwrap().after_subreaper, 0, "{forked:?}");
}
