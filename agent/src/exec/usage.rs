//! Resource usage of a running execution, read from its cgroup on request. `enforcement.json`, written by the launcher, has the
//! paths; cgroup files are readable by every user.
//!
//! Nothing is cached, and a missing group is not an error: an execution that has just ended has none any more, and on a host
//! without cgroups there never was one.

use std::fs;
use std::path::{Path, PathBuf};

use packs_schema::agent::execution::{State, Usage};
use packs_schema::agent::rest::{CgroupDirectory, Enforcement};
use packs_schema::base::name::{ActionRef, ExecutionId};

use super::Exec;

impl Exec {
    /// Running executions and their actions.
    pub fn running(&self) -> Vec<(ExecutionId, ActionRef)> {
        let core = self.lock();
        let running = core.live.values().filter(|live| live.record.state == State::Running && !live.ending);
        running.map(|live| (live.record.id.clone(), live.record.action.clone())).collect()
    }
}

/// Returns what an execution has used so far; `None` without accounting.
pub fn of(enforcement: &Enforcement, id: &ExecutionId) -> Option<Usage> {
    let mut usage = Usage::default();
    let mut found = false;
    for place in &enforcement.groups {
        if let Some(group) = group(place, id) {
            found |= read(place, &group, &mut usage);
        }
    }
    found.then_some(usage)
}

/// Finds the execution's cgroup: in the group of all executions or, when an older launcher created it, beside that.
fn group(place: &CgroupDirectory, id: &ExecutionId) -> Option<PathBuf> {
    let name = format!("bolt-{id}");
    let beside = place.path.parent().map(|above| above.join(&name));
    [Some(place.path.join(&name)), beside].into_iter().flatten().find(|dir| dir.is_dir())
}

/// Adds the figures of one hierarchy; false if it has none.
fn read(place: &CgroupDirectory, group: &Path, usage: &mut Usage) -> bool {
    let us = |file| Some(number(group, file)? / 1000);
    let (memory, peak, cpu, io) = match (place.version, place.controller.as_deref()) {
        (2, _) => (
            number(group, "memory.current"),
            number(group, "memory.peak"),
            keyed(group, "cpu.stat", "user_usec").zip(keyed(group, "cpu.stat", "system_usec")),
            text(group, "io.stat").map(|text| (sum(&text, "rbytes="), sum(&text, "wbytes="))),
        ),
        (1, Some("memory")) => {
            (number(group, "memory.usage_in_bytes"), number(group, "memory.max_usage_in_bytes"), None, None)
        }
        (1, Some("cpuacct")) => (None, None, us("cpuacct.usage_user").zip(us("cpuacct.usage_sys")), None),
        (1, Some("blkio")) => {
            let text = text(group, "blkio.throttle.io_service_bytes_recursive");
            (None, None, None, text.map(|text| (column(&text, "Read"), column(&text, "Write"))))
        }
        _ => return false,
    };
    usage.memory_bytes = usage.memory_bytes.or(memory);
    usage.peak_memory_bytes = usage.peak_memory_bytes.or(peak);
    if let Some(cpu) = cpu {
        (usage.user_us, usage.system_us) = cpu;
    }
    if let Some((read, written)) = io {
        (usage.read_bytes, usage.written_bytes) = (Some(read), Some(written));
    }
    memory.is_some() || cpu.is_some() || io.is_some()
}

fn text(group: &Path, file: &str) -> Option<String> {
    fs::read_to_string(group.join(file)).ok()
}

fn number(group: &Path, file: &str) -> Option<u64> {
    text(group, file)?.trim().parse().ok()
}

/// Returns the number after `key` in a file of `key number` lines.
fn keyed(group: &Path, file: &str, key: &str) -> Option<u64> {
    text(group, file)?.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
}

/// Sums up all devices of `8:0 rbytes=1 wbytes=2 …`.
fn sum(text: &str, key: &str) -> u64 {
    let numbers = text.split_whitespace().filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok());
    numbers.fold(0, u64::saturating_add)
}

/// Sums up all devices of `8:0 Read 1`.
fn column(text: &str, what: &str) -> u64 {
    let of = |line: &str| line.split_once(' ')?.1.strip_prefix(what)?.trim().parse::<u64>().ok();
    text.lines().filter_map(of).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa";

    fn id() -> ExecutionId {
        ExecutionId::new(ID).unwrap()
    }

    /// Creates a hierarchy with the files of one group at `at`.
    fn hierarchy(
        version: u8,
        controller: Option<&str>,
        at: &str,
        files: &[(&str, &str)],
    ) -> (tempfile::TempDir, CgroupDirectory) {
        let top = tempfile::tempdir().unwrap();
        let group = top.path().join(at).join(format!("bolt-{ID}"));
        fs::create_dir_all(&group).unwrap();
        for (file, text) in files {
            fs::write(group.join(file), text).unwrap();
        }
        let path = top.path().join("bolt-actions");
        (top, CgroupDirectory { version, controller: controller.map(str::to_owned), path })
    }

    fn usage(places: &[&CgroupDirectory]) -> Option<Usage> {
        let groups = places.iter().map(|place| (*place).clone()).collect();
        of(&Enforcement { groups, ..Enforcement::default() }, &id())
    }

    #[test]
    fn cgroups_of_both_versions_are_read() {
        let wanted = Usage {
            user_us: 7,
            system_us: 5,
            memory_bytes: Some(4096),
            peak_memory_bytes: Some(8192),
            read_bytes: Some(3),
            written_bytes: Some(4),
        };
        let v2 = [
            ("memory.current", "4096\n"),
            ("memory.peak", "8192\n"),
            ("cpu.stat", "usage_usec 12\nuser_usec 7\nsystem_usec 5\n"),
            ("io.stat", "8:0 rbytes=1 wbytes=4 rios=1\n8:16 rbytes=2 wbytes=0\n"),
        ];
        let (_top, v2) = hierarchy(2, None, "bolt-actions", &v2);
        assert_eq!(usage(&[&v2]), Some(wanted));
        let memory = [("memory.usage_in_bytes", "4096\n"), ("memory.max_usage_in_bytes", "8192\n")];
        let (_a, memory) = hierarchy(1, Some("memory"), "bolt-actions", &memory);
        let cpu = [("cpuacct.usage_user", "7999\n"), ("cpuacct.usage_sys", "5000\n")];
        let (_b, cpu) = hierarchy(1, Some("cpuacct"), "bolt-actions", &cpu);
        let io = [("blkio.throttle.io_service_bytes_recursive", "8:0 Read 3\n8:0 Write 4\n8:0 Total 7\nTotal 7\n")];
        let (_c, io) = hierarchy(1, Some("blkio"), "bolt-actions", &io);
        assert_eq!(usage(&[&memory, &cpu, &io]), Some(wanted));
    }

    #[test]
    fn missing_groups_are_not_reported() {
        let (top, gone) = hierarchy(2, None, "bolt-actions", &[("memory.current", "4096\n")]);
        drop(top);
        assert_eq!(usage(&[&gone]), None);
        assert_eq!(usage(&[]), None);
        let (_top, older) = hierarchy(2, None, "", &[("memory.current", "4096\n")]);
        assert_eq!(usage(&[&older]).unwrap().memory_bytes, Some(4096), "created by an older launcher");
    }
}
