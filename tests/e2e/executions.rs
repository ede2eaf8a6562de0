//! The life of an execution: a signed pack, an agent, a start, and each way to end.

use std::os::unix::fs::PermissionsExt as _;

use bolt_tests::http::{Call, send};
use bolt_tests::process::{api_of, assert_confined, niceness};
use bolt_tests::{PackSource, World, is_root, skip, spec};
use packs_schema::agent::execution::State;
use packs_schema::agent::execution::output::Stream;
use packs_schema::agent::rest::{ActionView, Code, Execution, Info, OutputChunk, Page, StateChange};
use serde_json::json;

use crate::calls::{refused, run, until};

#[tokio::test]
async fn a_run_from_a_signed_pack_to_its_record() {
    let world = World::with_probe();
    let agent = world.agent();
    let operator = world.operator(&agent);
    let call = Call::post("/v1/executions?wait=30s", run("probe.hello", json!({})));
    let answer = operator.send(call).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let execution: Execution = answer.json();
    assert_eq!((execution.state, execution.exit_status), (State::Succeeded, Some(0)), "{execution:?}");
    assert_eq!(execution.principal.as_str(), "spiffe://bolt.local/operator");
    assert!(
        execution.started_at_ms >= Some(execution.created_at_ms) && execution.ended_at_ms >= execution.started_at_ms
    );
    assert_eq!(operator.stdout(&execution).await, "hello from i-1\n");
    let output = operator.send(Call::get(&format!("/v1/executions/{}/output", execution.id))).await.text();
    let chunks: Vec<OutputChunk> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let text = |stream| chunks.iter().filter(|c| c.stream == stream).filter_map(|c| c.text.clone()).collect::<String>();
    assert_eq!((text(Stream::Stdout).as_str(), text(Stream::Stderr).as_str()), ("hello from i-1\n", "to stderr\n"));
}

#[tokio::test]
async fn parameters_reach_the_script_in_three_ways() {
    let world = World::with_probe();
    let agent = world.agent();
    let operator = world.operator(&agent);
    let parameters = json!({"name": "abc", "token": "hunter2", "servers": [{"port": 1}]});
    let execution = operator.run("probe.typed", parameters).await;
    assert_eq!(execution.state, State::Succeeded, "{execution:?}");
    let said = operator.stdout(&execution).await;
    let mut lines = said.lines();
    let stdin: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
    let wanted = json!({"count": 3, "fixed": "mine", "name": "abc", "servers": [{"port": 1}], "token": "hunter2"});
    assert_eq!(stdin, wanted);
    let arguments = lines.next().unwrap();
    assert!(
        arguments.starts_with("args: abc --count=3 --fixed=mine --servers=") && !arguments.contains("hunter2"),
        "{arguments}"
    );
    let environment: Vec<&str> = lines.collect();
    assert!(
        environment.contains(&"BOLT_PARAM_COUNT=3") && !environment.iter().any(|l| l.contains("hunter2")),
        "{environment:?}"
    );
}

#[tokio::test]
async fn a_failure_is_a_result() {
    let world = World::with_probe();
    let agent = world.agent();
    let operator = world.operator(&agent);
    let execution = operator.run("probe.fail", json!({})).await;
    assert_eq!((execution.state, execution.exit_status), (State::Failed, Some(7)), "{execution:?}");
    assert_eq!(operator.stdout(&execution).await, "about to fail\n");
}

#[tokio::test]
async fn a_time_out() {
    let world = World::with_probe();
    let agent = world.agent();
    let operator = world.operator(&agent);
    let body = json!({"action": "probe.sleep", "timeout_ms": 300}).to_string();
    let answer = operator.send(Call::post("/v1/executions?wait=30s", body)).await;
    let execution: Execution = answer.json();
    assert_eq!(execution.state, State::TimedOut, "{execution:?}");
    assert_eq!(execution.leftovers.clone().unwrap().after_subreaper, 0);
    // A caller may shorten, not lengthen.
    let body = json!({"action": "probe.sleep", "timeout_ms": 86_400_000}).to_string();
    refused(&operator.send(Call::post("/v1/executions", body)).await, Code::InvalidParameters, "timeout");
}

/// Ways of an action to hide from its end. Each writes the id of a process that must not survive.
const ESCAPES: [(&str, &str); 4] = [
    ("ignores_term", "trap '' TERM; echo $$; while :; do sleep 1; done"),
    ("setsid", "setsid sh -c 'trap \"\" TERM; echo $$; while :; do sleep 1; done' & wait"),
    (
        "double_fork",
        "(setsid sh -c '(trap \"\" TERM HUP; sh -c \"echo \\$\\$; while :; do sleep 1; done\" >&3 2>&3 &)' 3>&1 &) ; sleep 600",
    ),
    ("stopped", "sh -c 'echo $$; kill -STOP $$' & sleep 600"),
];

#[tokio::test]
async fn a_kill_leaves_nothing() {
    let world = World::empty();
    let mut pack = PackSource::new("probe", "1.0.0");
    for (name, script) in ESCAPES {
        pack = pack.action(name, "bolt: {class: diagnostic, grace: 200ms}", &format!("#!/bin/sh\n{script}\n"));
    }
    world.publish(&pack);
    let agent = world.agent();
    let operator = world.operator(&agent);
    for (name, _) in ESCAPES {
        let execution = operator.start(&format!("probe.{name}"), json!({})).await;
        operator.wait_for_output(&execution).await;
        let pid = operator.stdout(&execution).await.trim().parse::<i32>().unwrap();
        assert!(is_alive(pid), "{name}: {pid} is not there");
        let kill = operator.send(Call::post(&format!("/v1/executions/{}/kill", execution.id), "")).await;
        assert_eq!(kill.status, 202, "{}", kill.text());
        let end = operator.wait(&execution).await;
        assert_eq!(end.state, State::Killed, "{name}: {end:?}");
        assert_eq!(end.leftovers.clone().unwrap().after_subreaper, 0, "{name}: {end:?}");
        assert_eq!(end.killed_by.as_ref().map(|p| p.as_str()), Some("spiffe://bolt.local/operator"));
        assert!(!is_alive(pid), "{name}: {pid} survived");
        let again = operator.send(Call::post(&format!("/v1/executions/{}/kill", execution.id), "")).await;
        refused(&again, Code::AlreadyEnded, execution.id.as_str());
    }
}

fn is_alive(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

#[tokio::test]
async fn a_live_log_is_followed_to_its_end() {
    let world = World::empty();
    let script = "#!/bin/sh\necho first\nwhile [ ! -e \"$BOLT_PARAM_GATE\" ]; do sleep 0.05; done\necho last\n";
    let yaml = "parameters: {gate: {type: string, required: true}}\nbolt: {class: diagnostic}";
    world.publish(&PackSource::new("probe", "1.0.0").action("gated", yaml, script));
    let agent = world.agent();
    let operator = world.operator(&agent);
    let gate = world.scratch("gates").join("open");
    let execution = operator.start("probe.gated", json!({"gate": gate.display().to_string()})).await;
    operator.wait_for_output(&execution).await;
    let path = format!("/v1/executions/{}/stdout?follow=true", execution.id);
    let caller = world.site.operator();
    let follow = send(agent.address(), Some(&caller), Call::get(&path));
    let open = async {
        assert_eq!(operator.stdout(&execution).await, "first\n");
        std::fs::write(&gate, "").unwrap();
    };
    let (followed, ()) = tokio::join!(follow, open);
    assert_eq!(followed.unwrap().text(), "first\nlast\n");
}

#[tokio::test]
async fn output_beyond_the_cap_keeps_both_ends() {
    let world = World::empty();
    let yaml = "bolt: {class: diagnostic, output: {max: 256KiB}}";
    let script = "#!/bin/sh\ni=0; awk 'BEGIN { for (i = 0; i < 200000; i++) printf \"line %06d\\n\", i }'\n";
    world.publish(&PackSource::new("probe", "1.0.0").action("flood", yaml, script));
    let agent = world.agent();
    let operator = world.operator(&agent);
    let execution = operator.run("probe.flood", json!({})).await;
    let totals = execution.stdout.unwrap();
    assert_eq!(totals.written_bytes, 200_000 * 12, "{totals:?}");
    assert!(totals.dropped_bytes > 0);
    let answer = operator.send(Call::get(&format!("/v1/executions/{}/stdout", execution.id))).await;
    let said = answer.text();
    assert!(said.starts_with("line 000000\n") && said.ends_with("line 199999\n"));
    assert!(said.contains(&format!("[bolt: {} bytes dropped]", totals.dropped_bytes)));
    let dropped = answer.headers.get("bolt-dropped-bytes").unwrap().to_str().unwrap();
    assert_eq!(dropped, totals.dropped_bytes.to_string());
}

#[tokio::test]
async fn a_structured_result_is_checked() {
    let world = World::empty();
    let yaml = "output_schema: {bytes: {type: integer, required: true}}\nbolt: {class: diagnostic}";
    let pack = PackSource::new("probe", "1.0.0")
        .action("good", yaml, "#!/bin/sh\necho '{\"bytes\": 17}' > \"$BOLT_RESULT\"\n")
        .action("bad", yaml, "#!/bin/sh\necho '{\"bytes\": \"many\"}' > \"$BOLT_RESULT\"\n");
    world.publish(&pack);
    let agent = world.agent();
    let operator = world.operator(&agent);
    let good = operator.run("probe.good", json!({})).await;
    assert_eq!(serde_json::to_value(&good.result).unwrap(), json!({"bytes": 17}), "{good:?}");
    let bad = operator.run("probe.bad", json!({})).await;
    assert!(bad.result.is_none() && bad.result_error.as_ref().unwrap().contains("bytes"), "{bad:?}");
    assert_eq!(bad.state, State::Succeeded);
}

#[tokio::test]
async fn an_action_begins_with_nothing() {
    let world = World::empty();
    let script = "#!/usr/bin/env python3\nimport os, json\nprint(json.dumps({'fds': sorted(int(f) for f in os.listdir('/proc/self/fd')), \
                  'env': sorted(os.environ), 'uid': os.getuid(), 'groups': os.getgroups(), 'nice': os.nice(0), 'umask': os.umask(0), \
                  'nnp': [l.split()[1] for l in open('/proc/self/status') if l.startswith('NoNewPrivs')]}))\n";
    world.publish(&PackSource::new("probe", "1.0.0").action("self", "bolt: {class: diagnostic}", script));
    let agent = world.agent();
    let operator = world.operator(&agent);
    let execution = operator.run("probe.self", json!({})).await;
    let seen: serde_json::Value = serde_json::from_str(&operator.stdout(&execution).await).unwrap();
    // Descriptor 3 is the listing's own, the last that of the result.
    assert_eq!(seen["fds"], json!([0, 1, 2, 3, 59]), "{seen}");
    for name in seen["env"].as_array().unwrap().iter().map(|n| n.as_str().unwrap()) {
        // Python adds LC_CTYPE by itself.
        assert!(name.starts_with("BOLT_") || ["PATH", "HOME", "USER", "LANG", "LC_CTYPE"].contains(&name), "{name}");
    }
    assert_eq!((&seen["umask"], &seen["nnp"]), (&json!(0o077), &json!(["1"])), "{seen}");
    if world.site.accounts().is_some() {
        let uid = u32::try_from(seen["uid"].as_u64().unwrap()).unwrap();
        assert!(packs_schema::agent::config::UidRange::default().contains(uid), "{seen}");
        assert_eq!(seen["groups"], json!([]), "{seen}");
        assert_eq!(seen["nice"], json!((niceness(None) + 1).min(19)));
    } else {
        skip("an_action_begins_with_nothing (account)", "run_as needs root");
        assert!(!execution.unenforced.is_empty(), "what is not enforced is said: {execution:?}");
    }
}

/// Two at once, of one action that names no account: neither the other's environment nor its result is within reach, and
/// health has a note where one account is configured for all.
#[tokio::test]
async fn executions_at_once_have_accounts_of_their_own() {
    const TEST: &str = "executions_at_once_have_accounts_of_their_own";
    let world = World::empty();
    if world.site.accounts().is_none() {
        return skip(TEST, "accounts need root");
    }
    let shared = world.scratch("shared");
    std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o1777)).unwrap();
    // Each waits until both are there, and goes when both have looked.
    let look = "#!/bin/sh\nmeet() { : >\"$1.$$\"; while [ $(ls -d \"$1\".* | wc -l) -lt 2 ]; do sleep 0.02; done; }\n\
        meet \"$1/here\"\nfor file in \"$1\"/here.*; do pid=${file##*.}; [ $pid = $$ ] && continue\n\
        cat /proc/$pid/environ >/dev/null 2>&1 && echo read the environment\n\
        echo '{\"of\": \"another\"}' 2>/dev/null >/proc/$pid/fd/59 && echo forged a result\n\
        kill -0 $pid 2>/dev/null && echo sent a signal\ndone\n\
        echo \"{\\\"of\\\": \\\"$BOLT_EXECUTION_ID\\\", \\\"uid\\\": $(id -u)}\" >\"$BOLT_RESULT\"; meet \"$1/done\"\n";
    let yaml = "parameters: {place: {type: string, position: 0}}\nbolt: {class: diagnostic}";
    world.publish(&PackSource::new("probe", "1.0.0").action("look", yaml, look));
    let agent = world.agent();
    let operator = world.operator(&agent);
    let first = operator.start("probe.look", json!({"place": shared})).await;
    let second = operator.start("probe.look", json!({"place": shared})).await;
    let mut uids = Vec::new();
    for execution in [first, second] {
        let end = operator.wait(&execution).await;
        assert_eq!(end.state, State::Succeeded, "{end:?}");
        assert_eq!(operator.stdout(&end).await, "");
        let result = end.result.unwrap();
        assert_eq!(result["of"], end.id.as_str());
        uids.push(result["uid"].clone());
    }
    assert_ne!(uids[0], uids[1]);
    let health: serde_json::Value = operator.send(Call::get("/v1/health")).await.json();
    assert!(!health.to_string().contains("shared_account"), "{health}");
}

#[tokio::test]
async fn the_catalogue_the_history_and_the_description() {
    let world = World::with_probe();
    let agent = world.agent();
    let operator = world.operator(&agent);
    let actions: Page<ActionView> = operator.send(Call::get("/v1/actions")).await.json();
    assert_eq!(actions.items.len(), 7, "{actions:?}");
    let typed: ActionView = operator.send(Call::get("/v1/actions/probe.typed")).await.json();
    assert_eq!(typed.action.parameters.len(), 5);
    for _ in 0..5 {
        operator.run("probe.hello", json!({})).await;
    }
    operator.run("probe.fail", json!({})).await;
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/executions?action=probe.hello&state=succeeded&limit=2{cursor}");
        let page: Page<Execution> = operator.send(Call::get(&path)).await.json();
        assert!(page.items.len() <= 2);
        seen.extend(page.items.iter().map(|e| e.id.clone()));
        match page.next {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!((seen.len(), distinct.len()), (5, 5));
    let info: Info = operator.send(Call::get("/v1/info")).await.json();
    assert_eq!((info.instance.id.as_str(), info.running), ("i-1", 0));
    let metrics = operator.send(Call::get("/v1/metrics")).await.text();
    assert!(metrics.contains("# TYPE") && metrics.contains("probe.hello"), "{metrics}");
    let openapi: serde_json::Value = operator.send(Call::get("/v1/openapi.json")).await.json();
    assert!(openapi["paths"]["/v1/executions"]["post"].is_object());
    let events = operator.send(Call::get("/v1/events")).await.text();
    assert!(events.lines().count() >= 6, "{events}");
}

#[tokio::test]
async fn a_range_of_the_output() {
    let world = World::with_probe();
    let agent = world.agent();
    let operator = world.operator(&agent);
    let execution = operator.run("probe.hello", json!({})).await;
    let path = format!("/v1/executions/{}/stdout", execution.id);
    let part = operator.send(Call::get(&path).header("range", "bytes=6-9")).await;
    assert_eq!((part.status.as_u16(), part.text().as_str()), (206, "from"));
    let beyond = operator.send(Call::get(&path).header("range", "bytes=900-")).await;
    refused(&beyond, Code::RangeNotSatisfiable, "15 bytes");
}

#[tokio::test]
async fn a_new_version_becomes_active_and_a_running_execution_keeps_its_own() {
    let world = World::with_probe();
    let agent = world.start(&spec("i-1").set("repository", "poll", "1s"));
    let operator = world.operator(&agent);
    let old = operator.start("probe.sleep", json!({})).await;
    operator.wait_for_output(&old).await;
    let newer = PackSource::probe().version("1.1.0").file("actions/hello.sh", "#!/bin/sh\necho newer\n", 0o755);
    world.publish(&newer);
    until("the new version", async || {
        let hello = operator.run("probe.hello", json!({})).await;
        hello.version.to_string() == "1.1.0" && operator.stdout(&hello).await == "newer\n"
    })
    .await;
    let still: Execution = operator.send(Call::get(&format!("/v1/executions/{}", old.id))).await.json();
    assert_eq!((still.state, still.version.to_string()), (State::Running, "1.0.0".to_owned()));
}

#[tokio::test]
async fn the_processes_are_split_as_designed() {
    if !is_root() {
        return skip("the_processes_are_split_as_designed", "accounts of their own need root");
    }
    let world = World::with_probe();
    let agent = world.agent();
    let accounts = world.site.accounts().unwrap();
    let launcher = agent.launcher_pid().unwrap();
    let api = api_of(launcher).expect("the api runs");
    assert_confined(api.cast_signed(), accounts.api);
    let store = std::fs::metadata(agent.directory().join("packs")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&store), accounts.sync);
    assert_eq!(std::fs::metadata(agent.state()).unwrap().permissions().mode() & 0o077, 0);
}

/// A start is written to the history with the end, or a while later; readers of the history must not tell.
#[tokio::test]
async fn what_is_shown_as_running_is_listed_and_in_the_events_at_once() {
    let world = World::with_probe();
    let agent = world.agent();
    let operator = world.operator(&agent);
    for turn in 0..6 {
        // Ended by a kill: a short one could end between two requests.
        let execution = operator.start("probe.sleep", json!({})).await;
        let one = format!("/v1/executions/{}", execution.id);
        until("it to run", async || operator.send(Call::get(&one)).await.json::<Execution>().state == State::Running)
            .await;
        if turn % 2 == 0 {
            let page: Page<Execution> = operator.send(Call::get("/v1/executions?state=running")).await.json();
            assert_eq!(page.items.len(), 1, "{page:?}");
        } else {
            let events = operator.send(Call::get("/v1/events")).await;
            let text = events.text();
            let mut of_it = text.lines().filter(|line| line.contains(execution.id.as_str()));
            assert!(of_it.next_back().unwrap().contains("\"running\""), "{text}");
        }
        operator.send(Call::post(&format!("{one}/kill"), "")).await;
        assert_eq!(operator.wait(&execution).await.state, State::Killed);
    }
    let short = operator.run("probe.hello", json!({})).await;
    let events = operator.send(Call::get("/v1/events")).await;
    let events =
        events.text().lines().map(|line| serde_json::from_str::<StateChange>(line).unwrap()).collect::<Vec<_>>();
    let states: Vec<State> =
        events.iter().filter(|event| event.execution == short.id).map(|event| event.state).collect();
    assert_eq!(states, [State::Queued, State::Running, State::Succeeded]);
}
