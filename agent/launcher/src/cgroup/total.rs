//! What all executions together may take: limits on the group that theirs are in, so that no number of actions takes the
//! host from the work that it is there for.
//!
//! The group is made when the launcher starts and removed when it ends; one that a crash, or executions that go on, left
//! behind is taken over. It never holds a process itself (version 2, "no internal processes").

use std::fs;
use std::io;
use std::path::Path;

use nix::unistd::getppid;
use packs_schema::agent::config::TotalConfig;
use packs_schema::agent::rest::TotalLimits;
use packs_schema::base::quantity::{Bytes, CpuShare};
use packs_schema::pack::action::Limits;

use super::group::children;
use super::{Group, Missing, Tree, make_dir, v1, v2};

/// So much of the host, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) memory: Bytes,
    pub(crate) cpu: CpuShare,
    pub(crate) pids: u32,
}

impl Share {
    /// Of this host.
    pub(crate) fn of_host(config: &TotalConfig) -> Share {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let processors = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        Share::of(config, total_memory(&meminfo), processors)
    }

    fn of(config: &TotalConfig, memory: Option<u64>, processors: u64) -> Share {
        let per_mille = config.cpu.of(processors * 1000).max(10);
        Share {
            memory: Bytes(config.memory.bytes(memory.unwrap_or(u64::MAX))),
            cpu: CpuShare(u32::try_from(per_mille).unwrap_or(u32::MAX)),
            pids: config.pids,
        }
    }

    fn limits(self) -> Limits {
        Limits { memory: self.memory, cpu: self.cpu, pids: self.pids, ..Limits::default() }
    }
}

/// `MemTotal` of `/proc/meminfo` (proc(5)), in bytes.
fn total_memory(meminfo: &str) -> Option<u64> {
    let kib = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB"))?;
    kib.trim().parse::<u64>().ok()?.checked_mul(1024)
}

impl Tree {
    /// Makes the group of all executions, or takes it over, and tells which of its limits are in force.
    pub(crate) fn begin(&mut self, share: Share, suffix: String) -> (TotalLimits, Vec<Missing>) {
        (self.total, self.suffix) = (Some(share), suffix);
        let missing = self.make_total();
        let set = |limit: &str| {
            let offered = self.v2.iter().any(|p| p.limits.contains(&limit))
                || self.v1.iter().any(|p| p.controller.limit() == Some(limit));
            offered && !missing.iter().any(|(m, _)| *m == limit)
        };
        let limits = TotalLimits {
            memory_bytes: set("memory").then_some(share.memory.0),
            cpu: set("cpu").then_some(share.cpu),
            pids: set("pids").then_some(share.pids.into()),
        };
        (limits, missing)
    }

    pub(super) fn make_total(&self) -> Vec<Missing> {
        let Some(share) = self.total else { return Vec::new() };
        let limits = share.limits();
        let mut missing = Vec::new();
        let mut note = |limit: &'static str, result: io::Result<()>| {
            missing.extend(result.err().map(|e| (limit, e.to_string())));
        };
        if let Some(parent) = &self.v2 {
            let dir = parent.dir.join(self.actions());
            note("groups", take_over(&dir));
            v2::delegate(&dir, &parent.limits, false);
            for limit in parent.limits.iter().filter(|limit| **limit != super::IO_WEIGHT) {
                note(limit, v2::set_total(&dir, limit, &limits));
            }
        }
        for parent in &self.v1 {
            let dir = parent.dir.join(self.actions());
            note("groups", take_over(&dir));
            let Some(limit) = parent.controller.limit().filter(|limit| *limit != super::IO_WEIGHT) else { continue };
            let set = || v1::set_total(&dir, parent.controller, &limits);
            // A group may have no more processor time than the one that it is in: those of before have to have less first.
            let lower = |_| {
                for child in children(&dir) {
                    v1::lower_cpu(&child, &limits);
                }
                set()
            };
            note(limit, if parent.controller == v1::Controller::Cpu { set().or_else(lower) } else { set() });
        }
        missing
    }

    /// An execution's limits, none of them above the total: version 1 refuses a share of the processors that is.
    pub(super) fn capped(&self, limits: &Limits) -> Limits {
        let cpu = self.total.map_or(limits.cpu, |total| limits.cpu.min(total.cpu));
        Limits { cpu, ..*limits }
    }

    /// Removes the group of all executions, unless some go on.
    pub(crate) fn end(&self) {
        for dir in self.parents() {
            let _ = fs::remove_dir(dir.join(self.actions()));
        }
    }

    pub(super) fn parents(&self) -> impl Iterator<Item = &Path> {
        self.v2.iter().map(|p| p.dir.as_path()).chain(self.v1.iter().map(|p| p.dir.as_path()))
    }
}

pub(super) fn take_over(dir: &Path) -> io::Result<()> {
    match make_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

impl Group {
    /// The last execution of a launcher that is gone takes the group of all with it. Should another launcher have begun, it
    /// makes it anew when it needs it.
    pub(crate) fn remove_above(&self, launcher: nix::unistd::Pid) {
        if getppid() == launcher {
            return;
        }
        for dir in self.dirs() {
            let above = dir.parent().filter(|above| above.file_name().is_some_and(is_actions));
            let _ = above.map(fs::remove_dir);
        }
    }
}

fn is_actions(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(super::ACTIONS.as_bytes())
}

/// What tells the groups of this launcher from those of others on the host: nothing for the packaged one, else a hash
/// (FNV-1a) of its runtime directory, which it has to itself.
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
    fn a_share_is_in_numbers_of_the_host() {
        let meminfo = "MemTotal:       16384256 kB\nMemFree:  1 kB\n";
        let share = Share::of(&TotalConfig::default(), total_memory(meminfo), 8);
        assert_eq!((share.memory.0, share.cpu, share.pids), (16_384_256 * 256, CpuShare(4000), 2048));
        assert_eq!(Share::of(&TotalConfig::default(), None, 1).cpu, CpuShare(500));
        assert_eq!(total_memory("MemTotal: many kB"), None);
    }

    #[test]
    fn no_execution_gets_more_than_all_of_them() {
        let share = Share::of(&TotalConfig::default(), Some(1 << 30), 4);
        let tree = Tree { total: Some(share), ..Tree::default() };
        let cpu = |per_mille| tree.capped(&Limits { cpu: CpuShare(per_mille), ..Limits::default() }).cpu.0;
        assert_eq!((cpu(500), cpu(2000), cpu(8000)), (500, 2000, 2000));
    }

    #[test]
    fn launchers_of_one_host_have_groups_of_their_own() {
        assert_eq!(suffix(Path::new("/run/bolt")), "");
        let (a, b) = (suffix(Path::new("/tmp/a/run")), suffix(Path::new("/tmp/b/run")));
        assert!(a != b && a == suffix(Path::new("/tmp/a/run")) && a.len() == 17, "{a} {b}");
    }
}
