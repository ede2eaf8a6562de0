//! Clean-up after shims that died between the end of an execution and their own clean-up.
//!
//! A marked run-time directory without a lock says that the execution has ended and that no shim cleans up after it any more. Only
//! files of the launcher are judged, since the api can change those in the execution's directory. Executions without a mark are
//! the business of [`crate::kill`], when the api asks for it.

use nix::errno::Errno;
use packs_schema::base::name::ExecutionId;

use crate::host::Host;
use crate::{log, runtime_dir};

/// Removes cgroups, leased user ids and run-time directories of executions that have ended. Anything that still has a process is
/// left for the next time.
pub(crate) fn sweep(host: &Host) {
    for execution in runtime_dir::executions(&host.runtime).iter().filter(|execution| is_abandoned(host, execution)) {
        let group = host.tree.find(execution);
        if !group.members().is_empty() {
            log::warn("an ended execution has processes", &[("execution", execution)]);
            continue;
        }
        group.remove();
        if let Some(uids) = &host.uids {
            uids.release_or_keep(execution);
        }
        runtime_dir::remove(&host.runtime, execution);
        log::info("cleaned up after a shim that died", &[("execution", execution)]);
    }
    runtime_dir::finish_removals(&host.runtime);
}

/// Removes what a launcher that has ended left of executions that it had prepared and not started. User ids are released when their
/// records are opened.
pub(crate) fn remove_preparations(host: &Host) {
    for execution in runtime_dir::prepared(&host.runtime) {
        if host.runtime.has(execution.as_str()) == Ok(false) {
            host.tree.find(&execution).remove();
        }
        runtime_dir::remove_prepared(&host.runtime, &execution);
    }
}

/// Counts the executions that have ended and still have a run-time directory.
pub(crate) fn count_ended(host: &Host) -> usize {
    let ended = |execution: &ExecutionId| {
        host.runtime.dir(execution.as_str()).is_ok_and(|directory| runtime_dir::is_marked_ended(&directory))
    };
    runtime_dir::executions(&host.runtime).iter().filter(|execution| ended(execution)).count()
}

fn is_abandoned(host: &Host, execution: &ExecutionId) -> bool {
    let Ok(directory) = host.runtime.dir(execution.as_str()) else { return false };
    // Marked by its shim, which has it locked as long as it lives. Shims of earlier releases neither lock nor mark it.
    runtime_dir::is_marked_ended(&directory) && directory.try_lock() != Err(Errno::EWOULDBLOCK)
}
