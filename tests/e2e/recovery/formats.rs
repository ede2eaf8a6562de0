//! Records of other versions: those of format 1 as a shim of that time wrote them (`tests/fixtures/execution-format-1`), which
//! every later agent takes over; and those of a format from the future, which end honestly.
//!
//! The fixture is made by `BOLT_TEST_WRITE_FIXTURE=1` and the first test here, by the shim of the day; it is never made again.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use bolt_client::local::LocalAgent;
use bolt_tests::http::Call;
use bolt_tests::{Operator, PackSource, World};
use nix::fcntl::{Flock, FlockArg};
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Execution;
use packs_schema::base::name::ExecutionId;
use serde_json::{Value, json};

use super::{directory, edit, shown, while_down};
use crate::calls::until;

/// Output of the fixture's action.
fn written(stream: &str) -> String {
    (1..=600).map(|n| format!("{stream} line {n:05}\n")).collect()
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/execution-format-1")
}

fn pack() -> PackSource {
    let script = "#!/bin/sh\ni=0\nwhile [ $i -lt 600 ]; do i=$((i+1)); printf 'out line %05d\\n' $i; \
                  printf 'err line %05d\\n' $i >&2; done\n";
    PackSource::probe().action("both", "bolt: {class: diagnostic, output: {max: 16KiB}}", script)
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn keys(record: &Value) -> BTreeSet<String> {
    record.as_object().unwrap().keys().cloned().collect()
}

/// The fixture as an execution of this agent; what was `changed` is not as it was.
fn place(world: &World, agent: &LocalAgent, changed: impl FnOnce(&Path)) -> ExecutionId {
    let spec = json_of(&fixture().join("spec"));
    let id: ExecutionId = serde_json::from_value(spec["id"].clone()).unwrap();
    let to = agent.state().join("exec").join(id.as_str());
    fs::create_dir(&to).unwrap();
    for entry in fs::read_dir(fixture()).unwrap().flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    fs::write(to.join("lock"), "").unwrap();
    changed(&to);
    fs::set_permissions(&to, fs::Permissions::from_mode(0o700)).unwrap();
    if let Some(accounts) = world.site.accounts() {
        for path in fs::read_dir(&to).unwrap().flatten().map(|entry| entry.path()).chain([to.clone()]) {
            chown(&path, Some(accounts.api), Some(accounts.api)).unwrap();
        }
    }
    id
}

/// Makes the records look as if they were written in this boot.
fn of_this_boot(directory: &Path) {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    for name in ["spec", "started"] {
        edit(&directory.join(name), |record| record["boot_id"] = json!(boot.trim()));
    }
}

async fn find(operator: &Operator, id: &ExecutionId) -> Execution {
    let answer = operator.send(Call::get(&format!("/v1/executions/{id}"))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

async fn stderr(operator: &Operator, execution: &Execution) -> String {
    operator.send(Call::get(&format!("/v1/executions/{}/stderr", execution.id))).await.text()
}

#[tokio::test]
async fn todays_shim_writes_all_that_the_fixture_has() {
    let world = World::empty();
    world.publish(&pack());
    let agent = world.agent();
    let operator = world.operator(&agent);
    let end = operator.run("probe.both", json!({})).await;
    assert_eq!(end.state, State::Succeeded, "{end:?}");
    let now = directory(&agent, &end);
    if std::env::var_os("BOLT_TEST_WRITE_FIXTURE").is_some() {
        fs::create_dir_all(fixture()).unwrap();
        for entry in fs::read_dir(&now).unwrap().flatten().filter(|entry| entry.file_name() != "lock") {
            fs::copy(entry.path(), fixture().join(entry.file_name())).unwrap();
        }
    }
    for name in ["spec", "started", "exit"] {
        let (then, now) = (json_of(&fixture().join(name)), json_of(&now.join(name)));
        assert_eq!(then["format"], 1);
        assert!(now["format"] != 1 || keys(&now).is_superset(&keys(&then)), "{name}: {now} lacks some of {then}");
    }
    assert!(["tail.1.0", "tail.2.0"].iter().all(|name| fixture().join(name).exists()), "it has both tails");
}

#[tokio::test]
async fn an_older_shims_finished_execution_is_taken_over() {
    let world = World::with_probe();
    let mut agent = world.agent();
    let operator = world.operator(&agent);
    let mut id = None;
    while_down(&mut agent, |agent| id = Some(place(&world, agent, |_| {})));
    let end = find(&operator, &id.unwrap()).await;
    let exit = json_of(&fixture().join("exit"));
    assert_eq!((end.state, end.exit_status), (State::Succeeded, Some(0)), "{end:?}");
    assert_eq!(end.ended_at_ms, exit["ended_at_ms"].as_u64());
    assert_eq!(json!(end.usage.unwrap().user_us), exit["usage"]["user_us"]);
    assert_eq!(operator.stdout(&end).await, written("out"));
    assert_eq!(stderr(&operator, &end).await, written("err"));
}

#[tokio::test]
async fn an_older_shims_running_execution_is_followed_to_its_end() {
    let world = World::with_probe();
    let mut agent = world.agent();
    let operator = world.operator(&agent);
    agent.terminate();
    let mut log = Vec::new();
    let mut exit = Vec::new();
    let id = place(&world, &agent, |directory| {
        of_this_boot(directory);
        // Half finished: half of the log, no tails, no exit record.
        log = fs::read(directory.join("output.log")).unwrap();
        exit = fs::read(directory.join("exit")).unwrap();
        fs::write(directory.join("output.log"), &log[..log.len() / 2]).unwrap();
        for entry in fs::read_dir(directory).unwrap().flatten() {
            if entry.file_name() == "exit" || entry.file_name().to_string_lossy().starts_with("tail.") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
    });
    let directory = agent.state().join("exec").join(id.as_str());
    // We play the shim: its lock is ours until the end.
    let lock = fs::File::options().read(true).write(true).open(directory.join("lock")).unwrap();
    let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap();
    agent.launch().unwrap();
    agent.wait_ready().unwrap();
    let running = find(&operator, &id).await;
    assert_eq!(running.state, State::Running, "{running:?}");
    let path = format!("/v1/executions/{id}/stdout?follow=true");
    let follow = operator.send(Call::get(&path));
    let play = async {
        let begun = operator.stdout(&running).await;
        assert!(written("out").starts_with(&begun) && !begun.is_empty(), "{begun}");
        fs::File::options()
            .append(true)
            .open(directory.join("output.log"))
            .unwrap()
            .write_all(&log[log.len() / 2..])
            .unwrap();
        until("the rest", async || operator.stdout(&running).await.len() > begun.len()).await;
        for entry in fs::read_dir(fixture()).unwrap().flatten() {
            if entry.file_name().to_string_lossy().starts_with("tail.") {
                fs::copy(entry.path(), directory.join(entry.file_name())).unwrap();
            }
        }
        assert_eq!(shown(&operator, &running).await.state, State::Running);
        fs::write(directory.join("exit.new"), &exit).unwrap();
        fs::rename(directory.join("exit.new"), directory.join("exit")).unwrap();
        drop(lock);
        operator.wait(&running).await
    };
    let (followed, end) = tokio::join!(follow, play);
    assert_eq!((end.state, end.exit_status), (State::Succeeded, Some(0)), "{end:?}");
    assert_eq!(followed.text(), written("out"));
    assert_eq!(stderr(&operator, &end).await, written("err"));
}

#[tokio::test]
async fn a_format_from_the_future_ends_honestly() {
    let world = World::with_probe();
    let mut agent = world.start(&bolt_tests::spec("i-1").set("execution", "max_running", 1));
    let operator = world.operator(&agent);
    // Longer than it takes to stop the agent, or the other one would start.
    let running = operator.start("probe.sleep", json!({"seconds": 5})).await;
    let queued = operator.start("probe.hello", json!({})).await;
    let mut id = None;
    while_down(&mut agent, |agent| {
        // An agent that was newer took these, and its shim wrote the end of the one.
        edit(&directory(agent, &queued).join("spec"), |spec| spec["format"] = json!(2));
        id = Some(place(&world, agent, |directory| {
            of_this_boot(directory);
            edit(&directory.join("exit"), |exit| *exit = json!({"format": 2, "outcome": "fine"}));
        }));
    });
    let end = find(&operator, &id.unwrap()).await;
    let reason = end.reason.clone().unwrap();
    assert_eq!(end.state, State::Lost, "{end:?}");
    assert!(reason.contains("exit record cannot be read") && reason.contains("format 2"), "{reason}");
    let end = shown(&operator, &queued).await;
    let reason = end.reason.clone().unwrap();
    assert_eq!(end.state, State::Error, "{end:?}");
    assert!(reason.contains("not started") && reason.contains("format 2"), "{reason}");
    assert_eq!(operator.wait(&running).await.state, State::Succeeded);
}
