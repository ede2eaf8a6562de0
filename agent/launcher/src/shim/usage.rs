//! Resource usage of an execution.

use nix::sys::resource::{Usage as KernelUsage, UsageWho, getrusage};
use packs_schema::agent::execution::Usage;

use crate::cgroup::Counters;

/// The usage of the children that the shim has reaped for earlier executions.
pub(super) struct Baseline(Option<KernelUsage>);

impl Baseline {
    pub(super) fn now() -> Baseline {
        Baseline(getrusage(UsageWho::RUSAGE_CHILDREN).ok())
    }
}

/// Returns the usage from the counters of the cgroup where they exist, else from the children reaped since `baseline`.
pub(super) fn usage(counters: &Counters, baseline: &Baseline) -> Usage {
    let mut usage = Usage { peak_memory_bytes: counters.peak_memory_bytes, ..Usage::default() };
    if let (Ok(now), Some(before)) = (getrusage(UsageWho::RUSAGE_CHILDREN), &baseline.0) {
        let micros = |time: nix::sys::time::TimeVal| {
            u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_usec()).unwrap_or(0)
        };
        usage.user_us = micros(now.user_time()).saturating_sub(micros(before.user_time()));
        usage.system_us = micros(now.system_time()).saturating_sub(micros(before.system_time()));
        // In units of 512 bytes, whatever the block size of the disk is (getrusage(2)).
        let bytes = |now: i64, before: i64| u64::try_from(now.saturating_sub(before)).ok().map(|b| b * 512);
        usage.read_bytes = bytes(now.block_reads(), before.block_reads());
        usage.written_bytes = bytes(now.block_writes(), before.block_writes());
    }
    // The cgroup also counts processes that were reaped by others than the shim.
    if let Some((user, system)) = counters.cpu_us {
        (usage.user_us, usage.system_us) = (user, system);
    }
    if let Some((read, written)) = counters.io_bytes {
        (usage.read_bytes, usage.written_bytes) = (Some(read), Some(written));
    }
    usage
}
