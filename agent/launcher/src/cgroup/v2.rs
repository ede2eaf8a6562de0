//! The unified hierarchy (kernel: admin-guide/cgroup-v2).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use packs_schema::action::Limits;

use super::{Figures, control, keyed, number, v1};

/// Where groups are made, and which limits their controllers enforce.
#[derive(Debug)]
pub(super) struct Parent {
    pub(super) dir: PathBuf,
    pub(super) limits: Vec<&'static str>,
}

/// The leaf into which the launcher moves: a group with controllers for its children may hold no processes.
pub(super) const OWN_LEAF: &str = "launcher";

/// Hands the controllers in `wanted` down to the children of `dir`; returns those that they have then.
pub(super) fn delegate(dir: &Path, wanted: &[&'static str], own: bool) -> Vec<&'static str> {
    let have = words(dir, "cgroup.controllers");
    let offered: Vec<_> = wanted.iter().copied().filter(|c| have.iter().any(|h| h == c)).collect();
    let enabled = |dir: &Path| {
        let on = words(dir, "cgroup.subtree_control");
        offered.iter().copied().filter(|c| on.iter().any(|o| o == c)).collect::<Vec<_>>()
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
    for controller in &offered {
        let _ = control(dir, "cgroup.subtree_control", &format!("+{controller}"));
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
            control(dir, "memory.max", &limits.memory.0.to_string())?;
            for (file, value) in [("memory.swap.max", "0"), ("memory.oom.group", "1")] {
                match control(dir, file, value) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
            Ok(())
        }
        "cpu" => control(dir, "cpu.max", &format!("{} 100000", v1::quota_us(limits))),
        _ => control(dir, "pids.max", &limits.pids.to_string()),
    }
}

pub(super) fn figures(dir: &Path, figures: &mut Figures) {
    figures.peak_memory_bytes = number(dir, "memory.peak");
    figures.oom_kills += keyed(dir, "memory.events", "oom_kill").unwrap_or(0);
    figures.cpu_us = keyed(dir, "cpu.stat", "user_usec").zip(keyed(dir, "cpu.stat", "system_usec"));
}
