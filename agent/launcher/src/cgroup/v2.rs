//! The unified hierarchy (kernel: admin-guide/cgroup-v2).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use packs_schema::pack::action::Limits;

use super::{Figures, IO_WEIGHT, control, keyed, number, v1};

/// Where groups are made, and which limits their controllers enforce.
#[derive(Debug)]
pub(super) struct Parent {
    pub(super) dir: PathBuf,
    pub(super) limits: Vec<&'static str>,
}

/// The leaf into which the launcher moves: a group with controllers for its children may hold no processes.
pub(super) const OWN_LEAF: &str = "launcher";

/// The controller that enforces a limit.
fn controller(limit: &'static str) -> &'static str {
    if limit == IO_WEIGHT { "io" } else { limit }
}

/// Those of the limits in `wanted` whose controllers `dir` has.
pub(super) fn offered(dir: &Path, wanted: &[&'static str]) -> Vec<&'static str> {
    let have = words(dir, "cgroup.controllers");
    wanted.iter().copied().filter(|c| have.iter().any(|h| h == controller(c))).collect()
}

/// Hands the controllers of the limits in `wanted` down to the children of `dir`; returns those limits that they have then.
pub(super) fn delegate(dir: &Path, wanted: &[&'static str], own: bool) -> Vec<&'static str> {
    let offered = offered(dir, wanted);
    let enabled = |dir: &Path| {
        let on = words(dir, "cgroup.subtree_control");
        offered.iter().copied().filter(|c| on.iter().any(|o| o == controller(c))).collect::<Vec<_>>()
    };
    if enabled(dir).len() == offered.len() {
        return offered;
    }
    // The root group has no `cgroup.type` and is exempt from the rule about processes.
    if own && dir.join("cgroup.type").exists() {
        let leaf = dir.join(OWN_LEAF);
        let _ = fs::create_dir(&leaf);
        let _ = control(&leaf, "cgroup.procs", &std::process::id().to_string());
    }
    for limit in &offered {
        let _ = control(dir, "cgroup.subtree_control", &format!("+{}", controller(limit)));
    }
    enabled(dir)
}

fn words(dir: &Path, file: &str) -> Vec<String> {
    fs::read_to_string(dir.join(file)).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

/// Sets one limit on a group.
pub(super) fn set(dir: &Path, limit: &str, limits: &Limits) -> io::Result<()> {
    match limit {
        "memory" => {
            set_total(dir, limit, limits)?;
            or_absent(control(dir, "memory.oom.group", "1"))
        }
        IO_WEIGHT => limits.io_weight.map_or(Ok(()), |weight| control(dir, "io.weight", &format!("default {weight}"))),
        _ => set_total(dir, limit, limits),
    }
}

/// Sets one limit on the group of all executions: what one of them does must not end all of them at once.
pub(super) fn set_total(dir: &Path, limit: &str, limits: &Limits) -> io::Result<()> {
    match limit {
        "memory" => {
            control(dir, "memory.max", &limits.memory.0.to_string())?;
            or_absent(control(dir, "memory.swap.max", "0"))
        }
        "cpu" => control(dir, "cpu.max", &format!("{} 100000", v1::quota_us(limits))),
        _ => control(dir, "pids.max", &limits.pids.to_string()),
    }
}

fn or_absent(set: io::Result<()>) -> io::Result<()> {
    match set {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

pub(super) fn figures(dir: &Path, figures: &mut Figures) {
    figures.peak_memory_bytes = number(dir, "memory.peak");
    figures.oom_kills += keyed(dir, "memory.events", "oom_kill").unwrap_or(0);
    if figures.oom_kills > 0 {
        // `oom` counts where the limit is, `oom_kill` where the process was.
        figures.within_own_limit = keyed(dir, "memory.events", "oom") == Some(0);
        let at_total = |above: &Path| keyed(above, "memory.events.local", "oom").is_some_and(|times| times > 0);
        figures.total_reached = dir.parent().is_some_and(at_total);
    }
    figures.cpu_us = keyed(dir, "cpu.stat", "user_usec").zip(keyed(dir, "cpu.stat", "system_usec"));
    figures.io_bytes = fs::read_to_string(dir.join("io.stat")).ok().map(|text| transferred(&text));
}

/// Bytes read and written, of all devices of lines such as `8:0 rbytes=4096 wbytes=0 rios=1 …`.
fn transferred(text: &str) -> (u64, u64) {
    let sum = |key: &str| {
        let numbers = text.split_whitespace().filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok());
        numbers.fold(0, u64::saturating_add)
    };
    (sum("rbytes="), sum("wbytes="))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files of a group below that of all executions.
    fn figures_of(files: &[(&str, &str)]) -> Figures {
        let above = tempfile::tempdir().unwrap();
        fs::create_dir(above.path().join("it")).unwrap();
        for (file, text) in files {
            fs::write(above.path().join(file), text).unwrap();
        }
        let mut found = Figures::default();
        figures(&above.path().join("it"), &mut found);
        found
    }

    #[test]
    fn whose_limit_it_was_is_told_apart() {
        let killed = "low 0\nhigh 0\nmax 7\noom 0\noom_kill 2\n";
        let own = figures_of(&[("it/memory.events", &killed.replace("oom 0", "oom 1"))]);
        assert_eq!((own.oom_kills, own.within_own_limit), (2, false));
        let total = figures_of(&[("it/memory.events", killed), ("memory.events.local", "oom 3\noom_kill 0\n")]);
        assert!(total.within_own_limit && total.total_reached, "{total:?}");
        let host = figures_of(&[("it/memory.events", killed), ("memory.events.local", "oom 0\noom_kill 0\n")]);
        assert!(host.within_own_limit && !host.total_reached, "{host:?}");
    }

    #[test]
    fn transfers_of_all_devices_are_added() {
        let found =
            figures_of(&[("it/io.stat", "8:0 rbytes=4096 wbytes=1 rios=9 wios=9\n8:16 rbytes=1 wbytes=2 dbytes=5\n")]);
        assert_eq!(found.io_bytes, Some((4097, 3)));
        assert_eq!(figures_of(&[]).io_bytes, None);
    }
}
