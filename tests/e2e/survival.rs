//! An execution outlives the api, the launcher, and both; no end is lost and nothing starts twice.

use bolt_tests::http::Call;
use bolt_tests::{World, spec};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use packs_schema::rest::Execution;
use packs_schema::run::State;
use serde_json::json;

use crate::calls::{ended, has_output, operator, started, stdout, until};

/// The process id of a child of the launcher whose command line holds `word`.
pub(crate) fn child(launcher: u32, word: &str) -> Option<i32> {
    let children = std::fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).ok()?;
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid: &i32| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|c| c.contains("bolt-agent") && c.contains(word))
    })
}

#[tokio::test]
async fn a_dead_api_is_restarted_and_finds_its_executions() {
    let world = World::with_probe();
    // A port of its own, so that the address stays the same.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut agent = world.start(&spec("i-1").set("api", "listen", free.to_string()));
    let short = started(&world, &agent, "probe.sleep", json!({"seconds": 0.5})).await;
    let long = started(&world, &agent, "probe.sleep", json!({})).await;
    has_output(&world, &agent, &long).await;
    let api = child(agent.launcher_pid().unwrap(), "api").unwrap();
    kill(Pid::from_raw(api), Signal::SIGKILL).unwrap();
    until("another api", async || child(agent.launcher_pid().unwrap(), "api").is_some_and(|pid| pid != api)).await;
    until("the api's answer", async || {
        bolt_tests::http::send(agent.address(), Some(&world.site.operator()), Call::get("/v1/health")).await.is_ok()
    })
    .await;
    assert_eq!(ended(&world, &agent, &short).await.state, State::Succeeded);
    let still: Execution = operator(&world, &agent, Call::get(&format!("/v1/executions/{}", long.id))).await.json();
    assert_eq!(still.state, State::Running);
    operator(&world, &agent, Call::post(&format!("/v1/executions/{}/kill", long.id), "")).await;
    assert_eq!(ended(&world, &agent, &long).await.state, State::Killed);
    assert_eq!(stdout(&world, &agent, &long).await, "sleeping\n");
    assert!(agent.exited().is_none());
}

#[tokio::test]
async fn a_dead_launcher_interrupts_nothing() {
    let world = World::with_probe();
    let mut agent = world.agent();
    let execution = started(&world, &agent, "probe.sleep", json!({"seconds": 1})).await;
    let long = started(&world, &agent, "probe.sleep", json!({})).await;
    has_output(&world, &agent, &execution).await;
    has_output(&world, &agent, &long).await;
    agent.kill_launcher();
    // The shim writes the end with nobody there.
    let exit = agent.state().join("exec").join(execution.id.as_str()).join("exit");
    until("the exit record", async || exit.exists()).await;
    until("the api's end", async || agent.launch().is_ok() && agent.wait_ready().is_ok()).await;
    let end = ended(&world, &agent, &execution).await;
    assert_eq!((end.state, end.exit_status), (State::Succeeded, Some(0)), "{end:?}");
    let still: Execution = operator(&world, &agent, Call::get(&format!("/v1/executions/{}", long.id))).await.json();
    assert_eq!(still.state, State::Running);
}

#[tokio::test]
async fn a_restart_starts_nothing_twice() {
    let world = World::with_probe();
    let mut agent = world.start(&spec("i-1").set("execution", "max_running", 1));
    let first = started(&world, &agent, "probe.sleep", json!({"seconds": 1})).await;
    has_output(&world, &agent, &first).await;
    let queued = started(&world, &agent, "probe.hello", json!({})).await;
    agent.terminate();
    agent.launch().unwrap();
    agent.wait_ready().unwrap();
    assert_eq!(ended(&world, &agent, &first).await.state, State::Succeeded);
    assert_eq!(ended(&world, &agent, &queued).await.state, State::Succeeded);
    assert_eq!(stdout(&world, &agent, &queued).await, "hello from i-1\n");
}
