//! The directory of an execution. The api creates it in its state directory; launcher and shim write records into it.

use std::fs::{File, TryLockError};

use nix::errno::Errno;
use packs_schema::agent::launch::Refusal;
use packs_schema::base::name::ExecutionId;

use crate::dir::{Dir, WRITABLE_BY_OTHERS};
use crate::host::Host;
use crate::refusal::{Refused, refuse};

/// Opens the directory of an execution. It and its parent must belong to the api.
pub(crate) fn open(host: &Host, execution: &ExecutionId) -> Result<Dir, Refused> {
    let parent = host.config.paths.executions();
    let failed = |e: Errno| Refused {
        code: Refusal::NoDirectory,
        message: format!("cannot open the directory of execution {execution} in {}: {e}", parent.display()),
    };
    let executions = Dir::open(&parent).map_err(failed)?;
    let directory = executions.dir(execution.as_str()).map_err(failed)?;
    for dir in [&executions, &directory] {
        let stat = dir.stat().map_err(failed)?;
        let wanted = host.api.uid.as_raw();
        if stat.st_uid != wanted || stat.st_mode & WRITABLE_BY_OTHERS != 0 {
            let (path, owner, mode) = (dir.path().display(), stat.st_uid, stat.st_mode & 0o7777);
            let message = format!(
                "{path} does not belong to the api: owner {owner}, mode {mode:o}; expected owner {wanted}, not writable by \
                 group or others"
            );
            return refuse(Refusal::NoDirectory, message);
        }
    }
    Ok(directory)
}

/// Returns true if a shim holds the lock. Tests with a shared lock, so that two tests at once do not see each other.
pub(crate) fn is_locked(lock: &File) -> bool {
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
}
