//! Cgroups: one per execution, in all cgroup hierarchies of the host (v1, v2 or hybrid).
//!
//! ```text
//!  <parent>                 execution.cgroup, or the launcher's own group
//!    ├─ bolt-actions        limits on all executions together (see `total`)
//!    │    └─ bolt-<id>      limits of one execution; joined by the child before exec
//!    ├─ bolt-kept-<id>      leftover processes that outlive their execution, without its limits (see `leftover_group`)
//!    ├─ bolt-api, bolt-sync the agent's own, when the parent is the launcher's own group
//!    └─ bolt-<id>           made by launchers of earlier releases: found, but not created any more
//!
//!  detect ──▶ Tree ──create_total──create(id, limits)──▶ Group ──▶ join, count, kill, counters, remove
//!                └──find(id)───────────────────────────────┘
//! ```
//!
//! An execution's group is called `bolt-<id>`, so that the processes of a dead shim can be found without a stored number. A limit
//! counts as enforced only if the kernel accepted it.

mod agent_groups;
mod control;
mod detect;
mod group;
mod leftover_group;
mod total;
mod tree;
mod v1;
mod v2;

pub(crate) use agent_groups::AgentGroups;
pub(crate) use control::{Counters, IO_WEIGHT, Unenforced};
pub(crate) use detect::detect;
pub(crate) use group::{CgroupFds, Group};
pub(crate) use total::suffix;
pub(crate) use tree::{TotalShare, Tree, name_of};
