//! Local access: which operations it offers, and to whom ([`super::local_listener`] serves it).
//!
//! Nothing can be started here, and nothing changed but by a kill: root needs no agent to run a program, and what runs through the
//! agent has a grant.

mod peer;

use super::routes::Operation;
pub(super) use peer::LocalPeer;

/// Operations of local access. All others of the route table are refused.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation::Health,
    Operation::ListExecutions,
    Operation::GetExecution,
    Operation::GetOutput,
    Operation::GetStdout,
    Operation::GetStderr,
    Operation::KillExecution,
];
