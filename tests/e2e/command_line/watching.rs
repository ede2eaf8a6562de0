//! Watching and stopping what runs: what waits for what, why something was killed.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use bolt_client::fleet;
use bolt_client::local::LocalAgent;
use bolt_tests::http::Call;
use bolt_tests::{Bolt, PackSource, World, spec};
use serde_json::json;

use super::ended;

/// An action of which one runs at a time, until it is killed.
fn one_at_a_time() -> PackSource {
    let yaml = "bolt: {class: diagnostic, grace: 200ms, concurrency: {max: 1, group: turns, when_busy: queue}}";
    PackSource::new("probe", "1.0.0").action("turn", yaml, "#!/bin/sh\necho running\nexec sleep 600\n")
}

#[tokio::test]
async fn a_queued_execution_shows_what_it_waits_for_and_a_killed_one_why() {
    let world = World::empty();
    world.publish(&one_at_a_time());
    let agent = world.agent();
    let bolt = world.bolt(&[&agent]);
    let first = world.operator(&agent).start("probe.turn", json!({})).await;
    world.operator(&agent).wait_for_output(&first).await;
    let second = world.operator(&agent).start("probe.turn", json!({})).await;
    let third = world.operator(&agent).start("probe.turn", json!({})).await;

    let shown = bolt.run(["show", third.id.as_str()]);
    ended(&shown, 0, &[]);
    let waiting = "waiting for  a slot of concurrency group turns: 1 of 1 running; 1 queued before it\n";
    assert!(shown.stdout.contains(waiting), "{shown:?}");
    let behind = format!("behind {}", &first.id.as_str()[24..]);
    assert!(shown.stdout.contains(&behind), "{shown:?}");
    let (_, running) = bolt.json(["show", first.id.as_str()]);
    assert!(running.get("waiting").is_none(), "{running}");

    // A queued and a running execution: each keeps the note of its kill, also when the kill is repeated.
    for execution in [&second, &first] {
        ended(&bolt.run(["kill", execution.id.as_str(), "--note", "wrong host"]), 0, &[]);
        ended(
            &bolt.run(["kill", execution.id.as_str(), "--note", "too late"]),
            0,
            &["had already ended (killed); nothing was done, and the note is not kept"],
        );
        let shown = bolt.run(["show", execution.id.as_str()]);
        assert!(shown.stdout.contains("kill note    wrong host\n"), "{shown:?}");
    }
    ended(&bolt.run(["kill", third.id.as_str()]), 0, &[]);
    assert!(!bolt.run(["show", third.id.as_str()]).stdout.contains("kill note"));
}

/// Three agents and the operator's command.
fn three(world: &World) -> ([LocalAgent; 3], Bolt) {
    let agents = ["i-1", "i-2", "i-3"].map(|id| world.start(&spec(id)));
    let bolt = world.bolt(&agents.iter().collect::<Vec<_>>());
    (agents, bolt)
}

/// An action that writes a line, and ends when the gate is there; on i-3 it fails.
fn gated(world: &World) -> (PackSource, String) {
    let script = "#!/bin/sh\necho waiting\nwhile [ ! -e \"$BOLT_PARAM_GATE\" ]; do sleep 0.05; done\n\
                  echo through; echo warned >&2\n[ \"$BOLT_INSTANCE_ID\" != i-3 ]\n";
    let yaml = "parameters: {gate: {type: string, required: true}, token: {type: string, secret: true}}\n\
                bolt: {class: diagnostic, grace: 200ms}";
    let gate = world.scratch("gates").join("open");
    (PackSource::new("probe", "1.0.0").action("gated", yaml, script), format!("gate={}", gate.display()))
}

fn open(gate: &str) {
    std::fs::write(gate.strip_prefix("gate=").unwrap(), "").unwrap();
}

/// Starts the action on all three agents as one run, and gives the run's id once all wait at the gate.
async fn begun(world: &World, agents: &[LocalAgent], gate: &str) -> String {
    let run = fleet::new_run_id().to_string();
    let gate = gate.strip_prefix("gate=").unwrap();
    for agent in agents {
        let body = json!({"action": "probe.gated", "parameters": {"gate": gate}, "run": run, "note": "ticket 17"});
        let operator = world.operator(agent);
        let answer = operator.send(Call::post("/v1/executions", body.to_string().into_bytes())).await;
        operator.wait_for_output(&answer.json()).await;
    }
    run
}

#[tokio::test]
async fn a_run_is_followed_waited_for_and_shown() {
    let world = World::empty();
    let (pack, gate) = gated(&world);
    world.publish(&pack);
    let (agents, bolt) = three(&world);
    let run = begun(&world, &agents, &gate).await;
    let late = bolt.run(["wait", "--run", &run, "--timeout", "100ms"]);
    ended(&late, 1, &["not all had ended within 100ms"]);
    let mut following =
        bolt.command(["logs", "-f", "--run", &run]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut seen: Vec<String> = (0..3).map(|_| lines.next().unwrap().unwrap()).collect();
    seen.sort();
    assert_eq!(seen, ["i-1 | waiting", "i-2 | waiting", "i-3 | waiting"], "lines come while it runs");
    open(&gate);
    let mut rest: Vec<String> = lines.map(Result::unwrap).collect();
    rest.sort();
    assert_eq!(rest, ["i-1 | through", "i-2 | through", "i-3 | through"]);
    let followed = following.wait_with_output().unwrap();
    let stderr = String::from_utf8(followed.stderr).unwrap();
    assert!(followed.status.success() && stderr.contains("i-2 | warned\n"), "{stderr}");

    let waited = bolt.run(["wait", &run]);
    ended(&waited, 1, &[]);
    assert_eq!(waited.stdout, "2 succeeded: i-1, i-2\n1 failed (exit 1): i-3\n");
    ended(&bolt.run(["wait", &run, "--on", "i-1,i-2"]), 0, &[]);
    let (code, value) = bolt.json(["wait", "--run", &run]);
    assert_eq!((code, value["executions"].as_array().unwrap().len()), (1, 3), "{value}");
    let one = value["executions"][0]["id"].as_str().unwrap();
    ended(&bolt.run(["wait", one]), 0, &[]);

    let shown = bolt.run(["show", &run]);
    ended(&shown, 0, &["bolt logs --run"]);
    for words in [
        "action       probe.gated\n",
        "version      1.0.0\n",
        "note         ticket 17\n",
        "instances    2 succeeded: i-1, i-2\n",
        "1 failed (exit 1): i-3\n",
    ] {
        assert!(shown.stdout.contains(words), "{words:?} is not in {shown:?}");
    }
    let only = bolt.run(["logs", &run, "--stream", "stderr", "--on", "i-2"]);
    assert_eq!((only.code, only.stdout.as_str()), (0, "i-2 | warned\n"), "{only:?}");
    ended(&bolt.run(["logs", "--run", "r-none"]), 4, &["none has an execution of run r-none"]);
}

#[tokio::test]
async fn a_run_is_killed_after_a_preview_and_consent() {
    let world = World::empty();
    let (pack, gate) = gated(&world);
    world.publish(&pack);
    let (agents, bolt) = three(&world);
    let run = begun(&world, &agents, &gate).await;
    let refused = bolt.run(["kill", "--run", &run]);
    ended(
        &refused,
        2,
        &[
            "would kill 3 executions on 3 instances",
            "probe.gated, started by spiffe://bolt.local/operator, on i-1, i-2, i-3",
            "--yes",
        ],
    );
    ended(&bolt.run(["kill"]), 2, &["say what to kill"]);
    ended(&bolt.run(["kill", "--caller", "spiffe://bolt.local/other", "--yes"]), 0, &["nothing to kill"]);
    let (_, still) = bolt.json(["ps", "--run", &run, "--state", "running"]);
    assert_eq!(still["executions"].as_array().unwrap().len(), 3, "nothing was killed without consent: {still}");
    // By what runs on one instance, then by the run, with one instance that is not there any more.
    let one = bolt.run(["kill", "--where", "id == 'i-2'", "--yes", "--note", "wrong version"]);
    ended(&one, 0, &["killing 1 execution on 1 instance"]);
    assert!(one.stdout.starts_with("1 killed") && one.stdout.ends_with(": i-2\n"), "{one:?}");
    let [first, _second, third] = agents;
    drop(third);
    let rest = bolt.run(["kill", "--run", &run, "--yes"]);
    ended(&rest, 1, &["killing 1 execution on 1 instance", "i-3 (", "connection refused"]);
    assert!(rest.stdout.starts_with("1 killed") && rest.stdout.ends_with(": i-1\n"), "{rest:?}");
    let shown = bolt.run(["show", "--run", &run, "--on", "i-2"]);
    assert!(shown.stdout.contains("kill note    wrong version\n"), "{shown:?}");
    drop(first);
    ended(&bolt.run(["kill", "--run", &run, "--yes", "--on", "i-1,i-3"]), 3, &["none of 2 instances answered"]);
}

#[test]
fn a_list_shows_parameters_is_sorted_and_cut_by_time() {
    let world = World::with_probe();
    let agent = world.agent();
    let bolt = world.bolt(&[&agent]);
    let token = world.scratch("secrets").join("token");
    std::fs::write(&token, "hunter2").unwrap();
    let token = format!("token=@{}", token.display());
    ended(&bolt.run(["run", "probe.typed", "name=abc", &token, "--on", "i-1", "--note", "ticket 17"]), 0, &[]);
    ended(&bolt.run(["run", "probe.fail", "--on", "i-1"]), 1, &[]);
    let listed = bolt.run(["ps"]);
    assert!(listed.stdout.contains("name=abc") && listed.stdout.contains("(ticket 17)"), "{listed:?}");
    assert!(listed.stdout.contains("token=[secret]") && !listed.stdout.contains("hunter2"), "{listed:?}");
    let wide = bolt.run(["history", "--wide"]);
    assert!(wide.stdout.contains("spiffe://bolt.local/operator  r-") && !wide.stdout.contains("hunter2"), "{wide:?}");
    let actions = |arguments: &[&str]| -> Vec<String> {
        let (code, value) = bolt.json(arguments);
        assert_eq!(code, 0, "{arguments:?}: {value}");
        value["executions"].as_array().unwrap().iter().map(|e| e["action"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(actions(&["ps", "--sort", "action"]), ["probe.fail", "probe.typed"]);
    assert_eq!(actions(&["ps", "--sort", "state", "--reverse"]), ["probe.fail", "probe.typed"]);
    assert_eq!(actions(&["ps", "--since", "1h ago"]).len(), 2);
    assert_eq!(actions(&["ps", "--until", "1h"]).len(), 0);
    assert_eq!(actions(&["ps", "--running-for", "1ms"]).len(), 0);
    ended(&bolt.run(["ps", "--since", "2126-01-01"]), 2, &["in the future"]);
    ended(&bolt.run(["ps", "--since", "1h", "--until", "2h"]), 2, &["is not before --until"]);
}

#[test]
fn a_detached_run_returns_when_all_have_accepted_it() {
    let world = World::empty();
    let (pack, gate) = gated(&world);
    world.publish(&pack);
    let (agents, bolt) = three(&world);
    let steps = bolt.run(["run", "probe.gated", &gate, "--everywhere", "--detach"]);
    ended(&steps, 2, &["this run has 3 steps", "--at-once"]);
    assert_eq!(bolt.json(["ps"]).1["executions"], json!([]), "nothing was started");
    // The action waits at its gate, so that a command that waited for its end would not return.
    let said = bolt.run(["run", "probe.gated", &gate, "--everywhere", "--at-once", "--detach"]);
    ended(&said, 0, &["bolt logs -f --run r-", "bolt wait --run r-"]);
    assert!(said.stdout.ends_with(": accepted by 3 of 3 instances\n"), "{said:?}");
    let run = said.stdout.strip_prefix("run ").and_then(|rest| rest.split(':').next()).unwrap().to_owned();
    open(&gate);
    ended(&bolt.run(["wait", &run, "--on", "i-1,i-2"]), 0, &[]);
    let [_first, _second, third] = agents;
    drop(third);
    let (code, some) = bolt.json(["run", "probe.gated", &gate, "--everywhere", "--at-once", "--detach"]);
    let counts = (some["executions"].as_array().unwrap().len(), some["failed"].as_array().unwrap().len());
    assert_eq!((code, counts), (1, (2, 1)), "{some}");
    let none = bolt.run(["run", "probe.gated", &gate, "--on", "i-3", "--detach"]);
    ended(&none, 3, &["connection refused"]);
}
