//! Claiming an execution: the lock file, which guarantees at most one start, and the preallocated exit file, without which
//! nothing is started.

use std::fs::TryLockError;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use packs_schema::agent::execution::file;
use packs_schema::agent::launch::Refusal;
use packs_schema::base::name::ExecutionId;

use crate::dir::Dir;
use crate::execution_dir;
use crate::exit_file::ExitFile;
use crate::host::Host;
use crate::refusal::{Refused, refuse};
use crate::shim::Claim;

/// How often, a millisecond apart, the new lock is tried while another process tests it.
const LOCK_ATTEMPTS: u32 = 20;

/// Undoes the claim of the execution with this directory, when a later step of the start has failed.
pub(super) fn release(directory: &Dir) {
    ExitFile::discard(directory);
    let _ = directory.remove_file(file::LOCK);
}

/// Claims an execution. The lock file is created with `O_EXCL`: of all attempts, at most one succeeds.
pub(super) fn claim(host: &Host, execution: &ExecutionId) -> Result<Claim, Refused> {
    let directory = execution_dir::open(host, execution)?;
    let lock = match directory.make_file(file::LOCK, 0o644, OFlag::O_RDWR) {
        Ok(lock) => lock,
        Err(Errno::EEXIST) => {
            return refuse(Refusal::AlreadyStarted, format!("execution {execution} has been started before"));
        }
        Err(e) => {
            return refuse(Refusal::Resources, format!("cannot create the lock file of execution {execution}: {e}"));
        }
    };
    let exit_file = match ExitFile::preallocate(&directory) {
        Ok(exit_file) => exit_file,
        Err(e) => {
            let _ = directory.remove_file(file::LOCK);
            let message = format!("cannot preallocate the exit record of execution {execution}: {e}");
            return refuse(Refusal::Resources, message);
        }
    };
    let claim = Claim { directory, lock, exit_file };
    // The api may test the lock at this moment.
    for _ in 0..LOCK_ATTEMPTS {
        match claim.lock.try_lock() {
            Ok(()) => return Ok(claim),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
            Err(TryLockError::Error(_)) => break,
        }
    }
    release(&claim.directory);
    refuse(Refusal::Resources, format!("cannot lock execution {execution}"))
}
