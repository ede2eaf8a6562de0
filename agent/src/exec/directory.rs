//! An execution's directory as the api sees it: made here, written by the shim, read here again.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::statvfs::statvfs;
use packs_schema::agent::execution::{Exit, Spec, Started, file, reserve};
use serde::de::DeserializeOwned;

use super::Shortage;

/// The largest record that is read: a result at its limit, and what stands around it.
const MAX_RECORD: u64 = 1 << 20;

/// When a directory is looked at again that could not be for want of descriptors or memory.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The shim's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    /// No shim has come yet.
    Absent,
    /// A shim lives.
    Held,
    /// A shim was there.
    Free,
}

/// A record that may stand in the directory.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Found<T> {
    /// It does not.
    Absent,
    /// It does.
    Good(T),
    /// It does, but cannot be read.
    Damaged(String),
}

impl<T> Found<T> {
    /// The record, if it can be read.
    pub(super) fn good(self) -> Option<T> {
        match self {
            Found::Good(record) => Some(record),
            Found::Absent | Found::Damaged(_) => None,
        }
    }

    /// True if the file is there, whatever is in it.
    pub(super) fn is_there(&self) -> bool {
        !matches!(self, Found::Absent)
    }
}

/// Everything that a directory says about how its execution stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Evidence {
    /// What was to be run.
    pub(super) spec: Found<Spec>,
    /// Whether a shim lives.
    pub(super) lock: Lock,
    /// Whether it came to start the action.
    pub(super) started: Found<Started>,
    /// How it ended.
    pub(super) exit: Found<Exit>,
    /// Whether someone has asked for its end.
    pub(super) kill: bool,
}

/// Makes the directory with its `spec`. What is half made is removed again.
pub(super) fn create(directory: &Path, spec: &Spec) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(directory)?;
    let write = || {
        let mut bytes = serde_json::to_vec(spec)?;
        bytes.push(b'\n');
        let path = directory.join(file::SPEC);
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(&bytes)
    };
    write().inspect_err(|_| remove(directory))
}

/// Removes a directory and what is in it; what cannot be removed is logged.
pub(super) fn remove(directory: &Path) {
    if let Err(error) = std::fs::remove_dir_all(directory)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %directory.display(), %error, "cannot remove an execution's directory");
    }
}

/// Reads what the directory says. The lock first: a shim that has let go of it has written `exit` before. An error means
/// that the host lacks the means to look, which says nothing about the execution.
pub(super) fn evidence(directory: &Path) -> io::Result<Evidence> {
    let lock = lock(directory)?;
    Ok(Evidence {
        lock,
        started: record(&directory.join(file::STARTED))?,
        exit: record(&directory.join(file::EXIT))?,
        spec: record(&directory.join(file::SPEC))?,
        kill: directory.join(file::KILL).symlink_metadata().is_ok(),
    })
}

/// The same, for those who have nothing to do until they can look.
pub(super) async fn evidence_in_time(directory: &Path) -> Evidence {
    loop {
        match evidence(directory) {
            Ok(evidence) => return evidence,
            Err(error) => tracing::warn!(path = %directory.display(), %error, "cannot look; trying again"),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Asks for the end, for whoever has the execution now or takes it later. Done when it has been asked before.
pub(super) fn ask_to_end(directory: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(directory.join(file::KILL)) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

/// True if the end has been asked for, or has come.
pub(super) fn is_asked_to_end(directory: &Path) -> bool {
    [file::KILL, file::EXIT].iter().any(|name| directory.join(name).symlink_metadata().is_ok())
}

/// Writes how an execution without a shim ended, so that the directory says it too. Nothing is written where there is no
/// directory any more.
pub(super) fn write_exit(directory: &Path, exit: &Exit) -> io::Result<()> {
    let temporary = directory.join(file::EXIT_NEW);
    let write = || {
        let bytes = serde_json::to_vec(exit)?;
        // A shim that died has left the room for its own, a file of root's: in our directory we may remove it.
        match std::fs::remove_file(&temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?.write_all(&bytes)?;
        std::fs::rename(&temporary, directory.join(file::EXIT))
    };
    match write() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => {
            let _ = std::fs::remove_file(&temporary);
            Err(e)
        }
        Ok(()) => Ok(()),
    }
}

/// True when the disk of `directory` has only its reserve left.
pub(super) fn is_short(directory: &Path) -> bool {
    let Ok(stat) = statvfs(directory) else { return false };
    let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
    let bytes = (bytes(stat.blocks()), bytes(stat.blocks_available()));
    let kept = (reserve::ACCEPT_BYTES, reserve::ACCEPT_FILES);
    reserve::is_within(bytes, (stat.files(), stat.files_available()), kept)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits()).open(path)
}

/// Whether a shim has the execution; an error for want of descriptors or memory.
pub(super) fn lock(directory: &Path) -> io::Result<Lock> {
    let opened = match open(&directory.join(file::LOCK)) {
        Ok(opened) => opened,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Lock::Absent),
        Err(e) if Shortage::of(&e) == Some(Shortage::Resources) => return Err(e),
        // Not ours to read: held, until the directory says otherwise.
        Err(_) => return Ok(Lock::Held),
    };
    match Flock::lock(opened, FlockArg::LockSharedNonblock) {
        Ok(_released_at_once) => Ok(Lock::Free),
        Err((_, Errno::EWOULDBLOCK)) => Ok(Lock::Held),
        Err((_, errno)) => Err(errno.into()),
    }
}

fn record<T: DeserializeOwned>(path: &Path) -> io::Result<Found<T>> {
    let mut bytes = Vec::new();
    match open(path).and_then(|file| file.take(MAX_RECORD).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::Absent),
        Err(e) if Shortage::of(&e) == Some(Shortage::Resources) => return Err(e),
        Err(e) => return Ok(Found::Damaged(e.to_string())),
    }
    Ok(match packs_schema::agent::execution::read_record(&bytes) {
        Ok(record) => Found::Good(record),
        Err(e) => Found::Damaged(e.to_string()),
    })
}
