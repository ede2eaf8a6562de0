//! Clean-up after shims that died between their exit record and their own clean-up.
//!
//! An exit record beside a free lock says that the execution has ended and that no shim cleans up after it any more. Executions that
//! have no exit record are the business of [`crate::kill`], when the api asks for it.

use packs_schema::agent::execution::file;
use packs_schema::base::name::ExecutionId;

use crate::dir::Dir;
use crate::host::Host;
use crate::{execution_dir, log, runtime_dir};

/// Removes cgroups, leased user ids and run-time directories of executions that have ended. Anything that still has a process is
/// left for the next time.
pub(crate) fn sweep(host: &Host) {
    let names = runtime_dir::executions(&host.runtime);
    if names.is_empty() {
        return;
    }
    let Ok(executions) = Dir::open(&host.config.paths.executions()) else { return };
    for execution in names.iter().filter(|execution| is_abandoned(host, &executions, execution)) {
        let group = host.tree.find(execution);
        if !group.members().is_empty() {
            log::warn("an ended execution has processes", &[("execution", execution)]);
            continue;
        }
        group.remove();
        if let Some(uids) = &host.uids {
            uids.release_unused(execution);
        }
        runtime_dir::remove(&host.runtime, execution);
        log::info("cleaned up after a shim that died", &[("execution", execution)]);
    }
}

/// Counts the executions that have ended and still have a run-time directory.
pub(crate) fn count_ended(host: &Host) -> usize {
    let ended = |execution: &ExecutionId| {
        execution_dir::open(host, execution).is_ok_and(|directory| directory.has(file::EXIT) == Ok(true))
    };
    runtime_dir::executions(&host.runtime).iter().filter(|execution| ended(execution)).count()
}

/// Returns true if an execution has ended and no shim is at work on it. The api removes the directories of ended executions only.
fn is_abandoned(host: &Host, executions: &Dir, execution: &ExecutionId) -> bool {
    if executions.has(execution.as_str()) == Ok(false) {
        return true;
    }
    let Ok(directory) = execution_dir::open(host, execution) else { return false };
    directory.has(file::EXIT) == Ok(true)
        && directory.file(file::LOCK).is_ok_and(|lock| !execution_dir::is_locked(&lock))
}
