//! Resource usage of an execution.

use nix::sys::resource::{UsageWho, getrusage};
use packs_schema::agent::execution::Usage;

use crate::cgroup::Counters;

/// Returns the usage from the counters of the cgroup where they exist, else from the reaped children.
pub(super) fn usage(counters: &Counters) -> Usage {
    let mut usage = Usage { peak_memory_bytes: counters.peak_memory_bytes, ..Usage::default() };
    if let Ok(children) = getrusage(UsageWho::RUSAGE_CHILDREN) {
        let micros = |time: nix::sys::time::TimeVal| {
            u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_usec()).unwrap_or(0)
        };
        (usage.user_us, usage.system_us) = (micros(children.user_time()), micros(children.system_time()));
        // In units of 512 bytes, whatever the block size of the disk is (getrusage(2)).
        let bytes = |blocks: i64| u64::try_from(blocks).ok().map(|b| b * 512);
        usage.read_bytes = bytes(children.block_reads());
        usage.written_bytes = bytes(children.block_writes());
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
