//! Leaving a run whose start has not been answered: which execution it is must still be known.

use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use bolt_client::inventory::Inventory;
use bolt_client::pack;
use hyper::{Method, StatusCode};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use packs_schema::base::name::PackName;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::sync::Notify;

use crate::hostile::{ID, execution, listed};
use crate::server::{World, answer, hold};

/// Runs `bolt run` against an instance that takes the start and holds its answer back; interrupts twice.
async fn left(lists: bool, arguments: &[&str]) -> (Output, String) {
    let world = World::new();
    let directory = world.path().join("pack");
    pack::scaffold(&PackName::new("tried").unwrap(), pack::Template::Script, &directory).unwrap();
    let view = listed(&pack::lint(&directory).unwrap().checked.unwrap().actions.pop().unwrap());
    let (asked, arrived) = (Arc::new(Mutex::new(Value::Null)), Arc::new(Notify::new()));
    let (noted, posted) = (asked.clone(), arrived.clone());
    let handler = move |request: &hyper::Request<bytes::Bytes>| {
        if request.method() == Method::POST {
            *noted.lock().unwrap() = serde_json::from_slice(request.body()).unwrap();
            posted.notify_one();
            return hold();
        }
        if request.uri().path().starts_with("/v1/actions/") {
            return answer(StatusCode::OK, "application/json", view.to_string());
        }
        let mut item = execution(ID, "i-1", "running");
        item["run"] = noted.lock().unwrap()["run"].clone();
        let items = if lists { vec![item] } else { Vec::new() };
        answer(StatusCode::OK, "application/json", json!({ "items": items }).to_string())
    };
    let server = world.server("i-1", handler).await;
    let inventory = Inventory::of(vec![server.instance.clone()]);
    std::fs::write(world.path().join("inventory.toml"), inventory.to_toml()).unwrap();
    let arguments: Vec<&str> = ["run", "tried.uptime"].iter().chain(arguments).copied().collect();
    let mut command = world.command(&arguments);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    arrived.notified().await;
    let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("interrupt again") {
        line.clear();
        assert!(stderr.read_line(&mut line).await.unwrap() > 0, "it says that it may be interrupted again");
    }
    kill(pid, Signal::SIGINT).unwrap();
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).await.unwrap();
    (child.wait_with_output().await.unwrap(), rest)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_before_the_start_is_answered_knows_the_execution() {
    let (output, stderr) = left(true, &[]).await;
    assert!(output.status.code() == Some(130) && stderr.contains(&format!("i-1: {ID}")), "{stderr}");
    let (output, stderr) = left(true, &["--json"]).await;
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["left"][0]["execution_id"], ID, "{said} {stderr}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_when_it_is_not_there_yet_is_given_the_key_and_the_run() {
    let (output, stderr) = left(false, &[]).await;
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("idempotency key") && stderr.contains("bolt ps --run r-"), "{stderr}");
}
