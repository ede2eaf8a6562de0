//! An account without inotify instances: more agents of one account than `fs.inotify.max_user_instances`.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use bolt_client::local::LocalAgent;
use bolt_tests::http::Call;
use bolt_tests::{World, is_root, skip, spec};
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Health;
use serde_json::json;

use crate::calls::until;

/// Account of this test's api, so that no other test has its limit exhausted.
const ACCOUNT: u32 = 61_987;

/// Takes every inotify instance of an account, until it is killed.
fn exhaust(account: u32) -> Child {
    let script = "import ctypes, sys\ninit = ctypes.CDLL(None).inotify_init\nwhile init() >= 0: pass\n\
                  print('none left', flush=True)\nsys.stdin.read()\n";
    let mut holder = Command::new("python3");
    holder.args(["-c", script]).uid(account).gid(account).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = holder.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "none left\n");
    holder
}

#[tokio::test]
async fn without_inotify_instances_directories_are_polled_and_health_says_what_to_raise() {
    let test = "recovery::inotify::without_inotify_instances_directories_are_polled_and_health_says_what_to_raise";
    if !is_root() {
        return skip(test, "only root can use the limit of another account");
    }
    let world = World::with_probe();
    let mut holder = exhaust(ACCOUNT);
    let mut agent = LocalAgent::prepare(&world.site, &spec("i-1").set("users", "api", ACCOUNT.to_string())).unwrap();
    chown(agent.directory().join("etc/tls/agent.key"), Some(ACCOUNT), Some(ACCOUNT)).unwrap();
    agent.launch().unwrap();
    agent.wait_ready().unwrap();
    let operator = world.operator(&agent);
    assert_eq!(operator.run("probe.hello", json!({})).await.state, State::Succeeded);
    let health = async || -> Health { operator.send(Call::get("/v1/health")).await.json() };
    let problem = health().await.reasons.into_iter().find(|reason| reason.code == "not_watched").unwrap();
    let message = &problem.message;
    assert!(message.contains("no inotify instance left: raise fs.inotify.max_user_instances"), "{message}");

    // The directory is watched as soon as there is an instance again.
    let running = operator.start("probe.sleep", json!({})).await;
    operator.wait_for_output(&running).await;
    holder.kill().unwrap();
    holder.wait().unwrap();
    until("health to recover", async || health().await.reasons.iter().all(|reason| reason.code != "not_watched")).await;
    operator.send(Call::post(&format!("/v1/executions/{}/kill", running.id), "")).await;
    assert_eq!(operator.wait(&running).await.state, State::Killed);
}
