//! Groups of the agent's own processes, so that a fault in one of them is no burden to the host, and no reason for the kernel
//! to take another's process.
//!
//! Only where the launcher's own group is the parent of all: below a group that the configuration names, which a service
//! manager keeps for executions, the agent's processes have no business. There the limits of its unit hold.

use std::path::Path;

use packs_schema::base::quantity::{Bytes, CpuShare};
use packs_schema::pack::action::Limits;

use super::{Group, Tree};

/// Threads of the api: its own, those of the history, and what its runtime makes when it waits for files.
const API_PIDS: u32 = 600;
/// Processes and threads of the sync, those that make a virtual environment included.
const SYNC_PIDS: u32 = 64;
/// Memory of the sync, page cache of what it unpacks included: its own bound is half of it.
const SYNC_MEMORY: Bytes = Bytes(512 << 20);
/// Neither may take more than one processor.
const CPU: CpuShare = CpuShare(1000);

/// The groups, each of them nowhere when there is none.
#[derive(Debug, Default)]
pub(crate) struct AgentGroups {
    pub(crate) api: Group,
    pub(crate) sync: Group,
}

impl AgentGroups {
    /// Makes them; what cannot be made or limited is left out, as there is something outside that bounds the launcher.
    pub(crate) fn make(tree: &Tree, api_memory: Bytes) -> AgentGroups {
        let limits = |memory, pids| Limits { memory, cpu: CPU, pids, ..Limits::default() };
        AgentGroups {
            api: tree.agent_group("bolt-api", &limits(api_memory, API_PIDS)),
            sync: tree.agent_group("bolt-sync", &limits(SYNC_MEMORY, SYNC_PIDS)),
        }
    }

    /// Removes them, once the processes have ended.
    pub(crate) fn end(&self) {
        self.api.remove();
        self.sync.remove();
    }
}

impl Tree {
    /// Makes a group, or takes over the one that a crash left behind, with or without a process that still ends in it.
    fn agent_group(&self, name: &str, limits: &Limits) -> Group {
        if !self.own {
            return Group::default();
        }
        let place = |dir: &Path| dir.join(format!("{name}{}", self.suffix));
        for parent in self.parents() {
            let _ = super::total::take_over(&place(parent));
        }
        let there = self.at(place);
        // Those that could be made get their limits; a hierarchy in which none could is left out.
        for (limit, why) in self.limit(&there, limits) {
            crate::log::warn("limit is not set on the agent", &[("group", &name), ("limit", &limit), ("reason", &why)]);
        }
        there
    }
}
