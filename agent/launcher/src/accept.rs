//! `Accept` requests: the api reports an execution that waits for a slot while its version is active, so that it can still be
//! started after the version was replaced.

use packs_schema::agent::execution::file;
use packs_schema::agent::launch::{Refusal, Start};
use packs_schema::base::name::ExecutionId;

use crate::host::Host;
use crate::refusal::{Refused, refuse};
use crate::{execution_dir, start};

/// Records allowed beyond `execution.max_queued`, for executions that ended without a start and are not pruned yet.
const MARGIN: usize = 1024;

/// Records a request whose version is active now. Idempotent.
pub(crate) fn accept(host: &Host, start: &Start) -> Result<(), Refused> {
    let accepted = &host.accepted;
    if accepted.has_record(&start.execution) {
        return Ok(());
    }
    start::check_active(host, start)?;
    let max = MARGIN + host.config.execution.max_queued as usize;
    if accepted.count() > max {
        prune(host);
    }
    if accepted.count() > max {
        return refuse(Refusal::Resources, format!("{max} accepted executions are recorded already"));
    }
    accepted.record(start).or_else(|e| {
        let message = format!("execution {} cannot be recorded as accepted: {e}", start.execution);
        refuse(Refusal::Resources, message)
    })
}

/// Removes the records of executions that were started or have ended according to their directories, which the api can write:
/// a false entry there only removes what the api may start.
pub(crate) fn prune(host: &Host) {
    host.accepted.retain(|execution| is_waiting(host, execution));
}

fn is_waiting(host: &Host, execution: &ExecutionId) -> bool {
    execution_dir::open(host, execution).is_ok_and(|directory| {
        let exists = |name| directory.has(name).unwrap_or(true);
        !exists(file::LOCK) && !exists(file::EXIT)
    })
}
