//! Recovery after a restart: another boot, expired deadlines, missing secrets, a damaged history.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bolt_tests::http::Call;
use bolt_tests::{World, spec};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::{Code, Execution, Page};
use serde_json::json;

use super::{Ledger, directory, edit, ends, lives, processes, remove_groups, shown, while_down};
use crate::calls::{refused, run, until};

/// An agent that runs one execution at a time, that one, and the ledger.
async fn busy() -> (World, bolt_client::local::LocalAgent, Ledger, Execution) {
    let world = World::empty();
    let ledger = Ledger::new(&world);
    world.publish(&ledger.pack());
    let agent = world.start(&spec("i-1").set("execution", "max_running", 1));
    let operator = world.operator(&agent);
    let running = operator.start("probe.sleep", json!({})).await;
    operator.wait_for_output(&running).await;
    (world, agent, ledger, running)
}

#[tokio::test]
async fn another_boot_means_interrupted_and_nothing_is_started_again() {
    let (world, mut agent, ledger, running) = busy().await;
    let operator = world.operator(&agent);
    let queued = operator.start("probe.note", json!({})).await;
    while_down(&mut agent, |agent| {
        // A host that goes down takes its processes with it.
        let shims = processes("bolt-shim", &directory(agent, &running));
        for pid in shims.into_iter().chain(processes("sleep", &agent.directory().join("packs"))) {
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        }
        let boot = |record: &mut serde_json::Value| record["boot_id"] = json!("7c0f0ffe-0000-4000-8000-000000000000");
        edit(&directory(agent, &queued).join("spec"), boot);
        edit(&directory(agent, &running).join("started"), boot);
    });
    for execution in [&running, &queued] {
        let end = shown(&operator, execution).await;
        assert_eq!(end.state, State::Interrupted, "{end:?}");
        assert!(end.reason.unwrap().contains("host went down"));
    }
    while_down(&mut agent, |_| {});
    assert_eq!(operator.run("probe.hello", json!({})).await.state, State::Succeeded);
    assert_eq!(ledger.count(&queued.id), 0);
    let ends = ends(&operator).await;
    assert_eq!((&ends[&running.id], &ends[&queued.id]), (&vec![State::Interrupted], &vec![State::Interrupted]));
    // A reboot would have taken these along.
    remove_groups(Path::new("/sys/fs/cgroup"), &running);
}

#[tokio::test]
async fn a_start_deadline_that_passed_meanwhile_means_expired() {
    let (world, mut agent, ledger, _running) = busy().await;
    let operator = world.operator(&agent);
    let queued = operator.start("probe.note", json!({})).await;
    while_down(&mut agent, |agent| {
        edit(&directory(agent, &queued).join("spec"), |spec| spec["start_within_ms"] = json!(1));
    });
    let end = shown(&operator, &queued).await;
    assert_eq!(end.state, State::Expired, "{end:?}");
    assert!(end.reason.unwrap().contains("deadline"));
    assert_eq!(ledger.count(&queued.id), 0);
}

#[tokio::test]
async fn a_secret_does_not_outlive_the_agent() {
    const CANARY: &str = "canary-91b2e6d0";
    let (world, mut agent, ledger, _running) = busy().await;
    let operator = world.operator(&agent);
    let queued = operator.start("probe.secretly", json!({"token": CANARY})).await;
    while_down(&mut agent, |_| {});
    let end = shown(&operator, &queued).await;
    assert_eq!(end.state, State::Error, "{end:?}");
    assert!(end.reason.as_ref().unwrap().contains("secret parameters are kept in memory only"), "{end:?}");
    assert_eq!(ledger.count(&queued.id), 0);
    let mut found = Vec::new();
    crate::secrets::search(agent.directory(), CANARY, &mut found);
    assert!(found.is_empty(), "{found:?}");
}

#[tokio::test]
async fn a_damaged_history_is_set_aside_and_read_in_again() {
    let (world, mut agent, ledger, running) = busy().await;
    let operator = world.operator(&agent);
    let post = Call::post("/v1/executions", run("probe.note", json!({}))).header("idempotency-key", "k-1");
    let killed: Execution = operator.send(post.clone()).await.json();
    operator.send(Call::post(&format!("/v1/executions/{}/kill", killed.id), "")).await;
    operator.send(Call::post(&format!("/v1/executions/{}/kill", running.id), "")).await;
    assert_eq!(operator.wait(&killed).await.state, State::Killed);
    assert_eq!(operator.wait(&running).await.state, State::Killed);
    let good = operator.run("probe.hello", json!({})).await;
    let bad = operator.run("probe.fail", json!({})).await;
    let alive = operator.start("probe.sleep", json!({})).await;
    operator.wait_for_output(&alive).await;
    let waiting = operator.start("probe.note", json!({})).await;
    while_down(&mut agent, |agent| {
        for name in ["history.db-wal", "history.db-shm"] {
            let _ = fs::remove_file(agent.state().join(name));
        }
        let database = agent.state().join("history.db");
        fs::File::options().write(true).truncate(true).mode(0o600).open(&database).unwrap();
        fs::write(&database, vec![0x5a; 40_000]).unwrap();
    });
    let names: Vec<String> =
        fs::read_dir(agent.state()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert!(names.iter().any(|name| name.starts_with("history.db.corrupt-")), "{names:?}");
    let log = fs::read_to_string(agent.log()).unwrap();
    assert!(log.lines().any(|l| l.contains("ERROR") && l.contains("the history is damaged")), "{log}");
    for (before, state) in [
        (&good, State::Succeeded),
        (&bad, State::Failed),
        (&killed, State::Killed),
        (&running, State::Killed),
        (&alive, State::Running),
    ] {
        let now = shown(&operator, before).await;
        assert_eq!(now.state, state, "{now:?}");
        assert_eq!((now.created_at_ms, &now.principal), (before.created_at_ms, &before.principal));
    }
    let page: Page<Execution> = operator.send(Call::get("/v1/executions")).await.json();
    assert_eq!(page.items.len(), 6);
    assert_eq!(operator.stdout(&good).await, "hello from i-1\n");
    // The key is remembered, and what was killed in the queue is not started after all.
    let again = operator.send(post).await;
    assert_eq!(again.json::<Execution>().id, killed.id);
    operator.send(Call::post(&format!("/v1/executions/{}/kill", alive.id), "")).await;
    assert_eq!(operator.wait(&waiting).await.state, State::Succeeded);
    assert_eq!((ledger.count(&killed.id), ledger.count(&waiting.id)), (0, 1));
}

#[tokio::test]
async fn a_kill_of_what_waits_is_final() {
    let (world, mut agent, ledger, running) = busy().await;
    let operator = world.operator(&agent);
    let queued = operator.start("probe.note", json!({})).await;
    let path = format!("/v1/executions/{}/kill", queued.id);
    assert_eq!(operator.send(Call::post(&path, "")).await.status, 202);
    let end = operator.wait(&queued).await;
    assert_eq!(end.state, State::Killed, "{end:?}");
    assert!(end.killed_by.is_some() && end.started_at_ms.is_none(), "{end:?}");
    refused(&operator.send(Call::post(&path, "")).await, Code::AlreadyEnded, queued.id.as_str());
    operator.send(Call::post(&format!("/v1/executions/{}/kill", running.id), "")).await;
    assert_eq!(operator.wait(&running).await.state, State::Killed);
    while_down(&mut agent, |_| {});
    assert_eq!(operator.run("probe.hello", json!({})).await.state, State::Succeeded);
    assert_eq!(shown(&operator, &queued).await, end);
    assert_eq!(ledger.count(&queued.id), 0);
}

#[tokio::test]
async fn a_kill_file_counts_also_while_nobody_is_there() {
    let (world, mut agent, ledger, running) = busy().await;
    let operator = world.operator(&agent);
    let queued = operator.start("probe.note", json!({})).await;
    agent.kill_launcher();
    for execution in [&running, &queued] {
        fs::write(directory(&agent, execution).join("kill"), "").unwrap();
    }
    let exit = directory(&agent, &running).join("exit");
    until("the end", async || exit.exists()).await;
    until("the agent", async || agent.launch().is_ok() && agent.wait_ready().is_ok()).await;
    assert_eq!(operator.wait(&running).await.state, State::Killed);
    assert_eq!(operator.wait(&queued).await.state, State::Killed);
    assert_eq!(ledger.count(&queued.id), 0);
}

#[tokio::test]
async fn a_killed_shim_means_lost_and_nothing_of_the_action_survives() {
    let world = World::empty();
    // Starts one process in a new session and one forked twice, with an empty environment where a cgroup finds it.
    let clean = if bolt_tests::limits_available() { "env -i " } else { "" };
    let script = format!(
        "#!/bin/sh\nsetsid sleep 600 &\necho $!\n( {clean}setsid sh -c 'echo $$; exec sleep 600' & )\necho $$\nexec sleep 600\n"
    );
    world.publish(&bolt_tests::PackSource::probe().action("spread", "bolt: {class: diagnostic}", &script));
    let mut agent = world.agent();
    let operator = world.operator(&agent);
    let execution = operator.start("probe.spread", json!({})).await;
    until("three processes", async || operator.stdout(&execution).await.lines().count() == 3).await;
    let text = operator.stdout(&execution).await;
    let pids: Vec<i32> = text.lines().map(|line| line.parse().unwrap()).collect();
    assert!(pids.iter().all(|pid| lives(*pid)), "{pids:?}");
    let shims = processes("bolt-shim", &directory(&agent, &execution));
    assert_eq!(shims.len(), 1, "{shims:?}");
    kill(Pid::from_raw(shims[0]), Signal::SIGKILL).unwrap();
    let end = operator.wait(&execution).await;
    assert_eq!((end.state, end.reason.as_deref()), (State::Lost, Some("its shim was killed")), "{end:?}");
    assert!(pids.iter().all(|pid| !lives(*pid)), "{pids:?} survive");
    while_down(&mut agent, |_| {});
    assert_eq!(shown(&operator, &execution).await, end);
    assert_eq!(ends(&operator).await[&execution.id], [State::Lost]);
    assert!(!agent.directory().join("run").join(execution.id.as_str()).exists());
}
