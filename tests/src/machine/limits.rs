//! Every limit under cgroup v2, and what a kill and a time-out leave.

use packs_schema::agent::execution::State;
use packs_schema::agent::rest::Execution;
use serde_json::{Value, json};

use super::load::Api;
use super::vm::Vm;

/// Weights in the group of an execution with `io_weight: 1000`: that of the cost model, and that of BFQ, whose range ends at 1000.
const WEIGHTS: &str = "io.weight default 1000, io.bfq.weight default 181";
/// Bytes that it writes past the page cache.
const WRITTEN: u64 = 8 << 20;

/// An action is ended for its memory.
pub(super) async fn out_of_memory(api: &Api, key: &str) -> Result<(), String> {
    let accepted = api.order_until("machine.memory", &json!({}), &format!("memory-{key}")).await?;
    let end = api.wait(accepted.id.as_str()).await?;
    if end.state == State::OutOfMemory && end.unenforced.is_empty() {
        return Ok(());
    }
    Err(format!("150 MB in a limit of 32 MiB: {end:?}"))
}

/// Reaches each limit; returns the weights of block I/O that an execution had.
pub(super) async fn all(api: &Api, vm: &mut Vm) -> Result<String, String> {
    // A scheduler that has weights, beside the cost model that the kernel has.
    vm.ok("modprobe bfq && echo bfq >/sys/block/vda/queue/scheduler && grep -q '\\[bfq\\]' /sys/block/vda/queue/scheduler")?;
    let run = async |action: &str, parameters: Value| -> Result<(Execution, String), String> {
        let accepted = api.order_until(&format!("machine.{action}"), &parameters, &format!("limit-{action}")).await?;
        let end = api.wait(accepted.id.as_str()).await?;
        let output = api.stdout(end.id.as_str()).await?;
        if end.unenforced.is_empty() { Ok((end, output)) } else { Err(format!("not enforced: {:?}", end.unenforced)) }
    };
    out_of_memory(api, "limit").await?;
    let (end, output) = run("cpu", json!({})).await?;
    let throttled = output.lines().find_map(|line| line.strip_prefix("nr_throttled ")?.parse::<u64>().ok());
    if end.state != State::Succeeded || throttled.is_none_or(|count| count == 0) {
        return Err(format!("a loop in a limit of 20 %: {} {output}", end.state));
    }
    let (end, output) = run("pids", json!({})).await?;
    if end.state != State::Failed {
        return Err(format!("12 processes in a limit of 8: {} {output}", end.state));
    }
    let (end, output) = run("io", json!({})).await?;
    let weights = output.lines().collect::<Vec<_>>().join(", ");
    let written = end.usage.as_ref().and_then(|usage| usage.written_bytes).unwrap_or_default();
    if end.state != State::Succeeded || weights != WEIGHTS || written < WRITTEN {
        return Err(format!("a weight of 1000, and {WRITTEN} bytes written: {} {output:?}, {written}", end.state));
    }
    vm.ok("echo none >/sys/block/vda/queue/scheduler")?;
    Ok(weights)
}

/// Kills an execution, and lets one time out, whose processes ignore TERM and leave their session.
pub(super) async fn stopped(api: &Api, vm: &mut Vm) -> Result<(), String> {
    let mark = "86400.4711";
    let hang = api.order_until("machine.hang", &json!({ "mark": mark }), "kill").await?;
    api.running(&hang).await?;
    let kill = crate::http::Call::post(&format!("/v1/executions/{}/kill", hang.id), "");
    api.persist(kill).await?;
    let killed = api.wait(hang.id.as_str()).await?;
    let body = json!({"action": "machine.hang", "parameters": {"mark": mark}, "timeout_ms": 3000});
    let answer = api.persist(crate::http::Call::post("/v1/executions", body.to_string())).await?;
    let again: Execution = answer.json();
    let timed_out = api.wait(again.id.as_str()).await?;
    if (killed.state, timed_out.state) != (State::Killed, State::TimedOut) {
        return Err(format!("killed: {}, timed out: {}", killed.state, timed_out.state));
    }
    let survivors = vm.run("pgrep -x sleep -a | grep 86400")?;
    if survivors.status == 0 {
        return Err(format!("left after the end: {}", survivors.output));
    }
    // The groups are removed after the exit record is written.
    for id in [&hang.id, &again.id] {
        let groups = "find /sys/fs/cgroup/bolt.slice -mindepth 1 -type d";
        vm.within_a_minute(&format!("! {groups} | grep {id}")).map_err(|e| format!("a group of {id} is left: {e}"))?;
    }
    Ok(())
}
