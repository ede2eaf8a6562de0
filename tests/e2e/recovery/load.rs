//! Too much of something: queues, rates, connections, readers that do not read.

use std::fs;

use bolt_tests::http::{Call, Held};
use bolt_tests::{PackSource, World, spec};
use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Code;
use serde_json::json;

use super::{Ledger, while_down};
use crate::calls::refused;
use crate::restarts::child;

#[tokio::test]
async fn a_group_that_queues_runs_one_after_the_other_in_order() {
    let world = World::empty();
    let ledger = Ledger::new(&world);
    world.publish(&ledger.pack());
    let agent = world.agent();
    let operator = world.operator(&agent);
    let mut asked = Vec::new();
    for _ in 0..4 {
        asked.push(operator.start("probe.paired", json!({})).await);
    }
    let mut expected = Vec::new();
    for execution in &asked {
        assert_eq!(operator.wait(execution).await.state, State::Succeeded);
        expected.extend(["begin", "end"].map(|what| format!("{what} {}", execution.id)));
    }
    assert_eq!(ledger.lines(), expected);
}

#[tokio::test]
async fn a_rate_is_kept_also_across_a_restart() {
    let world = World::empty();
    let ledger = Ledger::new(&world);
    world.publish(&ledger.pack());
    let mut agent = world.agent();
    let operator = world.operator(&agent);
    for _ in 0..2 {
        operator.run("probe.rated", json!({})).await;
    }
    for _ in 0..2 {
        let answer = operator.submit("probe.rated", json!({})).await;
        refused(&answer, Code::RateExceeded, "probe.rated");
        let after: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=3600).contains(&after), "{after}");
        while_down(&mut agent, |_| {});
    }
    assert_eq!(ledger.lines().len(), 2);
    assert_eq!(operator.run("probe.hello", json!({})).await.state, State::Succeeded);
}

/// Resident memory in kilobytes.
fn resident(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn readers_that_do_not_read_neither_stop_nor_swell_the_agent() {
    let world = World::empty();
    let yaml = "bolt: {class: diagnostic, output: {max: 64MiB}}";
    let script = "#!/bin/sh\nyes 0123456789abcdef0123456789abcdef | head -c 32000000\n";
    world.publish(&PackSource::probe().action("flood", yaml, script));
    let agent = world.agent();
    let operator = world.operator(&agent);
    let api = child(agent.launcher_pid().unwrap(), "api").unwrap();
    let flood = operator.start("probe.flood", json!({})).await;
    let operator_of = world.site.operator();
    let mut held = Vec::new();
    for kind in ["output", "stdout", "output", "stdout", "output", "stdout"] {
        let path = format!("/v1/executions/{}/{kind}?follow=true", flood.id);
        let mut one = Held::open(agent.address(), &operator_of, Some(&path)).await.unwrap();
        assert_eq!(one.first_byte().await.unwrap(), b'H');
        held.push(one);
    }
    assert_eq!(operator.wait(&flood).await.state, State::Succeeded);
    for _ in 0..3 {
        assert_eq!(operator.run("probe.hello", json!({})).await.state, State::Succeeded);
    }
    let kilobytes = resident(api);
    assert!(kilobytes < 64 << 10, "the api holds {kilobytes} kB");
    drop(held);
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_and_harm_nobody() {
    let world = World::with_probe();
    let agent = world.start(&spec("i-1").set("api", "max_connections", 3));
    let operator = world.operator(&agent);
    let operator_of = world.site.operator();
    let running = operator.start("probe.sleep", json!({"seconds": 2})).await;
    world.operator(&agent).wait_for_output(&running).await;
    let follow = format!("/v1/executions/{}/stdout?follow=true", running.id);
    let mut held = Vec::new();
    for path in [None, None, Some(follow.as_str())] {
        held.push(Held::open(agent.address(), &operator_of, path).await.unwrap());
    }
    assert_eq!(held[2].first_byte().await.unwrap(), b'H');
    // All places are taken: what comes now is not let in, and not refused either, while those inside go on: here to the
    // end of what one of them follows.
    let mut waiting = Box::pin(operator.send(Call::get("/v1/info")));
    let followed = tokio::select! {
        answer = &mut waiting => panic!("a fourth connection was served: {answer:?}"),
        followed = held[2].to_end() => followed,
    };
    followed.unwrap();
    drop(held.remove(0));
    assert_eq!(waiting.await.status, 200);
    assert_eq!(operator.run("probe.hello", json!({})).await.state, State::Succeeded);
}
