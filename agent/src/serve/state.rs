//! State directory: owned by the api's account, not writable by others, and locked by one agent at a time.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

/// Lock file of the agent that uses the directory.
const LOCK: &str = "state.lock";
/// File with the address on which the interface listens.
const ADDRESS: &str = "api.address";

/// Error returned when the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum StateError {
    #[error("cannot open the state directory {0:?}")]
    Open(PathBuf, #[source] io::Error),
    #[error("the state directory {path:?} belongs to user {owner}, not to user {us} that runs the api: run `chown {us} {}`", .path.display())]
    WrongOwner { path: PathBuf, owner: u32, us: u32 },
    #[error("the state directory {path:?} may be written by others (mode {mode:04o}): run `chmod 0700 {}`", .path.display())]
    Lax { path: PathBuf, mode: u32 },
    #[error(
        "the state directory {0:?} is in use by a running agent: stop that one, or give this one its own paths.state"
    )]
    InUse(PathBuf),
    #[error("cannot write {0:?}")]
    Write(PathBuf, #[source] io::Error),
}

/// State directory, locked until this is dropped.
#[derive(Debug)]
pub(super) struct State {
    path: PathBuf,
    _lock: Flock<File>,
}

impl State {
    /// Checks the directory, locks it, and creates what is missing in it.
    pub(super) fn lock(path: &Path) -> Result<State, StateError> {
        check(path)?;
        let lock = path.join(LOCK);
        let flags = OFlag::O_NOFOLLOW.bits();
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
        let file = options.open(&lock).map_err(|e| StateError::Write(lock.clone(), e))?;
        let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => held,
            Err((_, Errno::EWOULDBLOCK)) => return Err(StateError::InUse(path.to_owned())),
            Err((_, errno)) => return Err(StateError::Write(lock, errno.into())),
        };
        let executions = path.join("exec");
        match DirBuilder::new().mode(0o700).create(&executions) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(StateError::Write(executions, e)),
            _ => check(&executions)?,
        }
        Ok(State { path: path.to_owned(), _lock: lock })
    }

    /// Writes the address on which the interface listens.
    pub(super) fn write_address(&self, address: SocketAddr) -> Result<(), StateError> {
        let temporary = self.path.join(format!("{ADDRESS}.new"));
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&temporary)?;
            writeln!(file, "{address}")?;
            std::fs::rename(&temporary, self.path.join(ADDRESS))
        };
        write().map_err(|e| StateError::Write(temporary.clone(), e))
    }

    /// Removes the address.
    pub(super) fn remove_address(&self) {
        if let Err(error) = std::fs::remove_file(self.path.join(ADDRESS))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "cannot remove {ADDRESS}");
        }
    }
}

fn check(path: &Path) -> Result<(), StateError> {
    let failed = |e: io::Error| StateError::Open(path.to_owned(), e);
    let flags = (OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits();
    let meta =
        OpenOptions::new().read(true).custom_flags(flags).open(path).and_then(|d| d.metadata()).map_err(failed)?;
    let us = nix::unistd::geteuid().as_raw();
    if meta.uid() != us {
        return Err(StateError::WrongOwner { path: path.to_owned(), owner: meta.uid(), us });
    }
    if meta.mode() & 0o022 != 0 {
        return Err(StateError::Lax { path: path.to_owned(), mode: meta.mode() & 0o7777 });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn with_mode(mode: u32) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        dir
    }

    #[test]
    fn a_state_directory_is_used_by_one_agent_at_a_time() {
        let dir = with_mode(0o700);
        let first = State::lock(dir.path()).unwrap();
        assert!(matches!(State::lock(dir.path()), Err(StateError::InUse(_))));
        drop(first);
        State::lock(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let dir = with_mode(0o770);
        assert!(matches!(State::lock(dir.path()), Err(StateError::Lax { mode: 0o770, .. })));
        assert!(matches!(State::lock(&dir.path().join("none")), Err(StateError::Open(..))));
    }
}
