//! An execution and its output in the answer to one request: `POST /v1/executions?wait=…&output=…`.

use std::collections::BTreeMap;

use bolt_client::connection::start_bytes;
use bolt_tests::http::{Call, send};
use bolt_tests::{Operator, PackSource, Random, World, spec};
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::{Code, Execution, MAX_OUTPUT, Page};
use serde_json::{Value, json};

use crate::calls::{caller, refused, run};

/// Writes the given number of bytes of a kind to each stream, in turns.
const WRITER: &str = r"#!/usr/bin/python3
import json, sys
given = json.load(sys.stdin)
kinds = {'text': b'a line of text\n', 'wide': 'é\u2026\U0001f600'.encode(), 'bytes': b'\x00\xff\x1b[2J', 'nul': b'\x00'}
left = {name: (kinds[given['kind']] * given[name])[:given[name]] for name in ('stdout', 'stderr')}
while any(left.values()):
    for name, bytes in left.items():
        stream = getattr(sys, name).buffer
        stream.write(bytes[:9000])
        stream.flush()
        left[name] = bytes[9000:]
";

fn writer() -> PackSource {
    let count = "{type: integer, default: 0}";
    let yaml = format!(
        "parameters: {{kind: {{type: string, default: text}}, stdout: {count}, stderr: {count}}}\n\
         bolt: {{class: diagnostic, output: {{max: 256KiB}}}}"
    );
    PackSource::probe().action("write", &yaml, WRITER)
}

/// Asserts that an answer holds the first `limit` bytes of what the routes of the output return.
async fn check(operator: &Operator, ended: &Execution, limit: usize) {
    let output = ended.output.as_ref().unwrap_or_else(|| panic!("{ended:?}"));
    for (name, start) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        let whole = operator.send(Call::get(&format!("/v1/executions/{}/{name}", ended.id))).await.body;
        let got = start_bytes(start).unwrap();
        assert_eq!(start.truncated, whole.len() > limit, "{name} of {} bytes, limit {limit}", whole.len());
        assert!(whole.starts_with(&got), "{name} of {} bytes, limit {limit}", whole.len());
        // Of a character that the limit cuts in two, nothing is returned.
        let least = if start.text.is_some() { limit.saturating_sub(3) } else { limit };
        assert!(got.len() >= least.min(whole.len()) && got.len() <= limit, "{} bytes, limit {limit}", got.len());
    }
}

#[tokio::test]
async fn the_answer_holds_the_first_bytes_that_the_output_routes_return() {
    let world = World::empty();
    world.publish(&writer());
    let agent = world.agent();
    let operator = world.operator(&agent);
    let seed = std::env::var("BOLT_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(11);
    let mut random = Random::new(seed);
    for round in 0..24_u64 {
        let mut size = || *random.one_of(&[0, 1, 17, 4_096, 65_535, 65_536, 65_537, 150_000, 400_000]);
        let (stdout, stderr) = (size(), size());
        let limit = *random.one_of(&[1, 5, 4_096, 65_535, MAX_OUTPUT]);
        let kind = *random.one_of(&["text", "wide", "bytes", "nul"]);
        let body = run("probe.write", json!({ "kind": kind, "stdout": stdout, "stderr": stderr }));
        let key = format!("seed-{seed}-{round}");
        let path = format!("/v1/executions?wait=30s&output={limit}");
        let start = || Call::post(&path, body.clone()).header("idempotency-key", &key);
        let answer = operator.send(start()).await;
        let ended: Execution = answer.json();
        assert_eq!((answer.status.as_u16(), ended.state), (200, State::Succeeded), "{ended:?}");
        check(&operator, &ended, limit).await;
        // A repeated start, and a request for the execution, answer the same.
        let again = operator.send(start()).await;
        assert_eq!(again.headers["idempotency-replayed"], "true");
        assert_eq!(again.json::<Execution>(), ended, "seed {seed}, round {round}");
        let get = Call::get(&format!("/v1/executions/{}?wait=1s&output={limit}", ended.id));
        assert_eq!(operator.send(get).await.json::<Execution>(), ended);
    }
    let plain: Execution =
        operator.send(Call::post("/v1/executions?wait=30s", run("probe.hello", json!({})))).await.json();
    assert_eq!((plain.state, plain.output, plain.output_error), (State::Succeeded, None, None));
}

#[tokio::test]
async fn an_execution_that_has_not_ended_comes_without_output() {
    let world = World::with_probe();
    let agent = world.agent();
    let operator = world.operator(&agent);
    let body = run("probe.sleep", json!({ "seconds": 600 }));
    let answer = operator.send(Call::post("/v1/executions?wait=100ms&output=100", body)).await;
    let running: Execution = answer.json();
    assert_eq!((answer.status.as_u16(), &running.output, running.output_error), (202, &None, None), "{running:?}");
    operator.wait_for_output(&running).await;
    let waiting = Call::get(&format!("/v1/executions/{}?wait=60s&output=100", running.id));
    let (answer, ()) = tokio::join!(operator.send(waiting), async {
        operator.send(Call::post(&format!("/v1/executions/{}/kill", running.id), "")).await;
    });
    let killed: Execution = answer.json();
    assert_eq!(killed.state, State::Killed);
    assert_eq!(killed.output.unwrap().stdout.text.as_deref(), Some("sleeping\n"));
}

#[tokio::test]
async fn a_caller_without_the_verb_read_gets_no_output_of_what_it_starts() {
    let world = World::with_probe();
    let (runner, reader) = (caller(&world, "runner"), caller(&world, "reader"));
    let grant = |name: &str, verbs: &str| {
        format!("[[grant]]\nprincipal = \"spiffe://bolt.local/{name}\"\nverbs = {verbs}\nactions = [\"probe.hello\"]\n")
    };
    let mut spec = spec("i-1");
    spec.grants = Some(grant("runner", "[\"run\"]") + &grant("reader", "[\"run\", \"read\"]"));
    let agent = world.start(&spec);
    for (who, output, error) in [(&runner, None, Some(Code::Forbidden)), (&reader, Some("hello from i-1\n"), None)] {
        let call = Call::post("/v1/executions?wait=30s&output=100", run("probe.hello", json!({})));
        let answer = send(agent.address(), Some(who), call).await.unwrap();
        let ended: Execution = answer.json();
        assert_eq!((answer.status.as_u16(), ended.state), (200, State::Succeeded), "{ended:?}");
        let stdout = ended.output.and_then(|output| output.stdout.text);
        assert_eq!((stdout.as_deref(), ended.output_error), (output, error));
        // The routes of the output say the same.
        let stdout = Call::get(&format!("/v1/executions/{}/stdout", ended.id));
        let read = send(agent.address(), Some(who), stdout).await.unwrap();
        assert_eq!(read.status.as_u16(), if error.is_some() { 403 } else { 200 });
    }
}

#[tokio::test]
async fn an_action_of_another_class_than_the_caller_named_is_not_started() {
    let world = World::with_probe();
    let agent = world.agent();
    let operator = world.operator(&agent);
    let start = |class: &str, action: &str| {
        Call::post(&format!("/v1/executions?wait=30s&class={class}"), run(action, json!({})))
    };
    refused(&operator.send(start("diagnostic", "probe.repair")).await, Code::ClassMismatch, "remediation");
    refused(&operator.send(start("maintenance", "probe.hello")).await, Code::ClassMismatch, "diagnostic");
    let listed: Page<Value> = operator.send(Call::get("/v1/executions")).await.json();
    assert_eq!(listed.items, [Value::Null; 0]);
    let ended: Execution = operator.send(start("remediation", "probe.repair")).await.json();
    assert_eq!(ended.state, State::Succeeded);
    refused(&operator.send(start("harmless", "probe.hello")).await, Code::BadRequest, "class");
    for output in ["0", "65537", "-1", "all"] {
        let call = Call::post(&format!("/v1/executions?output={output}"), run("probe.hello", json!({})));
        refused(&operator.send(call).await, Code::BadRequest, "output");
    }
    let listed: Page<Value> = operator.send(Call::get("/v1/executions")).await.json();
    assert_eq!(listed.items.len(), 1);
}

#[tokio::test]
async fn a_run_costs_one_request_on_each_instance() {
    let world = World::with_probe();
    let agents = ["i-1", "i-2", "i-3"].map(|id| world.start(&spec(id)));
    let bolt = world.bolt(&agents.each_ref());
    let run = || {
        let (code, said) = bolt.json(["run", "probe.hello", "--everywhere", "--at-once"]);
        assert_eq!(code, 0, "{said}");
        said
    };
    // Learns the definition.
    run();
    let mut before = Vec::new();
    for agent in &agents {
        before.push(requests(&world.operator(agent)).await);
    }
    let said = run();
    for (agent, before) in agents.iter().zip(before) {
        let mut now = requests(&world.operator(agent)).await;
        now.retain(|route, count| {
            *count -= before.get(route).copied().unwrap_or(0);
            *count > 0
        });
        assert_eq!(now, BTreeMap::from([("/v1/executions".to_owned(), 1)]));
        assert!(said.to_string().contains(&format!("hello from {}", agent.facts().id)), "{said}");
    }
}

/// Number of requests that an agent has answered, by route; without those for its metrics.
async fn requests(operator: &Operator) -> BTreeMap<String, u64> {
    let metrics = operator.send(Call::get("/v1/metrics")).await.text();
    let mut requests = BTreeMap::new();
    for line in metrics.lines().filter_map(|line| line.strip_prefix("bolt_http_requests_total{")) {
        let (labels, count) = line.split_once("} ").unwrap();
        let route = labels.split('"').nth(1).unwrap();
        if route != "/v1/metrics" {
            *requests.entry(route.to_owned()).or_insert(0) += count.parse::<u64>().unwrap();
        }
    }
    requests
}
