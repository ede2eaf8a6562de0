//! Output: any bytes, whole, in order, to as many as want it, from where they want it.

use std::time::Duration;

use bolt_client::connection::{Agent, OutputFrom, chunk_bytes};
use bolt_tests::http::Call;
use bolt_tests::{Operator, PackSource, World};
use packs_schema::agent::execution::State;
use packs_schema::agent::execution::output::Stream;
use packs_schema::agent::rest::{Execution, OutputChunk};
use packs_schema::base::name::ExecutionId;
use serde_json::json;

/// Every byte, text that is no UTF-8, what a terminal would obey, and no end of line.
const HOSTILE: &str = r"#!/usr/bin/python3
import sys
out = sys.stdout.buffer
out.write(bytes(range(256)) * 3)
out.write(b'\xff\xfe\x80 \xc3( \xed\xa0\x80 \x1b[2J\x1b]0;owned\x07\r\x08\x00 end without a line')
sys.stderr.buffer.write(b'\x00\xff' * 5)
";

fn hostile() -> Vec<u8> {
    let mut bytes = (0..=255).collect::<Vec<u8>>().repeat(3);
    bytes.extend(b"\xff\xfe\x80 \xc3( \xed\xa0\x80 \x1b[2J\x1b]0;owned\x07\r\x08\x00 end without a line");
    bytes
}

async fn lines(operator: &Operator, path: &str) -> Vec<OutputChunk> {
    let text = operator.send(Call::get(path)).await.text();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The bytes of one stream, and a check that each chunk begins where the one before ended.
fn joined(chunks: &[OutputChunk], stream: Stream) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in chunks.iter().filter(|chunk| chunk.stream == stream) {
        assert_eq!(chunk.offset, bytes.len() as u64, "{chunk:?}");
        bytes.extend(chunk_bytes(chunk).unwrap());
    }
    bytes
}

#[tokio::test]
async fn any_bytes_come_back_as_they_were_written() {
    let world = World::empty();
    world.publish(&PackSource::probe().action("hostile", "bolt: {class: diagnostic}", HOSTILE));
    let agent = world.agent();
    let operator = world.operator(&agent);
    let end = operator.run("probe.hostile", json!({})).await;
    assert_eq!(end.state, State::Succeeded, "{end:?}");
    let path = |kind: &str| format!("/v1/executions/{}/{kind}", end.id);
    assert_eq!(operator.send(Call::get(&path("stdout"))).await.body, hostile());
    assert_eq!(operator.send(Call::get(&path("stderr"))).await.body, b"\x00\xff".repeat(5));
    let chunks = lines(&operator, &path("output")).await;
    assert_eq!(joined(&chunks, Stream::Stdout), hostile());
    assert_eq!(joined(&chunks, Stream::Stderr), b"\x00\xff".repeat(5));
}

#[tokio::test]
async fn a_line_of_a_gigabyte_is_drained_and_both_its_ends_are_kept() {
    const LENGTH: u64 = 1 << 30;
    const KEPT: usize = 1 << 20;
    let world = World::empty();
    let yaml = "bolt: {class: diagnostic, timeout: 5m, output: {max: 1MiB}}";
    let script = format!("#!/bin/sh\nprintf begin\nhead -c {} /dev/zero\nprintf end\n", LENGTH - 8);
    world.publish(&PackSource::probe().action("endless", yaml, &script));
    let agent = world.agent();
    let operator = world.operator(&agent);
    let end = operator.run("probe.endless", json!({})).await;
    let totals = end.stdout.unwrap();
    assert_eq!((end.state, totals.written_bytes), (State::Succeeded, LENGTH), "{end:?}");
    let kept = usize::try_from(totals.written_bytes - totals.dropped_bytes).unwrap();
    assert!((KEPT - 64..=KEPT + (256 << 10)).contains(&kept), "{kept} bytes are kept");
    let path = format!("/v1/executions/{}/stdout", end.id);
    let answer = operator.send(Call::get(&path)).await;
    assert_eq!(answer.headers["bolt-dropped-bytes"], totals.dropped_bytes.to_string().as_str());
    let mark = format!("\n[bolt: {} bytes dropped]\n", totals.dropped_bytes);
    assert!(answer.body.starts_with(b"begin\0\0") && answer.body.ends_with(b"\0\0end"));
    assert!(answer.body.windows(mark.len()).any(|part| part == mark.as_bytes()));
    assert_eq!(answer.body.len(), kept + mark.len());
}

#[tokio::test]
async fn both_streams_keep_their_order_and_their_times() {
    let world = World::empty();
    // Alternates, and waits each time until the shim has surely read it: it is alone in the pipe.
    let script = "#!/bin/sh\nfor n in 0 1 2 3 4 5 6 7; do echo out $n; sleep 0.05; echo err $n >&2; sleep 0.05; done\n";
    world.publish(&PackSource::probe().action("turns", "bolt: {class: diagnostic}", script));
    let agent = world.agent();
    let operator = world.operator(&agent);
    let end = operator.run("probe.turns", json!({})).await;
    let chunks = lines(&operator, &format!("/v1/executions/{}/output", end.id)).await;
    let told: Vec<String> = chunks.iter().map(|chunk| chunk.text.clone().unwrap()).collect();
    let expected: Vec<String> = (0..8).flat_map(|n| [format!("out {n}\n"), format!("err {n}\n")]).collect();
    assert_eq!(told, expected);
    assert!(chunks.windows(2).all(|pair| pair[0].at_us <= pair[1].at_us), "{chunks:?}");
    let (first, last) = (chunks[0].at_us / 1000, chunks[15].at_us / 1000);
    assert!(first >= end.started_at_ms.unwrap() && last <= end.ended_at_ms.unwrap(), "{end:?} {chunks:?}");
}

#[tokio::test]
async fn many_followers_read_the_same_and_go_on_where_they_broke_off() {
    const FOLLOWERS: u64 = 24;
    const LINES: u64 = 400;
    let world = World::empty();
    let script = format!(
        "#!/bin/sh\nn=0\nwhile [ $n -lt {LINES} ]; do echo \"line $n\"; n=$((n+1)); [ $((n % 20)) -ne 0 ] || sleep 0.05; done\n"
    );
    world.publish(&PackSource::probe().action("tell", "bolt: {class: diagnostic}", &script));
    let agent = world.agent();
    let operator = world.operator(&agent);
    let running = operator.start("probe.tell", json!({})).await;
    let expected: String = (0..LINES).map(|n| format!("line {n}\n")).collect();
    let followers: Vec<_> = (0..FOLLOWERS)
        .map(|number| {
            let (client, id) = (world.client(&agent), running.id.clone());
            // Every third hangs up after a number of bytes of its own, and comes back with the offset.
            let breaks_at = (number % 3 == 0).then_some(number * 40);
            tokio::spawn(async move { followed(&client, &id, breaks_at).await })
        })
        .collect();
    for follower in followers {
        let told = tokio::time::timeout(Duration::from_secs(60), follower).await.unwrap().unwrap();
        assert_eq!(told, expected);
    }
    let end: Execution = operator.wait(&running).await;
    assert_eq!(end.stdout.unwrap().written_bytes, expected.len() as u64);
}

async fn followed(client: &Agent, id: &ExecutionId, mut breaks_at: Option<u64>) -> String {
    let mut told = String::new();
    loop {
        let from = OutputFrom { stdout: told.len() as u64, stderr: 0 };
        let mut lines = client.output(id, from, true).await.unwrap();
        loop {
            match lines.next().await {
                Some(chunk) => told += chunk.unwrap().text.as_deref().unwrap(),
                None => return told,
            }
            if breaks_at.take_if(|at| told.len() as u64 >= *at).is_some() {
                break;
            }
        }
    }
}
