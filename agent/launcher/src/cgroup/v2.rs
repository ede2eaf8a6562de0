//! cgroup v2: the unified hierarchy (kernel: admin-guide/cgroup-v2).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use packs_schema::pack::action::Limits;

use super::control::{self, Counters, IO_WEIGHT, keyed, read_keyed, read_number};
use super::v1;

/// Parent directory of groups, and the limits whose controllers are delegated to them.
#[derive(Debug)]
pub(super) struct Parent {
    pub(super) dir: PathBuf,
    pub(super) limits: Vec<&'static str>,
}

/// Name of the leaf group into which the launcher moves itself: a group that delegates controllers may not contain processes.
pub(super) const OWN_LEAF: &str = "launcher";

/// Returns the controller that enforces a limit.
fn controller(limit: &'static str) -> &'static str {
    if limit == IO_WEIGHT { "io" } else { limit }
}

/// Returns the limits of `wanted` whose controllers are available in `dir`.
pub(super) fn offered(dir: &Path, wanted: &[&'static str]) -> Vec<&'static str> {
    let available = read_words(dir, "cgroup.controllers");
    wanted.iter().copied().filter(|c| available.iter().any(|name| name == controller(c))).collect()
}

/// Delegates the controllers of the limits in `wanted` to the children of `dir`. Returns the limits that can then be set.
pub(super) fn delegate(dir: &Path, wanted: &[&'static str], own: bool) -> Vec<&'static str> {
    let offered = offered(dir, wanted);
    let enabled = |dir: &Path| {
        let on = read_words(dir, "cgroup.subtree_control");
        offered.iter().copied().filter(|c| on.iter().any(|o| o == controller(c))).collect::<Vec<_>>()
    };
    if enabled(dir).len() == offered.len() {
        return offered;
    }
    // The root group, which has no `cgroup.type`, may contain processes.
    if own && dir.join("cgroup.type").exists() {
        let leaf = dir.join(OWN_LEAF);
        let _ = fs::create_dir(&leaf);
        let _ = control::write(&leaf, "cgroup.procs", &std::process::id().to_string());
    }
    for limit in &offered {
        let _ = control::write(dir, "cgroup.subtree_control", &format!("+{}", controller(limit)));
    }
    enabled(dir)
}

fn read_words(dir: &Path, file: &str) -> Vec<String> {
    fs::read_to_string(dir.join(file)).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// Sets one limit on a group.
pub(super) fn set(dir: &Path, limit: &str, limits: &Limits) -> io::Result<()> {
    match limit {
        "memory" => {
            set_total(dir, limit, limits)?;
            control::ignore_absent(control::write(dir, "memory.oom.group", "1"))
        }
        IO_WEIGHT => limits.io_weight.map_or(Ok(()), |weight| set_weight(dir, weight)),
        _ => set_total(dir, limit, limits),
    }
}

/// Sets the weight of each policy of block I/O that the host has: the cost model (`io.weight`) and the scheduler BFQ, whose range is
/// 1 to 1000. Which of them a device follows is the host's choice.
fn set_weight(dir: &Path, weight: u32) -> io::Result<()> {
    let cost = control::write(dir, "io.weight", &format!("default {weight}"));
    let scaled = if weight <= 100 { weight } else { 100 + (weight - 100) * 900 / 9900 };
    let bfq = control::write(dir, "io.bfq.weight", &scaled.to_string());
    match (cost, bfq) {
        (Ok(()), other) | (other, Ok(())) => control::ignore_absent(other),
        (cost, _) => cost,
    }
}

/// Sets one limit on the group of all executions. Without `memory.oom.group`: one execution must not end all of them.
pub(super) fn set_total(dir: &Path, limit: &str, limits: &Limits) -> io::Result<()> {
    match limit {
        "memory" => {
            control::write(dir, "memory.max", &limits.memory.0.to_string())?;
            control::ignore_absent(control::write(dir, "memory.swap.max", "0"))
        }
        "cpu" => control::write(dir, "cpu.max", &format!("{} 100000", v1::quota_us(limits))),
        _ => control::write(dir, "pids.max", &limits.pids.to_string()),
    }
}

pub(super) fn read_counters(dir: &Path, with_oom: bool, counters: &mut Counters) {
    counters.peak_memory_bytes = read_number(dir, "memory.peak");
    if with_oom {
        counters.oom_kills += read_keyed(dir, "memory.events", "oom_kill").unwrap_or(0);
    }
    if counters.oom_kills > 0 {
        // `oom` is counted in the group whose limit was reached, `oom_kill` in the group of the killed process.
        counters.within_own_limit = read_keyed(dir, "memory.events", "oom") == Some(0);
        let reached = |total: &Path| read_keyed(total, "memory.events.local", "oom").is_some_and(|times| times > 0);
        counters.total_reached = dir.parent().is_some_and(reached);
    }
    let cpu = control::read(dir, "cpu.stat");
    counters.cpu_us = cpu.and_then(|text| keyed(&text, "user_usec").zip(keyed(&text, "system_usec")));
    counters.io_bytes = control::read(dir, "io.stat").map(|text| sum_bytes(&text));
}

/// Sums bytes read and written over all devices. Lines look like `8:0 rbytes=4096 wbytes=0 rios=1 …`.
fn sum_bytes(text: &str) -> (u64, u64) {
    let sum = |key: &str| {
        let numbers = text.split_whitespace().filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok());
        numbers.fold(0, u64::saturating_add)
    };
    (sum("rbytes="), sum("wbytes="))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the counters of a group `it` inside the group of all executions, from these files.
    fn counters_of(files: &[(&str, &str)]) -> Counters {
        let above = tempfile::tempdir().unwrap();
        fs::create_dir(above.path().join("it")).unwrap();
        for (file, text) in files {
            fs::write(above.path().join(file), text).unwrap();
        }
        let mut found = Counters::default();
        read_counters(&above.path().join("it"), true, &mut found);
        found
    }

    #[test]
    fn the_limit_that_was_reached_is_identified() {
        let killed = "low 0\nhigh 0\nmax 7\noom 0\noom_kill 2\n";
        let own = counters_of(&[("it/memory.events", &killed.replace("oom 0", "oom 1"))]);
        assert_eq!((own.oom_kills, own.within_own_limit), (2, false));
        let total = counters_of(&[("it/memory.events", killed), ("memory.events.local", "oom 3\noom_kill 0\n")]);
        assert!(total.within_own_limit && total.total_reached, "{total:?}");
        let host = counters_of(&[("it/memory.events", killed), ("memory.events.local", "oom 0\noom_kill 0\n")]);
        assert!(host.within_own_limit && !host.total_reached, "{host:?}");
    }

    #[test]
    fn the_weight_of_each_policy_is_set() {
        let set = |files: &[&str], weight| {
            let dir = tempfile::tempdir().unwrap();
            files.iter().for_each(|file| fs::write(dir.path().join(file), "").unwrap());
            let limits = Limits { io_weight: Some(weight), ..Limits::default() };
            let done = super::set(dir.path(), IO_WEIGHT, &limits);
            (done.is_ok(), ["io.weight", "io.bfq.weight"].map(|f| fs::read_to_string(dir.path().join(f)).ok()))
        };
        let text = |text: &str| Some(text.to_owned());
        let (cost, bfq) = ("io.weight", "io.bfq.weight");
        assert_eq!(set(&[cost, bfq], 1000), (true, [text("default 1000"), text("181")]));
        assert_eq!(set(&[bfq], 10_000), (true, [None, text("1000")]));
        assert_eq!(set(&[cost], 7), (true, [text("default 7"), None]));
        assert_eq!(set(&[], 7), (false, [None, None]), "reported as not enforced");
    }

    #[test]
    fn bytes_of_all_devices_are_summed() {
        let found =
            counters_of(&[("it/io.stat", "8:0 rbytes=4096 wbytes=1 rios=9 wios=9\n8:16 rbytes=1 wbytes=2 dbytes=5\n")]);
        assert_eq!(found.io_bytes, Some((4097, 3)));
        assert_eq!(counters_of(&[]).io_bytes, None);
    }
}
