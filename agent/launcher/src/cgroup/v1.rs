//! Controllers of cgroup v1, each in a hierarchy of its own (kernel: admin-guide/cgroup-v1).

use std::io;
use std::path::{Path, PathBuf};

use packs_schema::action::Limits;

use super::{Figures, control, keyed, number};

/// A controller that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Controller {
    Memory,
    Cpu,
    Pids,
    Freezer,
}

impl Controller {
    pub(super) const ALL: [Controller; 4] =
        [Controller::Memory, Controller::Cpu, Controller::Pids, Controller::Freezer];

    /// Its name in mount options.
    pub(super) fn name(self) -> &'static str {
        match self {
            Controller::Memory => "memory",
            Controller::Cpu => "cpu",
            Controller::Pids => "pids",
            Controller::Freezer => "freezer",
        }
    }

    /// The limit that it enforces.
    pub(super) fn limit(self) -> Option<&'static str> {
        (self != Controller::Freezer).then(|| self.name())
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
            match control(dir, "memory.memsw.limit_in_bytes", &bytes) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            }
        }
        Controller::Cpu => {
            control(dir, "cpu.cfs_period_us", "100000")?;
            control(dir, "cpu.cfs_quota_us", &quota_us(limits).to_string())
        }
        Controller::Pids => control(dir, "pids.max", &limits.pids.to_string()),
        Controller::Freezer => Ok(()),
    }
}

/// Processor time in each 100 ms; the kernel takes no less than 1 ms.
pub(super) fn quota_us(limits: &Limits) -> u64 {
    (u64::from(limits.cpu.0) * 100).max(1000)
}

pub(super) fn figures(controller: Controller, dir: &Path, figures: &mut Figures) {
    if controller == Controller::Memory {
        figures.peak_memory_bytes = number(dir, "memory.max_usage_in_bytes");
        figures.oom_kills += keyed(dir, "memory.oom_control", "oom_kill").unwrap_or(0);
    }
}
