//! A cgroup per execution, in whatever hierarchies this host has.
//!
//! ```text
//!  <parent>                 execution.cgroup, or the launcher's own group
//!    ├─ bolt-actions        limits on all executions together (see `total`)
//!    │    └─ bolt-<id>      limits of one; joined by the child before exec
//!    ├─ bolt-kept-<id>      processes that an action may leave behind, without its limits (see `kept`)
//!    ├─ bolt-api, bolt-sync the agent's own, where the parent is the launcher's
//!    └─ bolt-<id>           made by an older launcher: found, and never made
//!
//!  detect ──▶ Tree ──begin──create(id, limits)──▶ Group ──▶ join, count, kill, figures, remove
//!                └──find(id)───────────────────────┘
//! ```
//!
//! An execution's group is called `bolt-<id>`, so that what a dead shim left behind can be found again without any
//! stored number. Nothing here is assumed: a limit counts as set when the kernel took it.

mod detect;
mod group;
mod kept;
mod own;
mod total;
mod v1;
mod v2;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use packs_schema::agent::rest::{CgroupDirectory, Enforcement};
use packs_schema::base::name::ExecutionId;
use packs_schema::pack::action::Limits;

pub(crate) use detect::detect;
pub(crate) use group::{Doors, Group};
pub(crate) use own::AgentGroups;
pub(crate) use total::{Share, suffix};

/// Where executions get their groups.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// The parent directory in the v2 hierarchy.
    v2: Option<v2::Parent>,
    /// The parent directories in the v1 hierarchies that we use.
    v1: Vec<v1::Parent>,
    /// Whether the parent is this process's own group.
    own: bool,
    /// What the name of each group directly below the parent ends with; another for each launcher of a host.
    suffix: String,
    /// What all executions together may take.
    total: Option<Share>,
    /// Why groups with these limits cannot be made here, although the host has their controllers.
    why: Vec<Missing>,
}

/// What the kernel counted for a group.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Figures {
    /// The most memory at once, in bytes.
    pub(crate) peak_memory_bytes: Option<u64>,
    /// Processes that the kernel killed for want of memory.
    pub(crate) oom_kills: u64,
    /// The group never came to its own memory limit, …
    pub(crate) within_own_limit: bool,
    /// … and the group of all executions did.
    pub(crate) total_reached: bool,
    /// Processor time in user mode and in the kernel, in microseconds.
    pub(crate) cpu_us: Option<(u64, u64)>,
    /// Bytes read from and written to block devices.
    pub(crate) io_bytes: Option<(u64, u64)>,
}

/// A limit that was not set: which, and why.
pub(crate) type Missing = (&'static str, String);

/// What an execution may not be without, when limits are required.
const LIMITS: [&str; 3] = ["memory", "cpu", "pids"];
/// What is only preferred.
pub(crate) const IO_WEIGHT: &str = "io_weight";
/// The group of all executions.
const ACTIONS: &str = "bolt-actions";

impl Tree {
    /// Makes the group of an execution with these limits; tells which could not be set.
    pub(crate) fn create(&self, name: &str, limits: &Limits) -> io::Result<(Group, Vec<Missing>)> {
        let place = |dir: &Path| dir.join(self.actions()).join(name);
        // The group above is removed by the last shim of a launcher that is gone, which may be at this moment.
        for _ in 0..3 {
            match self.make(place, limits) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => drop(self.make_total()),
                made => return made,
            }
        }
        self.make(place, limits)
    }

    fn make(&self, place: impl Fn(&Path) -> PathBuf, limits: &Limits) -> io::Result<(Group, Vec<Missing>)> {
        let mut group = Group::default();
        let mut missing = Vec::new();
        let made = self.fill(&place, limits, &mut group, &mut missing);
        if let Err(e) = made {
            group.remove();
            return Err(e);
        }
        Ok((group, missing))
    }

    fn fill(
        &self,
        place: &impl Fn(&Path) -> PathBuf,
        limits: &Limits,
        group: &mut Group,
        missing: &mut Vec<Missing>,
    ) -> io::Result<()> {
        if let Some(parent) = &self.v2 {
            let dir = place(&parent.dir);
            make_dir(&dir)?;
            group.v2 = Some(dir);
        }
        for parent in &self.v1 {
            let dir = place(&parent.dir);
            if !group.v1.iter().any(|(_, made)| *made == dir) {
                make_dir(&dir)?;
            }
            group.v1.push((parent.controller, dir));
        }
        *missing = self.limit(group, &self.capped(limits));
        Ok(())
    }

    /// Sets the limits of a group; tells which could not be set.
    fn limit(&self, group: &Group, limits: &Limits) -> Vec<Missing> {
        let mut set: Vec<&str> = Vec::new();
        let mut missing: Vec<Missing> = Vec::new();
        let mut note = |limit: &'static str, result: io::Result<()>| match result {
            Ok(()) => set.push(limit),
            Err(e) => missing.push((limit, e.to_string())),
        };
        if let (Some(parent), Some(dir)) = (&self.v2, &group.v2) {
            for limit in &parent.limits {
                note(limit, v2::set(dir, limit, limits));
            }
        }
        for (controller, dir) in &group.v1 {
            if let Some(limit) = controller.limit() {
                note(limit, v1::set(dir, *controller, limits));
            }
        }
        let wanted = limits.io_weight.map(|_| IO_WEIGHT);
        for limit in LIMITS.into_iter().chain(wanted) {
            if !set.contains(&limit) && !missing.iter().any(|(m, _)| *m == limit) {
                missing.push((limit, self.why_not(limit)));
            }
        }
        missing
    }

    /// Why there is no group with this limit: the reason of the kernel, or that the host has no such controller.
    fn why_not(&self, limit: &str) -> String {
        let known = self.why.iter().find(|(of, _)| *of == limit).map(|(_, why)| why.clone());
        known.unwrap_or_else(|| format!("no {} controller", if limit == IO_WEIGHT { "io" } else { limit }))
    }

    /// The group at a place below each parent, as far as it is there.
    fn at(&self, place: impl Fn(&Path) -> PathBuf) -> Group {
        let there = |dir: PathBuf| dir.is_dir().then_some(dir);
        Group {
            v2: self.v2.as_ref().and_then(|p| there(place(&p.dir))),
            v1: self.v1.iter().filter_map(|p| Some((p.controller, there(place(&p.dir))?))).collect(),
        }
    }

    /// The group that an earlier shim made for an execution, as far as it is still there: in the group of all, or beside it,
    /// where launchers before this one made it.
    pub(crate) fn find(&self, execution: &ExecutionId) -> Group {
        let name = name_of(execution);
        self.at(|dir| {
            let now = dir.join(self.actions()).join(&name);
            if now.is_dir() { now } else { dir.join(&name) }
        })
    }

    /// What can be enforced, found out with a group that is made for it.
    pub(crate) fn probe(&self, required: bool, root: bool) -> (Enforcement, Vec<Missing>) {
        let kind = match (&self.v2, self.v1.is_empty()) {
            (None, true) => "none",
            (None, false) => "v1",
            (Some(_), true) => "v2",
            (Some(_), false) => "hybrid",
        };
        let mut found = Enforcement { cgroups: kind.to_owned(), run_as: root, required, ..Enforcement::default() };
        let name = format!("bolt-probe-{}", std::process::id());
        let mut missing = match self.create(&name, &Limits { io_weight: Some(100), ..Limits::default() }) {
            Ok((group, missing)) => {
                found.cgroup_kill = group.v2.as_ref().is_some_and(|dir| dir.join("cgroup.kill").exists());
                group.remove();
                missing
            }
            Err(e) => LIMITS.map(|limit| (limit, format!("no cgroup can be made: {e}"))).to_vec(),
        };
        let has = |limit| !missing.iter().any(|(m, _)| *m == limit);
        (found.memory, found.cpu, found.pids) = (has("memory"), has("cpu"), has("pids"));
        if LIMITS.iter().all(|limit| !has(limit)) && !found.cgroup_kill {
            found.cgroups = "none".to_owned();
        }
        found.io_weight = has(IO_WEIGHT) && found.cgroups != "none";
        // Nobody misses it who did not ask for it.
        missing.retain(|(limit, _)| *limit != IO_WEIGHT);
        found.groups = self.places();
        (found, missing)
    }

    /// Where the groups of executions are.
    fn places(&self) -> Vec<CgroupDirectory> {
        let path = |dir: &Path| dir.join(self.actions());
        let v2 = self.v2.iter().map(|p| CgroupDirectory { version: 2, controller: None, path: path(&p.dir) });
        let v1 = self.v1.iter().map(|p| CgroupDirectory {
            version: 1,
            controller: Some(p.controller.name().to_owned()),
            path: path(&p.dir),
        });
        v2.chain(v1).collect()
    }

    fn actions(&self) -> String {
        format!("{ACTIONS}{}", self.suffix)
    }
}

/// The name of an execution's group.
pub(crate) fn name_of(execution: &ExecutionId) -> String {
    format!("bolt-{execution}")
}

fn make_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir(dir).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", dir.display())))
}

/// Writes one value into a control file.
fn control(dir: &Path, file: &str, value: &str) -> io::Result<()> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", dir.join(file).display()));
    let mut opened = OpenOptions::new().write(true).open(dir.join(file)).map_err(named)?;
    opened.write_all(value.as_bytes()).map_err(named)
}

/// The number behind `key` in a file of `key number` lines.
fn keyed(dir: &Path, file: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(dir.join(file)).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The number that a file consists of.
fn number(dir: &Path, file: &str) -> Option<u64> {
    fs::read_to_string(dir.join(file)).ok()?.trim().parse().ok()
}
