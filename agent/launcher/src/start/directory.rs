//! The execution's directory, which the api has made, the lock in it, which makes "at most once" true, and the room for
//! its end, without which nothing is started.

use std::fs::{File, TryLockError};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use packs_schema::agent::execution::file;
use packs_schema::agent::launch::Refusal;
use packs_schema::base::name::ExecutionId;

use super::{Refused, refuse};
use crate::dir::{Dir, LAX};
use crate::host::Host;
use crate::shim::Room;

/// An execution that nobody else can start any more.
pub(super) struct Claim {
    pub(super) directory: Dir,
    /// Locked exclusively, for as long as any process has it open.
    pub(super) lock: File,
    pub(super) room: Room,
}

impl Claim {
    /// Nothing was started after all.
    pub(super) fn release(&self) {
        Room::give_back(&self.directory);
        let _ = self.directory.remove_file(file::LOCK);
    }
}

/// Opens the directory of an execution; it and the directory that it is in must be the api's.
pub(crate) fn open(host: &Host, execution: &ExecutionId) -> Result<Dir, Refused> {
    let at = host.config.paths.executions();
    let failed = |e: Errno| Refused {
        code: Refusal::NoDirectory,
        message: format!("the directory of execution {execution} in {} cannot be opened: {e}", at.display()),
    };
    let executions = Dir::open(&at).map_err(failed)?;
    let directory = executions.dir(execution.as_str()).map_err(failed)?;
    for dir in [&executions, &directory] {
        let stat = dir.stat().map_err(failed)?;
        let wanted = host.api.uid.as_raw();
        if stat.st_uid != wanted || stat.st_mode & LAX != 0 {
            let (path, owner, mode) = (dir.path().display(), stat.st_uid, stat.st_mode & 0o7777);
            let message = format!(
                "{path} is not the api's: owner {owner}, mode {mode:o}; wanted owner {wanted}, not writable by others"
            );
            return refuse(Refusal::NoDirectory, message);
        }
    }
    Ok(directory)
}

/// Takes an execution. Of all who try, one succeeds, ever.
pub(super) fn claim(host: &Host, execution: &ExecutionId) -> Result<Claim, Refused> {
    let directory = open(host, execution)?;
    let lock = match directory.make_file(file::LOCK, 0o644, OFlag::O_RDWR) {
        Ok(lock) => lock,
        Err(Errno::EEXIST) => {
            return refuse(Refusal::AlreadyStarted, format!("execution {execution} has been started before"));
        }
        Err(e) => return refuse(Refusal::Resources, format!("the lock of execution {execution} cannot be made: {e}")),
    };
    let room = match Room::take(&directory) {
        Ok(room) => room,
        Err(e) => {
            let _ = directory.remove_file(file::LOCK);
            let message = format!("there is no room to write down how execution {execution} ends: {e}");
            return refuse(Refusal::Resources, message);
        }
    };
    let claim = Claim { directory, lock, room };
    // Someone may be testing the new lock at this moment.
    for _ in 0..20 {
        match claim.lock.try_lock() {
            Ok(()) => return Ok(claim),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
            Err(TryLockError::Error(_)) => break,
        }
    }
    claim.release();
    refuse(Refusal::Resources, format!("the lock of execution {execution} cannot be taken"))
}
