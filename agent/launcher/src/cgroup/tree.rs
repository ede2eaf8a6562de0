//! The parent groups in all hierarchies, in which the groups of executions are created and found.

use std::io;
use std::path::{Path, PathBuf};

use packs_schema::agent::rest::{CgroupDirectory, Enforcement};
use packs_schema::base::name::ExecutionId;
use packs_schema::base::quantity::{Bytes, CpuShare};
use packs_schema::pack::action::Limits;

use super::control::{IO_WEIGHT, LIMITS, Unenforced, make_dir};
use super::group::Group;
use super::{v1, v2};

/// The parent groups of one launcher.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    /// Parent directory in the v2 hierarchy.
    pub(super) v2: Option<v2::Parent>,
    /// Parent directories in the v1 hierarchies.
    pub(super) v1: Vec<v1::Parent>,
    /// Parent directories in v1 hierarchies that this launcher does not need, in which one of an earlier release created groups.
    pub(super) v1_earlier: Vec<v1::Parent>,
    /// True if the parent is the launcher's own group.
    pub(super) own: bool,
    /// Suffix of the name of each group directly below the parent, different for each launcher of a host.
    pub(super) suffix: String,
    /// Limits of all executions together.
    pub(super) total: Option<TotalShare>,
    /// Limits whose controllers the host has but that cannot be used here, with the reason.
    pub(super) unusable: Vec<Unenforced>,
}

/// Maximum resources of all executions together, in numbers of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TotalShare {
    pub(crate) memory: Bytes,
    pub(crate) cpu: CpuShare,
    pub(crate) pids: u32,
}

/// Name of the group of all executions, without suffix.
pub(super) const ACTIONS: &str = "bolt-actions";

impl Tree {
    /// Creates the group of an execution. Returns the limits that could not be set.
    pub(crate) fn create(&self, name: &str, limits: &Limits) -> io::Result<(Group, Vec<Unenforced>)> {
        let dir_in = |dir: &Path| dir.join(self.actions()).join(name);
        // The last shim of a launcher that has ended removes the group of all executions, possibly at this moment. A restart of the
        // unit that holds the groups makes a new parent, which delegates nothing yet.
        for _ in 0..3 {
            match self.make(dir_in, limits) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    if let Some(parent) = &self.v2 {
                        v2::delegate(&parent.dir, &parent.limits, false);
                    }
                    drop(self.make_total_group());
                }
                made => return made,
            }
        }
        self.make(dir_in, limits)
    }

    fn make(&self, dir_in: impl Fn(&Path) -> PathBuf, limits: &Limits) -> io::Result<(Group, Vec<Unenforced>)> {
        let mut group = Group::default();
        let mut unenforced = Vec::new();
        let made = self.fill(&dir_in, limits, &mut group, &mut unenforced);
        if let Err(e) = made {
            group.remove();
            return Err(e);
        }
        Ok((group, unenforced))
    }

    fn fill(
        &self,
        dir_in: &impl Fn(&Path) -> PathBuf,
        limits: &Limits,
        group: &mut Group,
        unenforced: &mut Vec<Unenforced>,
    ) -> io::Result<()> {
        if let Some(parent) = &self.v2 {
            let dir = dir_in(&parent.dir);
            make_dir(&dir)?;
            group.v2 = Some(dir);
        }
        for parent in &self.v1 {
            let dir = dir_in(&parent.dir);
            if !group.v1.iter().any(|(_, made)| *made == dir) {
                make_dir(&dir)?;
            }
            group.v1.push((parent.controller, dir));
        }
        *unenforced = self.set_limits(group, &self.capped(limits));
        Ok(())
    }

    /// Sets the limits of a group. Returns those that could not be set.
    pub(super) fn set_limits(&self, group: &Group, limits: &Limits) -> Vec<Unenforced> {
        let mut set: Vec<&str> = Vec::new();
        let mut unenforced: Vec<Unenforced> = Vec::new();
        let mut record = |limit: &'static str, result: io::Result<()>| match result {
            Ok(()) => set.push(limit),
            Err(e) => unenforced.push((limit, e.to_string())),
        };
        if let (Some(parent), Some(dir)) = (&self.v2, &group.v2) {
            for limit in &parent.limits {
                record(limit, v2::set(dir, limit, limits));
            }
        }
        for (controller, dir) in &group.v1 {
            if let Some(limit) = controller.limit() {
                record(limit, v1::set(dir, *controller, limits));
            }
        }
        let weight = limits.io_weight.map(|_| IO_WEIGHT);
        for limit in LIMITS.into_iter().chain(weight) {
            if !set.contains(&limit) && !unenforced.iter().any(|(known, _)| *known == limit) {
                unenforced.push((limit, self.reason(limit)));
            }
        }
        unenforced
    }

    /// Returns the reason why a limit cannot be set: the recorded one, or that the host has no such controller.
    fn reason(&self, limit: &str) -> String {
        let known = self.unusable.iter().find(|(of, _)| *of == limit).map(|(_, why)| why.clone());
        known.unwrap_or_else(|| format!("no {} controller", if limit == IO_WEIGHT { "io" } else { limit }))
    }

    /// Returns the existing directories of a group; `dir_in` maps a parent to the directory.
    pub(super) fn existing(&self, dir_in: impl Fn(&Path) -> PathBuf) -> Group {
        let existing = |dir: PathBuf| dir.is_dir().then_some(dir);
        Group {
            v2: self.v2.as_ref().and_then(|p| existing(dir_in(&p.dir))),
            v1: self
                .v1
                .iter()
                .chain(&self.v1_earlier)
                .filter_map(|p| Some((p.controller, existing(dir_in(&p.dir))?)))
                .collect(),
        }
    }

    /// Finds the group of an execution: in the group of all executions, or beside it, where launchers of earlier releases created it.
    pub(crate) fn find(&self, execution: &ExecutionId) -> Group {
        let name = name_of(execution);
        self.existing(|dir| {
            let current = dir.join(self.actions()).join(&name);
            if current.is_dir() { current } else { dir.join(&name) }
        })
    }

    /// Determines which limits can be enforced, by creating a temporary group.
    pub(crate) fn probe(&self, required: bool, root: bool) -> (Enforcement, Vec<Unenforced>) {
        let kind = match (&self.v2, self.v1.is_empty()) {
            (None, true) => "none",
            (None, false) => "v1",
            (Some(_), true) => "v2",
            (Some(_), false) => "hybrid",
        };
        let mut found = Enforcement { cgroups: kind.to_owned(), run_as: root, required, ..Enforcement::default() };
        let name = format!("bolt-probe-{}", std::process::id());
        let mut unenforced = match self.create(&name, &Limits { io_weight: Some(100), ..Limits::default() }) {
            Ok((group, unenforced)) => {
                found.cgroup_kill = group.v2.as_ref().is_some_and(|dir| dir.join("cgroup.kill").exists());
                group.remove();
                unenforced
            }
            Err(e) => LIMITS.map(|limit| (limit, format!("cannot create a cgroup: {e}"))).to_vec(),
        };
        let has = |limit| !unenforced.iter().any(|(known, _)| *known == limit);
        (found.memory, found.cpu, found.pids) = (has("memory"), has("cpu"), has("pids"));
        if LIMITS.iter().all(|limit| !has(limit)) && !found.cgroup_kill {
            found.cgroups = "none".to_owned();
        }
        found.io_weight = has(IO_WEIGHT) && found.cgroups != "none";
        // Only actions that ask for a weight report it as not enforced.
        unenforced.retain(|(limit, _)| *limit != IO_WEIGHT);
        found.groups = self.places();
        (found, unenforced)
    }

    /// Returns the directories that contain the groups of executions.
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

    pub(super) fn actions(&self) -> String {
        format!("{ACTIONS}{}", self.suffix)
    }
}

/// Returns the name of an execution's group.
pub(crate) fn name_of(execution: &ExecutionId) -> String {
    format!("bolt-{execution}")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn groups_of_earlier_releases_are_found_in_hierarchies_that_are_not_used() {
        let top = tempfile::tempdir().unwrap();
        let parent = |controller: v1::Controller| v1::Parent { controller, dir: top.path().join(controller.name()) };
        let tree = Tree {
            v1: vec![parent(v1::Controller::Pids)],
            v1_earlier: vec![parent(v1::Controller::Freezer)],
            ..Tree::default()
        };
        let execution: ExecutionId = "01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa".parse().unwrap();
        for hierarchy in ["pids", "freezer"] {
            fs::create_dir_all(top.path().join(hierarchy).join(ACTIONS)).unwrap();
        }
        let (made, _) = tree.create(&name_of(&execution), &Limits::default()).unwrap();
        assert_eq!(made.dirs().count(), 1, "none in the other hierarchy");
        fs::create_dir(top.path().join("freezer").join(ACTIONS).join(name_of(&execution))).unwrap();
        assert_eq!(tree.find(&execution).dirs().count(), 2);
    }
}
