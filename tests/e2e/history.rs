//! Archived outputs read like live ones, and a pruned output is reported as gone.

use std::fs;
use std::io::Read as _;
use std::path::PathBuf;

use bolt_client::local::LocalAgent;
use bolt_tests::http::{Answer, Call};
use bolt_tests::{Operator, PackSource, World, spec};
use packs_schema::agent::rest::{Code, Execution};
use serde_json::json;

use crate::calls::{refused, until};

/// Writes to both streams, a little, or more than compresses into the database.
fn pack() -> PackSource {
    let talk =
        "#!/bin/sh\nfor i in 1 2 3; do echo out $i; echo err $i >&2; sleep 0.02; done\nprintf 'no line \\377\\000'\n";
    let noise = "#!/bin/sh\necho begin >&2\nhead -c 60000 /dev/urandom\necho end >&2\n";
    let flood = "#!/bin/sh\nhead -c 3000000 /dev/urandom\n";
    PackSource::probe()
        .action("talk", "bolt: {class: diagnostic}", talk)
        .action("noise", "bolt: {class: diagnostic}", noise)
        .action("flood", "bolt: {class: diagnostic, output: {max: 1MiB}}", flood)
        .action("mute", "bolt: {class: diagnostic}", "#!/bin/sh\n:\n")
}

fn directory(agent: &LocalAgent, execution: &Execution) -> PathBuf {
    agent.state().join("exec").join(execution.id.as_str())
}

/// Every way to read an output, but for compressed.
async fn read(operator: &Operator, execution: &Execution) -> Vec<(String, Answer)> {
    let mut answers = Vec::new();
    for (path, range) in [
        ("output", None),
        ("output?follow=true", None),
        ("output?stdout_from=3&stderr_from=7", None),
        ("stdout", None),
        ("stderr", None),
        ("stdout?follow=true&offset=5", None),
        ("stdout", Some("bytes=2-9")),
        ("stdout", Some("bytes=-6")),
        ("stderr", Some("bytes=99999999-")),
    ] {
        let mut call = Call::get(&format!("/v1/executions/{}/{path}", execution.id));
        if let Some(range) = range {
            call = call.header("range", range).header("accept-encoding", "gzip");
        }
        answers.push((format!("{path} {range:?}"), operator.send(call).await));
    }
    answers
}

/// A body without where its pieces begin: the bytes of each stream with their times for lines of JSON.
fn content(path: &str, answer: &Answer) -> Vec<u8> {
    if path.starts_with("output") || !answer.status.is_success() {
        return answer.text().lines().filter(|line| !line.contains("request_id")).collect::<String>().into_bytes();
    }
    answer.body.to_vec()
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.get(name).and_then(|value| value.to_str().ok())
}

async fn stdout_as(operator: &Operator, execution: &Execution, accepts: &str) -> Answer {
    let call = Call::get(&format!("/v1/executions/{}/stdout", execution.id)).header("accept-encoding", accepts);
    operator.send(call).await
}

#[tokio::test]
async fn an_archived_output_reads_as_before_and_is_handed_out_as_it_is_stored() {
    let world = World::empty();
    world.publish(&pack());
    // Archived as soon as the budget is checked; nothing is evicted, because only large outputs are left.
    let agent = world.start(&spec("i-1").set("history", "max_files", 20));
    let operator = world.operator(&agent);
    let mut executions = Vec::new();
    for action in ["probe.talk", "probe.noise", "probe.flood", "probe.mute"] {
        executions.push(operator.run(action, json!({})).await);
    }
    let mut before = Vec::new();
    for execution in &executions {
        before.push(read(&operator, execution).await);
    }
    let plain = stdout_as(&operator, &executions[0], "gzip").await;
    assert_eq!((header(&plain, "content-encoding"), header(&plain, "vary")), (None, Some("accept-encoding")));
    // A few more, so that there are too many files.
    for _ in 0..2 {
        operator.run("probe.mute", json!({})).await;
    }
    until("the archive", async || !directory(&agent, &executions[0]).exists()).await;
    until("the files", async || {
        [1, 2].iter().all(|i| fs::read_dir(directory(&agent, &executions[*i])).unwrap().count() == 3)
    })
    .await;
    until("the silent one's end in the database", async || !directory(&agent, &executions[3]).exists()).await;
    for (execution, before) in executions.iter().zip(before) {
        let after = read(&operator, execution).await;
        for ((path, one), (_, other)) in before.iter().zip(&after) {
            assert_eq!(one.status, other.status, "{path}");
            assert!(content(path, one) == content(path, other), "{} {path}", execution.action);
            for name in ["content-length", "content-range", "bolt-dropped-bytes", "content-encoding"] {
                let (one, other) = (header(one, name), header(other, name));
                assert!(one == other || path.starts_with("stderr Some"), "{path} {name}: {one:?} {other:?}");
            }
        }
    }
    // Sent compressed to callers that accept it, if the output is complete.
    for execution in [&executions[0], &executions[1]] {
        let whole = stdout_as(&operator, execution, "identity").await;
        assert_eq!(header(&whole, "content-encoding"), None);
        let stored = stdout_as(&operator, execution, "br, gzip;q=0.8").await;
        assert_eq!(header(&stored, "content-encoding"), Some("gzip"), "{:?}", stored.headers);
        assert_eq!(header(&stored, "content-length"), Some(&*stored.body.len().to_string()));
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(&stored.body[..]).read_to_end(&mut bytes).unwrap();
        assert!(bytes == whole.body);
    }
    let flood = stdout_as(&operator, &executions[2], "gzip").await;
    assert_eq!(header(&flood, "content-encoding"), None);
    assert!(header(&flood, "bolt-dropped-bytes").unwrap().parse::<u64>().unwrap() > 1_000_000);
    let metrics = operator.send(Call::get("/v1/metrics")).await.text();
    let archived = metrics.lines().find_map(|line| line.strip_prefix("bolt_history_archived_total ")).unwrap();
    assert!(archived.parse::<u64>().unwrap() >= 4, "{metrics}");
}

#[tokio::test]
async fn an_output_over_the_budget_goes_and_its_execution_says_so() {
    let world = World::empty();
    world.publish(&pack());
    // Room for two archives of four files each.
    let agent = world.start(&spec("i-1").set("history", "max_files", 9));
    let operator = world.operator(&agent);
    let oldest = operator.run("probe.noise", json!({})).await;
    for _ in 0..3 {
        operator.run("probe.noise", json!({})).await;
    }
    until("its end", async || !directory(&agent, &oldest).exists()).await;
    for path in ["output", "stdout", "stderr?follow=true"] {
        let call = Call::get(&format!("/v1/executions/{}/{path}", oldest.id));
        refused(&operator.send(call).await, Code::OutputGone, "history");
    }
    let shown: Execution = operator.send(Call::get(&format!("/v1/executions/{}", oldest.id))).await.json();
    assert_eq!(shown, oldest);
}
