//! `Kill` requests: passed to the shim by a file, or carried out here when the shim has died.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use packs_schema::agent::execution::file;
use packs_schema::agent::launch::Refusal;
use packs_schema::base::name::ExecutionId;

use crate::dir::Dir;
use crate::host::Host;
use crate::refusal::{Refused, refuse};
use crate::{execution_dir, proc, runtime_dir, shim, sys};

/// Consecutive searches that must find no process: a single one may miss a process that forks and exits meanwhile.
const EMPTY_SEARCHES: u32 = 3;
/// Maximum time to wait for the processes of a dead shim. The launcher does nothing else meanwhile.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Stops an execution, or asks its shim to stop it. Idempotent; does nothing for an execution that has ended or never started.
pub(crate) fn kill(host: &Host, execution: &ExecutionId) -> Result<(), Refused> {
    host.accepted.remove(execution);
    // Below, things that were made for it may be removed.
    host.preparations.discard_execution(execution, &host.runtime, &host.shims);
    let directory = execution_dir::open(host, execution)?;
    let failed = |e: Errno| Refused {
        code: Refusal::Resources,
        message: format!("cannot read the state of execution {execution}: {e}"),
    };
    if directory.has(file::EXIT).map_err(failed)? {
        return Ok(());
    }
    let lock = match directory.file(file::LOCK) {
        Ok(lock) => lock,
        Err(Errno::ENOENT) => return Ok(()),
        Err(e) => return Err(failed(e)),
    };
    if execution_dir::is_locked(&lock) {
        return create_kill_file(&directory).or_else(|on_disk| {
            // On a full disk, the file in the run-time directory, which the shim watches as well, stops the execution.
            host.runtime.dir(execution.as_str()).and_then(|runtime| create_kill_file(&runtime)).or_else(|e| {
                let message = format!(
                    "cannot ask the shim of execution {execution} to stop: {on_disk}; in the run-time directory: {e}"
                );
                refuse(Refusal::Resources, message)
            })
        });
    }
    let group = host.tree.find(execution);
    // Only an exit record makes processes kept. The shim died without one, so those that it has moved are killed as well.
    let leftovers = host.tree.find_leftover_group(execution);
    group.kill(KILL_TIMEOUT);
    if !leftovers.members().is_empty() {
        leftovers.kill(KILL_TIMEOUT);
    }
    let left = kill_orphans(host, execution) + group.members().len() + leftovers.members().len();
    group.remove();
    leftovers.remove();
    if left > 0 {
        return refuse(
            Refusal::Resources,
            format!("{left} processes of execution {execution} are still running after SIGKILL"),
        );
    }
    runtime_dir::remove(&host.runtime, execution);
    Ok(())
}

fn create_kill_file(directory: &Dir) -> nix::Result<()> {
    match directory.make_file(file::KILL, 0o644, OFlag::O_WRONLY) {
        Ok(_) | Err(Errno::EEXIST) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Kills processes that a dead shim left outside its cgroup, or on a host without cgroups. Returns the number of survivors.
fn kill_orphans(host: &Host, execution: &ExecutionId) -> usize {
    if let Some(uids) = &host.uids
        && let Some(uid) = uids.uid_of(execution)
    {
        return uids.kill_and_release(uid, KILL_TIMEOUT);
    }
    let Some(uid) = runtime_dir::read_account(&host.runtime, execution) else { return 0 };
    let begun = Instant::now();
    let mut empty_searches = 0;
    while empty_searches < EMPTY_SEARCHES && begun.elapsed() <= KILL_TIMEOUT {
        let found = orphans(execution, uid);
        empty_searches = if found.is_empty() { empty_searches + 1 } else { 0 };
        for pidfd in found {
            let _ = sys::pidfd_signal(&pidfd, Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    orphans(execution, uid).len()
}

/// Finds processes of an execution by the user id, which other processes may share: those that have the execution's result file
/// open, and their descendants. A process that has closed the file is missed: this is a fallback for hosts without cgroups.
fn orphans(execution: &ExecutionId, uid: u32) -> Vec<OwnedFd> {
    let name = shim::result::name(execution);
    let mut pids: Vec<Pid> =
        proc::alive_with_uid(uid).into_iter().filter(|pid| proc::has_memory_file(*pid, &name)).collect();
    for pid in pids.clone() {
        proc::add_descendants(pid, &mut pids);
    }
    let is_candidate = |pid: &Pid| proc::has_uid(*pid, uid) && proc::is_alive(*pid);
    // Checked again after the pidfd was opened, because the pid may have been reused in between.
    let opened = pids.into_iter().filter_map(|pid| Some((pid, sys::pidfd_open(pid).ok()?)));
    opened.filter(|(pid, _)| is_candidate(pid)).map(|(_, pidfd)| pidfd).collect()
}
