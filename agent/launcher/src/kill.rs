//! A `Kill` request: told to the shim when there is one, done here when its shim has died.

use std::fs::{File, TryLockError};
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
use crate::start::{self, Refused, refuse};
use crate::{proc, shim, sys};

/// Searches in a row that find nobody: one alone may miss a process that forks and ends meanwhile.
const SEARCHES: u32 = 3;
/// How long the launcher waits for what a dead shim left behind; its other work stands still meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

/// Stops an execution, or sees to it that somebody does.
pub(crate) fn kill(host: &Host, execution: &ExecutionId) -> Result<(), Refused> {
    host.accepted.forget(execution);
    let directory = start::open_directory(host, execution)?;
    let failed = |e: Errno| Refused {
        code: Refusal::Resources,
        message: format!("execution {execution} cannot be examined: {e}"),
    };
    if directory.has(file::EXIT).map_err(failed)? {
        return Ok(());
    }
    let lock = match directory.file(file::LOCK) {
        Ok(lock) => lock,
        Err(Errno::ENOENT) => return Ok(()),
        Err(e) => return Err(failed(e)),
    };
    if is_held(&lock) {
        return tell(&directory).or_else(|on_disk| {
            // A disk that takes no file must not keep an execution running: its shim looks in memory as well.
            host.runtime.dir(execution.as_str()).and_then(|runtime| tell(&runtime)).or_else(|e| {
                let message = format!("execution {execution} cannot be told to stop: {on_disk}; in memory: {e}");
                refuse(Refusal::Resources, message)
            })
        });
    }
    let group = host.tree.find(execution);
    // The shim died without an exit record, so nothing says of what it moved there that it was kept.
    let kept = host.tree.find_kept(execution);
    group.kill(PATIENCE);
    if !kept.members().is_empty() {
        kept.kill(PATIENCE);
    }
    let left = kill_strays(host, execution) + group.members().len() + kept.members().len();
    group.remove();
    kept.remove();
    if left > 0 {
        return refuse(Refusal::Resources, format!("{left} processes of {execution} do not end"));
    }
    start::discard_runtime(host, execution.as_str());
    Ok(())
}

fn tell(directory: &Dir) -> nix::Result<()> {
    match directory.make_file(file::KILL, 0o644, OFlag::O_WRONLY) {
        Ok(_) | Err(Errno::EEXIST) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Whether a shim lives. Tried with a shared lock, so that two who look do not take each other for one.
fn is_held(lock: &File) -> bool {
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Kills what a dead shim left outside a group, or where there are no groups; the number of those that do not end.
fn kill_strays(host: &Host, execution: &ExecutionId) -> usize {
    if let Some(uids) = &host.uids
        && let Some(uid) = uids.of(execution)
    {
        return uids.clean_up(uid, PATIENCE);
    }
    let Some(account) = account_of(host, execution) else { return 0 };
    let begun = Instant::now();
    let mut in_vain = 0;
    while in_vain < SEARCHES && begun.elapsed() <= PATIENCE {
        let found = strays(execution, account);
        in_vain = if found.is_empty() { in_vain + 1 } else { 0 };
        for pidfd in found {
            let _ = sys::pidfd_signal(&pidfd, Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    strays(execution, account).len()
}

/// The user id that its launcher noted.
fn account_of(host: &Host, execution: &ExecutionId) -> Option<u32> {
    let runtime = host.runtime.dir(execution.as_str()).ok()?;
    let (bytes, _) = runtime.read(start::ACCOUNT, 16).ok()?;
    String::from_utf8(bytes).ok()?.trim().parse().ok()
}

/// Processes of an account that share it with others: those that hold the execution's result file, and their descendants.
/// One may have closed it, so this is a second net only; one that opened a file of that name asks for its own end.
fn strays(execution: &ExecutionId, account: u32) -> Vec<OwnedFd> {
    let name = shim::result::name(execution);
    let mut pids: Vec<Pid> =
        proc::living_of(account).into_iter().filter(|pid| proc::has_memory_file(*pid, &name)).collect();
    for pid in pids.clone() {
        shim::stop::descendants(pid, &mut pids);
    }
    let still = |pid: &Pid| proc::has_account(*pid, account) && proc::is_alive(*pid);
    // Looked at again once it is held: the number may have gone to another process in between.
    let held = pids.into_iter().filter_map(|pid| Some((pid, sys::pidfd_open(pid).ok()?)));
    held.filter(|(pid, _)| still(pid)).map(|(_, pidfd)| pidfd).collect()
}
