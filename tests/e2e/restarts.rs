//! An execution outlives the api, the launcher, and both; no end is lost and nothing starts twice.

use std::fs;
use std::path::Path;

use bolt_client::local::AgentSpec;
use bolt_tests::http::{Call, Held, send};
use bolt_tests::{PackSource, World, spec};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Execution;
use serde_json::json;

use crate::calls::{run, until};

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
    let operator = world.operator(&agent);
    let short = operator.start("probe.sleep", json!({"seconds": 0.5})).await;
    let long = operator.start("probe.sleep", json!({})).await;
    operator.wait_for_output(&long).await;
    let api = child(agent.launcher_pid().unwrap(), "api").unwrap();
    kill(Pid::from_raw(api), Signal::SIGKILL).unwrap();
    until("another api", async || child(agent.launcher_pid().unwrap(), "api").is_some_and(|pid| pid != api)).await;
    until("the api's answer", async || {
        bolt_tests::http::send(agent.address(), Some(&world.site.operator()), Call::get("/v1/health")).await.is_ok()
    })
    .await;
    assert_eq!(operator.wait(&short).await.state, State::Succeeded);
    let still: Execution = operator.send(Call::get(&format!("/v1/executions/{}", long.id))).await.json();
    assert_eq!(still.state, State::Running);
    operator.send(Call::post(&format!("/v1/executions/{}/kill", long.id), "")).await;
    assert_eq!(operator.wait(&long).await.state, State::Killed);
    assert_eq!(operator.stdout(&long).await, "sleeping\n");
    assert!(agent.exited().is_none());
}

#[tokio::test]
async fn a_restarting_api_refuses_no_connection() {
    let world = World::with_probe();
    let agent = world.agent();
    let operator = world.operator(&agent);
    let (address, caller) = (agent.address(), world.site.operator());
    let execution = operator.start("probe.sleep", json!({})).await;
    operator.wait_for_output(&execution).await;
    let knocking = tokio::spawn(async move {
        let mut reached = 0_u64;
        loop {
            match tokio::net::TcpStream::connect(address).await {
                Ok(_) => reached += 1,
                Err(error) => break (reached, error),
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    });
    for signal in [Signal::SIGTERM, Signal::SIGKILL, Signal::SIGTERM] {
        let wait = Call::get(&format!("/v1/executions/{}?wait=60s", execution.id));
        let waiting = {
            let caller = world.site.operator();
            tokio::spawn(async move { send(address, Some(&caller), wait).await })
        };
        until("the waiter is in", async || {
            let text = operator.send(Call::get("/v1/metrics")).await.text();
            let open = text.lines().find_map(|line| line.strip_prefix("bolt_connections ")?.parse::<u32>().ok());
            // This question's own, and the waiter's; knocks never come through their handshake.
            open >= Some(2)
        })
        .await;
        let api = child(agent.launcher_pid().unwrap(), "api").unwrap();
        kill(Pid::from_raw(api), signal).unwrap();
        until("another api", async || child(agent.launcher_pid().unwrap(), "api").is_some_and(|pid| pid != api)).await;
        // No connection is refused: this one waits in the listen queue until the next api accepts it.
        assert_eq!(send(address, Some(&caller), Call::get("/v1/health")).await.unwrap().status, 200);
        // The waiter gets the current state; an api that is killed answers nothing, and the client retries.
        match waiting.await.unwrap() {
            Ok(answer) => assert_eq!((answer.status.as_u16(), answer.json::<Execution>().state), (200, State::Running)),
            Err(error) => assert_eq!(signal, Signal::SIGKILL, "{error}"),
        }
    }
    assert!(!knocking.is_finished(), "{:?}", knocking.await.unwrap());
    knocking.abort();
    operator.send(Call::post(&format!("/v1/executions/{}/kill", execution.id), "")).await;
    assert_eq!(operator.wait(&execution).await.state, State::Killed);
}

#[tokio::test]
async fn a_stop_turns_no_accepted_caller_away() {
    let world = World::with_probe();
    let agent = world.agent();
    let operator = world.operator(&agent);
    let execution = operator.start("probe.sleep", json!({})).await;
    operator.wait_for_output(&execution).await;
    let (address, caller) = (agent.address(), world.site.operator());
    let mut accepted = Held::open(address, &caller, None).await.unwrap();
    let wait = format!("/v1/executions/{}?wait=60s", execution.id);
    let mut waiting = Held::open(address, &caller, Some(&wait)).await.unwrap();
    until("both are in", async || {
        let text = operator.send(Call::get("/v1/metrics")).await.text();
        let open = text.lines().find_map(|line| line.strip_prefix("bolt_connections ")?.parse::<u32>().ok());
        open >= Some(3)
    })
    .await;
    kill(Pid::from_raw(child(agent.launcher_pid().unwrap(), "api").unwrap()), Signal::SIGTERM).unwrap();
    // Answered because the api stops: from here on it takes no new connection.
    assert!(waiting.to_close().await.unwrap().starts_with("HTTP/1.1 200 "));
    accepted.ask(&wait).await.unwrap();
    let answer = accepted.to_close().await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("running"), "{answer}");
    operator.send(Call::post(&format!("/v1/executions/{}/kill", execution.id), "")).await;
    assert_eq!(operator.wait(&execution).await.state, State::Killed);
}

#[tokio::test]
async fn a_dead_launcher_interrupts_nothing() {
    let world = World::with_probe();
    let mut agent = world.agent();
    let operator = world.operator(&agent);
    let execution = operator.start("probe.sleep", json!({"seconds": 1})).await;
    let long = operator.start("probe.sleep", json!({})).await;
    operator.wait_for_output(&execution).await;
    operator.wait_for_output(&long).await;
    agent.kill_launcher();
    // The shim writes the exit record without launcher and api.
    let exit = agent.state().join("exec").join(execution.id.as_str()).join("exit");
    until("the exit record", async || exit.exists()).await;
    until("the api's end", async || agent.launch().is_ok() && agent.wait_ready().is_ok()).await;
    let end = operator.wait(&execution).await;
    assert_eq!((end.state, end.exit_status), (State::Succeeded, Some(0)), "{end:?}");
    let still: Execution = operator.send(Call::get(&format!("/v1/executions/{}", long.id))).await.json();
    assert_eq!(still.state, State::Running);
}

#[tokio::test]
async fn a_restart_starts_nothing_twice() {
    let world = World::with_probe();
    let mut agent = world.start(&spec("i-1").set("execution", "max_running", 1));
    let operator = world.operator(&agent);
    let first = operator.start("probe.sleep", json!({"seconds": 1})).await;
    operator.wait_for_output(&first).await;
    let queued = operator.start("probe.hello", json!({})).await;
    agent.terminate();
    agent.launch().unwrap();
    agent.wait_ready().unwrap();
    assert_eq!(operator.wait(&first).await.state, State::Succeeded);
    assert_eq!(operator.wait(&queued).await.state, State::Succeeded);
    assert_eq!(operator.stdout(&queued).await, "hello from i-1\n");
}

/// Puts a copy of each binary in place of the one that is there, as a package does: another file under the same name.
fn install(binaries: &Path) {
    for name in ["bolt-launch", "bolt-agent", "bolt-sync"] {
        let new = binaries.join(format!("{name}.new"));
        fs::copy(bolt_client::local::binary(name).unwrap(), &new).unwrap();
        fs::rename(&new, binaries.join(name)).unwrap();
    }
}

/// Returns the whole output of an execution of `probe.steady` to one stream.
fn steady(stream: &str, number: usize) -> Vec<u8> {
    let line = format!("{stream} of number {number}: 0123456789abcdefghijklmnopqrstuvwxyz\n");
    line.as_bytes().iter().copied().cycle().take(STEPS * STEP).collect()
}

/// Bytes that an execution writes to each stream in one step.
const STEP: usize = 64 << 10;
/// In so many.
const STEPS: usize = 12;
/// Executions, of which eight run at once.
const LOAD: usize = 24;
/// Upgrades meanwhile.
const UPGRADES: usize = 3;

#[tokio::test]
async fn an_upgrade_under_load_interrupts_nothing() {
    let world = World::empty();
    let ledger = world.ledger().unwrap();
    let script = format!(
        "#!/bin/sh\necho \"$BOLT_EXECUTION_ID\" >> {}\n\
         line() {{ yes \"$1 of number $BOLT_PARAM_NUMBER: 0123456789abcdefghijklmnopqrstuvwxyz\" | head -c {total} | \
         tail -c +$(($2 * {STEP} + 1)) | head -c {STEP}; }}\n\
         i=0\nwhile [ $i -lt {STEPS} ]; do line out $i; line err $i >&2; sleep 0.1; i=$((i+1)); done\n",
        ledger.display(),
        total = STEPS * STEP,
    );
    let yaml = "parameters: {number: {type: integer, required: true}}\nbolt: {class: diagnostic, timeout: 5m}";
    world.publish(&PackSource::probe().action("steady", yaml, &script));
    let binaries = world.scratch("bin");
    install(&binaries);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = spec("i-1").set("api", "listen", free.to_string()).set("execution", "max_running", 8);
    let mut agent = world.start(&AgentSpec { binaries: Some(binaries.clone()), ..settings });
    let operator = world.operator(&agent);
    let (address, caller) = (agent.address(), world.site.operator());
    let asking = async {
        let mut ids = Vec::new();
        for number in 0..LOAD {
            let call = Call::post("/v1/executions", run("probe.steady", json!({"number": number})));
            let call = call.header("idempotency-key", &format!("steady-{number}"));
            until("it is accepted", async || match send(address, Some(&caller), call.clone()).await {
                Ok(answer) if answer.status.is_success() => {
                    ids.push(answer.json::<Execution>());
                    true
                }
                Ok(answer) => {
                    assert_eq!(answer.status, 503, "{}", answer.text());
                    false
                }
                Err(_) => false,
            })
            .await;
        }
        ids
    };
    let upgrading = async {
        let mut known = 0;
        for _ in 0..UPGRADES {
            // Each in the middle of something: when another has begun.
            let begun = || fs::read_to_string(&ledger).unwrap_or_default().lines().count();
            until("something runs", async || begun() > known).await;
            known = begun();
            install(&binaries);
            agent.terminate();
            agent.launch().unwrap();
            until("the agent", async || send(address, Some(&caller), Call::get("/v1/health")).await.is_ok()).await;
        }
        agent.wait_ready().unwrap();
    };
    let (executions, ()) = tokio::join!(asking, upgrading);
    let mut bytes = 0;
    for (number, execution) in executions.iter().enumerate() {
        let end = operator.wait(execution).await;
        assert_eq!((end.state, end.exit_status), (State::Succeeded, Some(0)), "{end:?}");
        for (kind, stream) in [("stdout", "out"), ("stderr", "err")] {
            let path = format!("/v1/executions/{}/{kind}", execution.id);
            let answer = operator.send(Call::get(&path)).await;
            assert!(answer.body == steady(stream, number), "{kind} of number {number} is not what was written");
            bytes += answer.body.len();
        }
    }
    let mut lines: Vec<String> = fs::read_to_string(&ledger).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    let mut asked: Vec<String> = executions.iter().map(|execution| execution.id.to_string()).collect();
    asked.sort();
    assert_eq!(lines, asked, "each was started once");
    println!("{LOAD} executions, {bytes} bytes, {UPGRADES} upgrades");
}

#[test]
fn a_clean_stop_logs_no_error() {
    let world = World::with_probe();
    let mut agent = world.agent();
    for _ in 0..5 {
        agent.terminate();
        agent.launch().unwrap();
        agent.wait_ready().unwrap();
    }
    agent.terminate();
    let log = fs::read_to_string(agent.log()).unwrap();
    assert!(log.contains("stopping"), "{log}");
    assert!(!log.contains("closed its end") && !log.contains("ERROR"), "{log}");
}

#[tokio::test]
async fn a_stop_cuts_a_request_that_does_not_end_and_closes_its_records() {
    let world = World::with_probe();
    let mut agent = world.agent();
    let mut slow = Held::open(agent.address(), &world.site.operator(), None).await.unwrap();
    slow.write(
        "POST /v1/executions HTTP/1.1\r\nhost: agent\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{",
    )
    .await
    .unwrap();
    // Another request that is answered: the agent has read the first by then, or will before it sees the signal.
    world.operator(&agent).send(Call::get("/v1/health")).await;
    agent.terminate();
    let log = fs::read_to_string(agent.log()).unwrap();
    assert!(log.contains("connections were cut at shutdown"), "{log}");
    // Removed after all records are closed: an agent that is killed leaves it.
    assert!(!agent.state().join("api.address").exists(), "{log}");
}
