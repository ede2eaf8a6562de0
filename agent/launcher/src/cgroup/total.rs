//! Limits on all executions together, set on the group that contains their groups, so that no number of actions can use up the
//! resources of the host.
//!
//! The group is created when the launcher starts and removed when it ends. A group that was left by a crash or contains running
//! executions is reused. It never contains a process itself (v2: "no internal processes").

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;

use nix::unistd::{Pid, getppid};
use packs_schema::agent::config::TotalConfig;
use packs_schema::agent::rest::TotalLimits;
use packs_schema::base::quantity::{Bytes, CpuShare};
use packs_schema::pack::action::Limits;

use super::control::{IO_WEIGHT, Unenforced, make_dir_if_absent};
use super::group::{Group, children};
use super::tree::{ACTIONS, TotalShare, Tree};
use super::{v1, v2};

impl TotalShare {
    /// Computes the share of this host that the configuration allows.
    pub(crate) fn of_host(config: &TotalConfig) -> TotalShare {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        TotalShare::of(config, total_memory(&meminfo), processors)
    }

    fn of(config: &TotalConfig, memory: Option<u64>, processors: u64) -> TotalShare {
        let per_mille = config.cpu.of(processors * 1000).max(10);
        TotalShare {
            memory: Bytes(config.memory.bytes(memory.unwrap_or(u64::MAX))),
            cpu: CpuShare(u32::try_from(per_mille).unwrap_or(u32::MAX)),
            pids: config.pids,
        }
    }

    fn limits(self) -> Limits {
        Limits { memory: self.memory, cpu: self.cpu, pids: self.pids, ..Limits::default() }
    }
}

/// Parses `MemTotal` of `/proc/meminfo` (proc(5)), in bytes.
fn total_memory(meminfo: &str) -> Option<u64> {
    let kib = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB"))?;
    kib.trim().parse::<u64>().ok()?.checked_mul(1024)
}

impl Tree {
    /// Creates the group of all executions, or reuses it. Returns the limits that are enforced, and those that are not.
    pub(crate) fn create_total(&mut self, share: TotalShare, suffix: String) -> (TotalLimits, Vec<Unenforced>) {
        (self.total, self.suffix) = (Some(share), suffix);
        let unenforced = self.make_total_group();
        let set = |limit: &str| {
            let offered = self.v2.iter().any(|p| p.limits.contains(&limit))
                || self.v1.iter().any(|p| p.controller.limit() == Some(limit));
            offered && !unenforced.iter().any(|(known, _)| *known == limit)
        };
        let limits = TotalLimits {
            memory_bytes: set("memory").then_some(share.memory.0),
            cpu: set("cpu").then_some(share.cpu),
            pids: set("pids").then_some(share.pids.into()),
        };
        (limits, unenforced)
    }

    /// Creates the group and sets its limits; returns those that could not be set.
    pub(super) fn make_total_group(&self) -> Vec<Unenforced> {
        let Some(share) = self.total else { return Vec::new() };
        let limits = share.limits();
        let mut unenforced = Vec::new();
        let mut record = |limit: &'static str, result: io::Result<()>| {
            unenforced.extend(result.err().map(|e| (limit, e.to_string())));
        };
        if let Some(parent) = &self.v2 {
            let dir = parent.dir.join(self.actions());
            record("groups", make_dir_if_absent(&dir));
            v2::delegate(&dir, &parent.limits, false);
            for limit in parent.limits.iter().filter(|limit| **limit != IO_WEIGHT) {
                record(limit, v2::set_total(&dir, limit, &limits));
            }
        }
        for parent in &self.v1 {
            let dir = parent.dir.join(self.actions());
            record("groups", make_dir_if_absent(&dir));
            let Some(limit) = parent.controller.limit().filter(|limit| *limit != IO_WEIGHT) else { continue };
            let set = || v1::set_total(&dir, parent.controller, &limits);
            // In v1, no group may have a higher quota than its parent: lower the quotas of existing subgroups first.
            let lower = |_| {
                for child in children(&dir) {
                    v1::lower_cpu(&child, &limits);
                }
                set()
            };
            record(limit, if parent.controller == v1::Controller::Cpu { set().or_else(lower) } else { set() });
        }
        unenforced
    }

    /// Returns the limits of an execution with the processor share capped at the total: v1 refuses a higher quota than the parent's.
    pub(super) fn capped(&self, limits: &Limits) -> Limits {
        let cpu = self.total.map_or(limits.cpu, |total| limits.cpu.min(total.cpu));
        Limits { cpu, ..*limits }
    }

    /// Removes the group of all executions, unless executions are running in it.
    pub(crate) fn remove_total(&self) {
        for dir in self.all_parents() {
            let _ = fs::remove_dir(dir.join(self.actions()));
        }
    }

    /// Iterates over the parent directories of all hierarchies, also of those in which only earlier releases made groups.
    pub(super) fn all_parents(&self) -> impl Iterator<Item = &Path> {
        self.parents().chain(self.v1_earlier.iter().map(|p| p.dir.as_path()))
    }

    /// Iterates over the parent directories of the hierarchies in which groups are made.
    pub(super) fn parents(&self) -> impl Iterator<Item = &Path> {
        self.v2.iter().map(|p| p.dir.as_path()).chain(self.v1.iter().map(|p| p.dir.as_path()))
    }
}

impl Group {
    /// Removes the group of all executions if it is empty and the launcher that forked this shim has ended. A new launcher creates it
    /// again when it needs it.
    pub(crate) fn remove_total_if_orphaned(&self, launcher: Pid) {
        if getppid() == launcher {
            return;
        }
        for dir in self.dirs() {
            let total = dir.parent().filter(|parent| parent.file_name().is_some_and(is_total_group));
            let _ = total.map(fs::remove_dir);
        }
    }
}

fn is_total_group(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(ACTIONS.as_bytes())
}

/// Returns the suffix that distinguishes the groups of this launcher from those of other launchers on the host: empty for the
/// default run-time directory, else a hash (FNV-1a) of the path, which no other launcher uses.
pub(crate) fn suffix(runtime: &Path) -> String {
    if runtime == packs_schema::agent::config::Paths::default().runtime {
        return String::new();
    }
    let bytes = runtime.as_os_str().as_encoded_bytes();
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("-{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_computed_from_the_resources_of_the_host() {
        let meminfo = "MemTotal:       16384256 kB\nMemFree:  1 kB\n";
        let share = TotalShare::of(&TotalConfig::default(), total_memory(meminfo), 8);
        assert_eq!((share.memory.0, share.cpu, share.pids), (16_384_256 * 256, CpuShare(4000), 2048));
        assert_eq!(TotalShare::of(&TotalConfig::default(), None, 1).cpu, CpuShare(500));
        assert_eq!(total_memory("MemTotal: many kB"), None);
    }

    #[test]
    fn the_processor_share_of_an_execution_is_capped_at_the_total() {
        let share = TotalShare::of(&TotalConfig::default(), Some(1 << 30), 4);
        let tree = Tree { total: Some(share), ..Tree::default() };
        let cpu = |per_mille| tree.capped(&Limits { cpu: CpuShare(per_mille), ..Limits::default() }).cpu.0;
        assert_eq!((cpu(500), cpu(2000), cpu(8000)), (500, 2000, 2000));
    }

    #[test]
    fn launchers_of_one_host_have_different_groups() {
        assert_eq!(suffix(Path::new("/run/bolt")), "");
        let (a, b) = (suffix(Path::new("/tmp/a/run")), suffix(Path::new("/tmp/b/run")));
        assert!(a != b && a == suffix(Path::new("/tmp/a/run")) && a.len() == 17, "{a} {b}");
    }
}
