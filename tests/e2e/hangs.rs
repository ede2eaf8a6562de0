//! An api that hangs is replaced, without harm to executions; what root kills meanwhile is recorded.

use std::fs;
use std::path::Path;

use bolt_client::local::LocalAgent;
use bolt_tests::http::Call;
use bolt_tests::{Bolt, PackSource, World, spec};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::{ApiProcess, Execution};
use packs_schema::base::name::Principal;
use serde_json::{Value, json};

use crate::calls::until;
use crate::restarts::child;

/// Stops the api with a signal that it cannot handle; returns its process id.
fn hang(agent: &LocalAgent) -> Pid {
    let api = Pid::from_raw(child(agent.launcher_pid().unwrap(), "api").unwrap());
    kill(api, Signal::SIGSTOP).unwrap();
    api
}

/// Returns the entries of the audit log with this verb about one execution.
fn recorded(agent: &LocalAgent, verb: &str, execution: &Execution) -> Vec<Value> {
    let audit = agent.state().join("audit");
    let shown =
        Bolt::new(Path::new("/dev/null")).run(["audit", "show", audit.to_str().unwrap(), "--verb", verb, "--json"]);
    let entries = shown.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    entries.filter(|entry| entry.to_string().contains(execution.id.as_str())).collect()
}

#[tokio::test]
async fn a_hung_api_is_replaced_and_executions_go_on() {
    let world = World::empty();
    let ledger = world.ledger().unwrap();
    let place = ledger.parent().unwrap().to_owned();
    // Writes before, while and after the api hangs.
    let script = format!(
        "#!/bin/sh\necho \"$BOLT_EXECUTION_ID\" >> {0}\necho begun\n\
         while [ ! -e {1}/$BOLT_PARAM_UNTIL ]; do sleep 0.05; done\necho hung\n\
         while [ ! -e {1}/$BOLT_PARAM_UNTIL.end ]; do sleep 0.05; done\necho done\n",
        ledger.display(),
        place.display(),
    );
    let yaml = "parameters: {until: {type: string, required: true}}\nbolt: {class: diagnostic, timeout: 5m}";
    world.publish(&PackSource::probe().action("steps", yaml, &script));
    let mut agent = world.start(&spec("i-1").set("api", "hang_after", "5s"));
    let operator = world.operator(&agent);
    let (short, long) = (
        operator.start("probe.steps", json!({"until": "a"})).await,
        operator.start("probe.steps", json!({"until": "b"})).await,
    );
    for execution in [&short, &long] {
        operator.wait_for_output(execution).await;
    }
    let api = hang(&agent);
    for name in ["a", "a.end", "b"] {
        fs::write(place.join(name), "").unwrap();
    }
    let exit = agent.state().join("exec").join(short.id.as_str()).join("exit");
    until("the end of one while the api hangs", async || exit.exists()).await;
    until("another api", async || child(agent.launcher_pid().unwrap(), "api").is_some_and(|pid| pid != api.as_raw()))
        .await;
    let report = fs::read(agent.directory().join("run/api.json")).unwrap();
    let report: ApiProcess = serde_json::from_slice(&report).unwrap();
    assert!(report.hung && report.failures == 1, "{report:?}");
    let end = operator.wait(&short).await;
    let still: Execution = operator.send(Call::get(&format!("/v1/executions/{}", long.id))).await.json();
    assert_eq!((end.state, still.state), (State::Succeeded, State::Running));
    fs::write(place.join("b.end"), "").unwrap();
    for execution in [&short, &long] {
        let end = operator.wait(execution).await;
        assert_eq!((end.state, end.exit_status), (State::Succeeded, Some(0)), "{end:?}");
        assert_eq!(operator.stdout(execution).await, "begun\nhung\ndone\n");
        assert_eq!(recorded(&agent, "run", execution).len(), 1);
    }
    // Both ends were recorded by the second api, once each.
    let metrics = operator.send(Call::get("/v1/metrics")).await.text();
    let ended = metrics.lines().filter(|line| line.starts_with("bolt_executions_total") && line.contains("succeeded"));
    assert_eq!(ended.filter_map(|line| line.rsplit(' ').next()).collect::<Vec<_>>(), ["2"], "{metrics}");
    let mut begun: Vec<String> = fs::read_to_string(&ledger).unwrap().lines().map(str::to_owned).collect();
    begun.sort();
    assert_eq!(begun, [short.id.to_string(), long.id.to_string()], "each was started once");
    assert!(agent.exited().is_none(), "the launcher goes on");
    let log = fs::read_to_string(agent.log()).unwrap();
    assert_eq!(log.matches("no sign of life for api.hang_after").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_that_root_writes_while_the_api_hangs_is_recorded_when_it_goes_on() {
    let world = World::with_probe();
    let agent = world.start(&spec("i-1").set("api", "hang_after", "0s").set("execution", "max_running", 1));
    let operator = world.operator(&agent);
    let running = operator.start("probe.sleep", json!({})).await;
    operator.wait_for_output(&running).await;
    let queued = operator.start("probe.sleep", json!({})).await;
    let api = hang(&agent);
    for execution in [&queued, &running] {
        let mut command = Bolt::new(Path::new("/dev/null")).command(["local", "kill", execution.id.as_str()]);
        command.args(["--note", "hung", "--agent-config"]).arg(agent.config()).env("HOME", world.path());
        let said = bolt_tests::CommandOutput::from(tokio::task::block_in_place(|| command.output().unwrap()));
        assert!(said.stderr.contains("does not answer"), "{said:?}");
    }
    kill(api, Signal::SIGCONT).unwrap();
    for execution in [&running, &queued] {
        let end = operator.wait(execution).await;
        assert_eq!((end.state, end.killed_by), (State::Killed, Some(Principal::local_root())), "{}", end.id);
        assert_eq!(end.kill_note.as_deref(), Some("hung"));
        let kills = recorded(&agent, "kill", execution);
        assert!(kills.len() == 1 && kills[0].to_string().contains("local://root"), "{kills:?}");
    }
    assert_eq!(child(agent.launcher_pid().unwrap(), "api"), Some(api.as_raw()), "0 replaces no api");
}
