//! Controllers of cgroup v1, each in a hierarchy of its own (kernel: admin-guide/cgroup-v1).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use packs_schema::pack::action::Limits;

use super::{Figures, IO_WEIGHT, control, keyed, number};

/// The most that is charged at once and for which a process is killed: the kernel gives up on more without one.
const LAST_CHARGE: u64 = 64 << 10;

/// A controller that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    Memory,
    Cpu,
    /// Counts processor time; not needed where a v2 group does.
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

    /// Its name in mount options.
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

    /// The limit that it enforces.
    pub(super) fn limit(self) -> Option<&'static str> {
        match self {
            Controller::Memory | Controller::Cpu | Controller::Pids => Some(self.name()),
            Controller::Blkio => Some(IO_WEIGHT),
            Controller::Cpuacct | Controller::Freezer => None,
        }
    }
}

/// Where groups are made in the hierarchy of one controller.
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
            control(dir, "memory.limit_in_bytes", &bytes)?;
            // Memory and swap together: without this a group at its limit goes on in swap. Absent without swap accounting.
            or_absent(control(dir, "memory.memsw.limit_in_bytes", &bytes))
        }
        Controller::Cpu => {
            control(dir, "cpu.cfs_period_us", "100000")?;
            control(dir, "cpu.cfs_quota_us", &quota_us(limits).to_string())
        }
        Controller::Pids => control(dir, "pids.max", &limits.pids.to_string()),
        Controller::Blkio => limits.io_weight.map_or(Ok(()), |weight| set_weight(dir, weight)),
        Controller::Cpuacct | Controller::Freezer => Ok(()),
    }
}

/// Sets the limit on a group that has, or had, other ones and other groups below.
pub(super) fn set_total(dir: &Path, controller: Controller, limits: &Limits) -> io::Result<()> {
    if controller == Controller::Memory {
        // Without it the groups below would not count here. New kernels know nothing else.
        if number(dir, "memory.use_hierarchy") == Some(0) {
            control(dir, "memory.use_hierarchy", "1")?;
        }
        // It may not be less than the other, which comes first.
        or_absent(control(dir, "memory.memsw.limit_in_bytes", "-1"))?;
    }
    set(dir, controller, limits)
}

/// Takes processor time from a group that has more than `limits`.
pub(super) fn lower_cpu(dir: &Path, limits: &Limits) {
    let most = quota_us(limits);
    if number(dir, "cpu.cfs_quota_us").is_some_and(|quota| quota > most) {
        let _ = control(dir, "cpu.cfs_quota_us", &most.to_string());
    }
}

/// Processor time in each 100 ms; the kernel takes no less than 1 ms.
pub(super) fn quota_us(limits: &Limits) -> u64 {
    (u64::from(limits.cpu.0) * 100).max(1000)
}

/// One of two schedulers has weights, or none; theirs go from 10 (1) to 1000.
fn set_weight(dir: &Path, weight: u32) -> io::Result<()> {
    let weight = scaled(weight).to_string();
    match control(dir, "blkio.weight", &weight) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => control(dir, "blkio.bfq.weight", &weight),
        set => set,
    }
}

/// A weight of 1 to 10000 as one of 10 to 1000, both with 100 for what did not ask.
fn scaled(weight: u32) -> u32 {
    match weight {
        ..=100 => (weight * 90 / 100 + 10).min(100),
        _ => 100 + (weight - 100) * 900 / 9900,
    }
}

fn or_absent(set: io::Result<()>) -> io::Result<()> {
    match set {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

pub(super) fn figures(controller: Controller, dir: &Path, figures: &mut Figures) {
    match controller {
        Controller::Memory => {
            figures.peak_memory_bytes = number(dir, "memory.max_usage_in_bytes");
            figures.oom_kills += keyed(dir, "memory.oom_control", "oom_kill").unwrap_or(0);
            if figures.oom_kills > 0 {
                figures.within_own_limit = !reached(dir);
                figures.total_reached = dir.parent().is_some_and(reached);
            }
        }
        Controller::Cpuacct => {
            let us = |file| Some(number(dir, file)? / 1000);
            figures.cpu_us = us("cpuacct.usage_user").zip(us("cpuacct.usage_sys"));
        }
        Controller::Blkio => {
            let text = fs::read_to_string(dir.join("blkio.throttle.io_service_bytes_recursive"));
            figures.io_bytes = text.ok().map(|text| (transferred(&text, "Read"), transferred(&text, "Write")));
        }
        Controller::Cpu | Controller::Pids | Controller::Freezer => {}
    }
}

/// Whether a group ever came to its memory limit. Not by the counters of failures, which new kernels leave at 0, but by the
/// most that there was; memory with swap has the same limit, and is charged first.
fn reached(dir: &Path) -> bool {
    ["memory", "memory.memsw"].iter().any(|kind| {
        let limit = number(dir, &format!("{kind}.limit_in_bytes"));
        let most = number(dir, &format!("{kind}.max_usage_in_bytes"));
        limit.zip(most).is_some_and(|(limit, most)| most.saturating_add(LAST_CHARGE) >= limit)
    })
}

/// The sum of all devices of lines such as `8:0 Read 4096`.
fn transferred(text: &str, what: &str) -> u64 {
    let of = |line: &str| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [_, kind, bytes] if kind == what => bytes.parse().ok(),
        _ => None,
    };
    text.lines().filter_map(of).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_scaled() {
        assert_eq!([1, 50, 100, 101, 1000, 10_000].map(scaled), [10, 55, 100, 100, 181, 1000]);
    }

    #[test]
    fn transfers_of_all_devices_are_added() {
        let text = "254:0 Read 4096\n254:0 Write 10\n254:0 Total 4106\n8:16 Read 1\n8:16 Write 2\nTotal 4109\n";
        assert_eq!((transferred(text, "Read"), transferred(text, "Write")), (4097, 12));
    }

    #[test]
    fn processor_time_is_read_where_only_version_1_counts_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("cpuacct.usage_user"), "1234567\n").unwrap();
        fs::write(dir.path().join("cpuacct.usage_sys"), "2000\n").unwrap();
        let mut found = Figures::default();
        figures(Controller::Cpuacct, dir.path(), &mut found);
        assert_eq!(found.cpu_us, Some((1234, 2)));
    }
}
