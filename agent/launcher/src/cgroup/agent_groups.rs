//! Cgroups of api and sync, so that excessive use of memory or processor time by one of them does not affect the host.
//!
//! Created only when the launcher's own group is the parent of all groups. A parent named in the configuration belongs to a unit
//! for executions (`bolt-executions.service`); then the limits of the agent's own unit apply.

use std::path::Path;

use packs_schema::base::quantity::{Bytes, CpuShare};
use packs_schema::pack::action::Limits;

use super::control::make_dir_if_absent;
use super::group::Group;
use super::tree::Tree;
use crate::log;

/// Maximum number of threads of the api: its own, those of the history, and the blocking pool of its runtime.
const API_PIDS: u32 = 600;
/// Maximum number of processes and threads of the sync, including those that build a virtual environment.
const SYNC_PIDS: u32 = 64;
/// Memory limit of the sync, including the page cache of unpacked files; its own limit is half of it.
const SYNC_MEMORY: Bytes = Bytes(512 << 20);
/// Processor limit of each: one processor.
const CPU: CpuShare = CpuShare(1000);

/// The groups of api and sync; without directories when there is none.
#[derive(Debug, Default)]
pub(crate) struct AgentGroups {
    pub(crate) api: Group,
    pub(crate) sync: Group,
}

impl AgentGroups {
    /// Creates the groups. Failures are only logged, because the launcher's unit has limits too.
    pub(crate) fn create(tree: &Tree, api_memory: Bytes) -> AgentGroups {
        let limits = |memory, pids| Limits { memory, cpu: CPU, pids, ..Limits::default() };
        AgentGroups {
            api: tree.agent_group("bolt-api", &limits(api_memory, API_PIDS)),
            sync: tree.agent_group("bolt-sync", &limits(SYNC_MEMORY, SYNC_PIDS)),
        }
    }

    /// Removes the groups, after their processes have ended.
    pub(crate) fn remove(&self) {
        self.api.remove();
        self.sync.remove();
    }
}

impl Tree {
    /// Creates a group, or reuses the one that a crash left behind.
    fn agent_group(&self, name: &str, limits: &Limits) -> Group {
        if !self.own {
            return Group::default();
        }
        let dir_in = |dir: &Path| dir.join(format!("{name}{}", self.suffix));
        for parent in self.parents() {
            let _ = make_dir_if_absent(&dir_in(parent));
        }
        let group = self.existing(dir_in);
        for (limit, why) in self.set_limits(&group, limits) {
            log::warn("limit of the agent is not enforced", &[("group", &name), ("limit", &limit), ("reason", &why)]);
        }
        group
    }
}
