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
    if end.state != State::Succeeded || !is_throttled(&output) {
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

/// True if the group of `machine.cpu` has a fifth of one processor, and was throttled.
fn is_throttled(output: &str) -> bool {
    let field = |name: &str| output.lines().find_map(|line| line.strip_prefix(name));
    let throttled = field("nr_throttled ").and_then(|count| count.parse::<u64>().ok());
    let (quota, period) = field("cpu.max ").and_then(|limit| limit.split_once(' ')).unwrap_or_default();
    let is_a_fifth = match (quota.parse::<u64>(), period.parse::<u64>()) {
        (Ok(quota), Ok(period)) => quota > 0 && quota * 5 == period,
        _ => false,
    };
    is_a_fifth && throttled.is_some_and(|count| count > 0)
}

/// Checks the limits of the units, and reaches that of the slice: an execution whose own limit is above it is ended, and the agent
/// goes on. Returns the limit of the slice.
pub(super) async fn slice(api: &Api, vm: &mut Vm) -> Result<String, String> {
    let files = "memory.max pids.max cpu.weight bolt-launch.service/memory.max bolt-launch.service/memory.high \
                 bolt-launch.service/pids.max";
    let said = vm.ok(&format!("cd /sys/fs/cgroup/bolt.slice && cat {files}"))?;
    let numbers: Vec<u64> = said.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let [memory, 4096, 20, 268_435_456, 134_217_728, 512] = numbers[..] else {
        return Err(format!("limits of the units: {said:?}"));
    };
    let total: u64 =
        vm.ok("sed -n 's/^MemTotal: *\\([0-9]*\\) kB/\\1/p' /proc/meminfo")?.trim().parse().unwrap_or_default();
    if memory.abs_diff(total * 1024 / 4) > total * 1024 / 20 {
        return Err(format!("a quarter of {total} kB, and the slice has {memory}"));
    }
    // The launcher's limit for all executions together is as high by default, but the agent's own memory does not count there.
    let reached = |vm: &mut Vm| vm.ok("sed -n 's/^oom //p' /sys/fs/cgroup/bolt.slice/memory.events.local");
    let reached_before = reached(vm)?;
    let programs = "systemctl show -P MainPID bolt-launch bolt-executions; pgrep -x bolt-agent";
    let before = vm.ok(programs)?;
    let accepted = api.order_until("machine.greedy", &json!({}), "greedy").await?;
    let end = api.wait(accepted.id.as_str()).await?;
    let after = vm.ok(programs)?;
    let is_told = end.reason.as_deref().is_some_and(|reason| reason.contains("a parent cgroup"));
    if end.state != State::OutOfMemory || !is_told || before != after || reached(vm)? == reached_before {
        return Err(format!(
            "300 MB in a slice of {memory}: {end:?}; {before:?}, then {after:?}; {reached_before:?} before"
        ));
    }
    Ok(format!("{} MiB", memory >> 20))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_must_be_throttled_by_a_fifth_of_a_processor() {
        assert!(is_throttled("cpu.max 20000 100000\nnr_throttled 3\n"));
        for bad in [
            "cpu.max 40000 100000\nnr_throttled 3\n",
            "cpu.max max 100000\nnr_throttled 3\n",
            "cpu.max 20000 100000\nnr_throttled 0\n",
            "nr_throttled 3\n",
            "",
        ] {
            assert!(!is_throttled(bad), "{bad:?}");
        }
    }
}
