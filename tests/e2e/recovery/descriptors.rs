//! Out of file descriptors: new connections are refused or wait, running executions continue, and the agent recovers.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use bolt_tests::http::{Call, send};
use bolt_tests::{World, is_root, skip};
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::{Code, Health};
use serde_json::json;

use crate::calls::{run, until};
use crate::restarts::child;

/// The descriptors that a process has open.
fn descriptors(pid: i32) -> BTreeSet<u64> {
    let names = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).collect()
}

/// Leaves so many numbers for further descriptors.
fn leave(world: &World, pid: i32, free: usize) {
    let open = descriptors(pid);
    let limit = (0..).filter(|n| !open.contains(n)).nth(free).unwrap();
    limit_to(world, pid, &limit.to_string());
}

/// Runs as the process's own account: root may lack the capability to change limits of others.
fn limit_to(world: &World, pid: i32, limit: &str) {
    let account = world.site.accounts().unwrap().api;
    let mut set = Command::new("prlimit");
    set.args(["--pid", &pid.to_string(), &format!("--nofile={limit}:")]).uid(account).gid(account);
    let set = set.output().unwrap();
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
}

#[tokio::test]
async fn no_descriptors_means_later_and_never_an_error_of_the_agent() {
    let test = "recovery::descriptors::no_descriptors_means_later_and_never_an_error_of_the_agent";
    if !is_root() {
        return skip(test, "only with accounts of its own is the api apart");
    }
    let world = World::with_probe();
    let agent = world.agent();
    let operator = world.operator(&agent);
    let api = child(agent.launcher_pid().unwrap(), "api").unwrap();
    let running = operator.start("probe.sleep", json!({"seconds": 1})).await;
    operator.wait_for_output(&running).await;
    assert_eq!(operator.run("probe.hello", json!({})).await.state, State::Succeeded);
    until("connections to be closed", async || {
        let before = descriptors(api);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        before == descriptors(api)
    })
    .await;

    // A single descriptor: the connection takes it, and none is left for an execution.
    let rest = descriptors(api);
    leave(&world, api, 1);
    let answer = operator.submit("probe.hello", json!({})).await;
    let problem = answer.problem();
    assert_eq!((problem.code, answer.status.as_u16()), (Code::OutOfResources, 503), "{problem:?}");
    assert_eq!(answer.headers["retry-after"], "5");

    until("the connection to be closed", async || descriptors(api) == rest).await;

    // None: connections wait in the kernel, and the agent does not spin.
    leave(&world, api, 0);
    let knocking: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(agent.address()).unwrap()).collect();
    let log = || fs::read_to_string(agent.log()).unwrap();
    until("a word about it", async || log().contains("cannot accept connections")).await;
    let exit = super::directory(&agent, &running).join("exit");
    until("the end of what runs", async || exit.exists()).await;
    assert_eq!(log().matches("cannot accept connections").count(), 1, "told once: {}", log());
    drop(knocking);
    limit_to(&world, api, "1024");
    until("an answer", async || {
        send(agent.address(), Some(&world.site.operator()), Call::get("/v1/health")).await.is_ok()
    })
    .await;
    assert_eq!(operator.wait(&running).await.state, State::Succeeded);
    let call = Call::post("/v1/executions?wait=10s", run("probe.hello", json!({})));
    assert_eq!(operator.send(call).await.status, 200);
    let health: Health = operator.send(Call::get("/v1/health")).await.json();
    assert!(!health.degraded, "{health:?}");
    assert_eq!(child(agent.launcher_pid().unwrap(), "api"), Some(api), "it never went down");
}
