//! A `Kill` request: told to the shim when there is one, done here when its shim has died.

use std::fs::{File, TryLockError};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use packs_schema::launch::Refusal;
use packs_schema::name::ExecutionId;
use packs_schema::run::file;

use crate::host::Host;
use crate::start::{self, Refused, refuse};

/// How long the launcher waits for what a dead shim left behind; its other work stands still meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);

/// Stops an execution, or sees to it that somebody does.
pub(crate) fn kill(host: &Host, execution: &ExecutionId) -> Result<(), Refused> {
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
        return match directory.make_file(file::KILL, 0o644, OFlag::O_WRONLY) {
            Ok(_) | Err(Errno::EEXIST) => Ok(()),
            Err(e) => refuse(Refusal::Resources, format!("execution {execution} cannot be told to stop: {e}")),
        };
    }
    let group = host.tree.find(execution);
    group.kill(PATIENCE);
    let left = group.members().len();
    group.remove();
    start::discard_runtime(host, execution.as_str());
    if left == 0 { Ok(()) } else { refuse(Refusal::Resources, format!("{left} processes of {execution} do not end")) }
}

/// Whether a shim lives. Tried with a shared lock, so that two who look do not take each other for one.
fn is_held(lock: &File) -> bool {
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
}
