//! cgroup v1: each controller in a hierarchy of its own (kernel: admin-guide/cgroup-v1).

use std::io;
use std::path::{Path, PathBuf};

use packs_schema::pack::action::Limits;
use serde::{Deserialize, Serialize};

use super::control::{self, Counters, IO_WEIGHT, read_keyed, read_number};

/// Maximum size of one charge that can cause an OOM kill, in bytes: the kernel fails larger ones without a kill.
const MAX_CHARGE: u64 = 64 << 10;

/// A controller that the launcher uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Controller {
    Memory,
    Cpu,
    /// Counts processor time. Not needed on a host with v2, whose groups always count it.
    Cpuacct,
    Pids,
    Blkio,
    Freezer,
}

impl Controller {
    pub(super) const ALL: [Controller; 6] = [
        Controller::Memory,
        Controller::Cpu,
        Controller::Cpuacct,
        Controller::Pids,
        Controller::Blkio,
        Controller::Freezer,
    ];

    /// Returns the name in mount options.
    pub(super) fn name(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Cpu => "cpu",
            Controller::Cpuacct => "cpuacct",
            Controller::Pids => "pids",
            Controller::Blkio => "blkio",
            Controller::Freezer => "freezer",
        }
    }

    /// Returns the limit that the controller enforces.
    pub(super) fn limit(self) -> Option<&'static str> {
        match self {
            Controller::Memory | Controller::Cpu | Controller::Pids => Some(self.name()),
            Controller::Blkio => Some(IO_WEIGHT),
            Controller::Cpuacct | Controller::Freezer => None,
        }
    }
}

/// Parent directory of groups in the hierarchy of one controller.
#[derive(Debug)]
pub(super) struct Parent {
    pub(super) controller: Controller,
    pub(super) dir: PathBuf,
}

/// Sets the controller's limit on a group.
pub(super) fn set(dir: &Path, controller: Controller, limits: &Limits) -> io::Result<()> {
    match controller {
        Controller::Memory => {
            let bytes = limits.memory.0.to_string();
            control::write(dir, "memory.limit_in_bytes", &bytes)?;
            // Memory and swap together, or else a group at its limit continues in swap. Absent without swap accounting.
            control::ignore_absent(control::write(dir, "memory.memsw.limit_in_bytes", &bytes))
        }
        Controller::Cpu => {
            control::write(dir, "cpu.cfs_period_us", "100000")?;
            control::write(dir, "cpu.cfs_quota_us", &quota_us(limits).to_string())
        }
        Controller::Pids => control::write(dir, "pids.max", &limits.pids.to_string()),
        Controller::Blkio => limits.io_weight.map_or(Ok(()), |weight| set_weight(dir, weight)),
        Controller::Cpuacct | Controller::Freezer => Ok(()),
    }
}

/// Sets the controller's limit on a reused group, which may have other limits and subgroups.
pub(super) fn set_total(dir: &Path, controller: Controller, limits: &Limits) -> io::Result<()> {
    if controller == Controller::Memory {
        // Without it, subgroups are not charged here. Newer kernels always do.
        if read_number(dir, "memory.use_hierarchy") == Some(0) {
            control::write(dir, "memory.use_hierarchy", "1")?;
        }
        // The kernel refuses a limit of memory and swap below the memory limit, which is set first.
        control::ignore_absent(control::write(dir, "memory.memsw.limit_in_bytes", "-1"))?;
    }
    set(dir, controller, limits)
}

/// Lowers the processor quota of a group to `limits` if it is higher.
pub(super) fn lower_cpu(dir: &Path, limits: &Limits) {
    let max = quota_us(limits);
    if read_number(dir, "cpu.cfs_quota_us").is_some_and(|quota| quota > max) {
        let _ = control::write(dir, "cpu.cfs_quota_us", &max.to_string());
    }
}

/// Returns the quota of processor time per 100 ms, in microseconds; the kernel refuses less than 1 ms.
pub(super) fn quota_us(limits: &Limits) -> u64 {
    (u64::from(limits.cpu.0) * 100).max(1000)
}

/// Sets the weight in the file of the scheduler that has one (CFQ or BFQ). Its range is 10 (BFQ: 1) to 1000.
fn set_weight(dir: &Path, weight: u32) -> io::Result<()> {
    let weight = scale_weight(weight).to_string();
    match control::write(dir, "blkio.weight", &weight) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => control::write(dir, "blkio.bfq.weight", &weight),
        set => set,
    }
}

/// Converts a v2 weight (1 to 10000) to a v1 weight (10 to 1000). The default is 100 in both.
fn scale_weight(weight: u32) -> u32 {
    match weight {
        ..=100 => (weight * 90 / 100 + 10).min(100),
        _ => 100 + (weight - 100) * 900 / 9900,
    }
}

pub(super) fn read_counters(controller: Controller, dir: &Path, with_oom: bool, counters: &mut Counters) {
    match controller {
        Controller::Memory => {
            counters.peak_memory_bytes = read_number(dir, "memory.max_usage_in_bytes");
            if with_oom {
                counters.oom_kills += read_keyed(dir, "memory.oom_control", "oom_kill").unwrap_or(0);
            }
            if counters.oom_kills > 0 {
                counters.within_own_limit = !reached_limit(dir);
                counters.total_reached = dir.parent().is_some_and(reached_limit);
            }
        }
        Controller::Cpuacct => {
            let us = |file| Some(read_number(dir, file)? / 1000);
            counters.cpu_us = us("cpuacct.usage_user").zip(us("cpuacct.usage_sys"));
        }
        Controller::Blkio => {
            let text = control::read(dir, "blkio.throttle.io_service_bytes_recursive");
            counters.io_bytes = text.map(|text| (sum_bytes(&text, "Read"), sum_bytes(&text, "Write")));
        }
        Controller::Cpu | Controller::Pids | Controller::Freezer => {}
    }
}

/// Returns true if a group ever reached its memory limit. Judged by the maximum usage, because newer kernels leave the failure
/// counters at 0. Memory with swap has the same limit and is charged first.
fn reached_limit(dir: &Path) -> bool {
    ["memory", "memory.memsw"].iter().any(|kind| {
        let limit = read_number(dir, &format!("{kind}.limit_in_bytes"));
        let max = read_number(dir, &format!("{kind}.max_usage_in_bytes"));
        limit.zip(max).is_some_and(|(limit, max)| max.saturating_add(MAX_CHARGE) >= limit)
    })
}

/// Sums the bytes of one operation over all devices. Lines look like `8:0 Read 4096`.
fn sum_bytes(text: &str, operation: &str) -> u64 {
    let of = |line: &str| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [_, kind, bytes] if kind == operation => bytes.parse().ok(),
        _ => None,
    };
    text.lines().filter_map(of).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn weights_are_scaled() {
        assert_eq!([1, 50, 100, 101, 1000, 10_000].map(scale_weight), [10, 55, 100, 100, 181, 1000]);
    }

    #[test]
    fn bytes_of_all_devices_are_summed() {
        let text = "254:0 Read 4096\n254:0 Write 10\n254:0 Total 4106\n8:16 Read 1\n8:16 Write 2\nTotal 4109\n";
        assert_eq!((sum_bytes(text, "Read"), sum_bytes(text, "Write")), (4097, 12));
    }

    #[test]
    fn processor_time_is_read_from_cpuacct() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cpuacct.usage_user"), "1234567\n").unwrap();
        fs::write(dir.path().join("cpuacct.usage_sys"), "2000\n").unwrap();
        let mut found = Counters::default();
        read_counters(Controller::Cpuacct, dir.path(), true, &mut found);
        assert_eq!(found.cpu_us, Some((1234, 2)));
    }
}
