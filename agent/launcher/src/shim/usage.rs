//! What an execution used.

use nix::sys::resource::{UsageWho, getrusage};
use packs_schema::agent::execution::Usage;

use crate::cgroup::Figures;

/// From the cgroup where it counts; else from the children, all of which the shim has taken in.
pub(super) fn usage(figures: &Figures) -> Usage {
    let mut usage = Usage { peak_memory_bytes: figures.peak_memory_bytes, ..Usage::default() };
    if let Ok(children) = getrusage(UsageWho::RUSAGE_CHILDREN) {
        let micros = |time: nix::sys::time::TimeVal| {
            u64::try_from(time.tv_sec()).unwrap_or(0) * 1_000_000 + u64::try_from(time.tv_usec()).unwrap_or(0)
        };
        (usage.user_us, usage.system_us) = (micros(children.user_time()), micros(children.system_time()));
        // In units of 512 bytes, whatever the disk's blocks are.
        let bytes = |blocks: i64| u64::try_from(blocks).ok().map(|b| b * 512);
        usage.read_bytes = bytes(children.block_reads());
        usage.written_bytes = bytes(children.block_writes());
    }
    // Of processes that another than the shim took in as well, if there were such.
    if let Some((user, system)) = figures.cpu_us {
        (usage.user_us, usage.system_us) = (user, system);
    }
    if let Some((read, written)) = figures.io_bytes {
        (usage.read_bytes, usage.written_bytes) = (Some(read), Some(written));
    }
    usage
}
