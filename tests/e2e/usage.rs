//! Resource usage of an execution, while it runs and afterwards, in its record and in the metrics.

use bolt_tests::http::Call;
use bolt_tests::{PackSource, World, limits_available, skip};
use packs_schema::agent::execution::{State, Usage};
use packs_schema::agent::rest::{Execution, Info};
use serde_json::json;

use crate::calls::until;

/// The value of a sample.
fn sample(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[tokio::test]
async fn usage_is_told_while_it_runs_and_counted_when_it_has_ended() {
    const TEST: &str = "usage_is_told_while_it_runs_and_counted_when_it_has_ended";
    if !limits_available() {
        return skip(TEST, "there is no cgroup to count in");
    }
    let world = World::empty();
    let yaml = "bolt: {class: diagnostic, grace: 100ms}";
    world.publish(&PackSource::probe().action("spin", yaml, "#!/bin/sh\necho begun\nwhile :; do :; done\n"));
    let agent = world.agent();
    let operator = world.operator(&agent);
    let info: Info = operator.send(Call::get("/v1/info")).await.json();
    let total = info.enforcement.total;
    assert!(total.memory_bytes > Some(0) && total.cpu.is_some() && total.pids == Some(2048), "{total:?}");

    let execution = operator.start("probe.spin", json!({})).await;
    operator.wait_for_output(&execution).await;
    let path = format!("/v1/executions/{}", execution.id);
    let usage = async || operator.send(Call::get(&path)).await.json::<Execution>().usage.unwrap_or_default();
    let metrics = async || operator.send(Call::get("/v1/metrics")).await.text();
    until("processor time", async || usage().await.user_us > 100_000).await;
    let Usage { memory_bytes, peak_memory_bytes, .. } = usage().await;
    assert!(memory_bytes > Some(0) && peak_memory_bytes >= memory_bytes, "{memory_bytes:?} {peak_memory_bytes:?}");
    let text = metrics().await;
    let running = "bolt_running_cpu_seconds{pack=\"probe\",action=\"probe.spin\",mode=\"user\"}";
    assert!(sample(&text, running) > Some(0.1), "{text}");
    assert!(sample(&text, "bolt_running_memory_bytes{pack=\"probe\",action=\"probe.spin\"}") > Some(0.0), "{text}");

    assert!(operator.send(Call::post(&format!("{path}/kill"), Vec::new())).await.status.is_success());
    let end = operator.wait(&execution).await;
    let used = end.usage.unwrap();
    assert_eq!((end.state, used.memory_bytes), (State::Killed, None));
    assert!(used.user_us > 100_000 && used.read_bytes.is_some(), "{used:?}");
    let text = metrics().await;
    assert_eq!(sample(&text, running), None, "a gauge is of what runs");
    let seconds = |us: u64| us as f64 / 1e6;
    let counted = "bolt_executions_cpu_seconds_total{pack=\"probe\",action=\"probe.spin\",mode=\"user\"}";
    assert_eq!(sample(&text, counted), Some(seconds(used.user_us)), "{text}");
    assert_eq!(
        sample(&text, "bolt_executions_output_bytes_total{pack=\"probe\",action=\"probe.spin\"}"),
        Some(6.0),
        "{text}"
    );
}
