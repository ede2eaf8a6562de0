//! The directory of one execution as the api uses it: created here, written by launcher and shim, read here again.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::sys::statvfs::statvfs;
use packs_schema::agent::execution::{Exit, Kill, Spec, Started, file, reserve};
use packs_schema::agent::rest::MAX_NOTE;
use packs_schema::base::name::Principal;
use serde::de::DeserializeOwned;

use super::HostFault;

/// Maximum size of a record: the largest result, and the fields around it.
const MAX_RECORD: u64 = 1 << 20;
/// Size of most records, in bytes: they are read by one call and one that finds the end.
const USUAL_RECORD: usize = 4 << 10;

/// Pause before a directory is read again after a lack of descriptors or memory.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// State of the shim's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    /// The execution has not been started.
    Absent,
    /// A shim is alive.
    Held,
    /// The shim has exited or died.
    Free,
}

/// Content of a record in the directory.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum RecordFile<T> {
    /// The file does not exist.
    Absent,
    /// The record.
    Valid(T),
    /// The file exists but cannot be read, for this reason.
    Damaged(String),
}

impl<T> RecordFile<T> {
    /// Returns the record if it is valid.
    pub(super) fn valid(self) -> Option<T> {
        match self {
            RecordFile::Valid(record) => Some(record),
            RecordFile::Absent | RecordFile::Damaged(_) => None,
        }
    }

    /// True if the file exists, whatever its content.
    pub(super) fn exists(&self) -> bool {
        !matches!(self, RecordFile::Absent)
    }
}

/// Everything a directory says about the state of its execution.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Evidence {
    /// Request as it was accepted.
    pub(super) spec: RecordFile<Spec>,
    /// State of the shim's lock.
    pub(super) lock: Lock,
    /// Record of the start, written by the shim before the action.
    pub(super) started: RecordFile<Started>,
    /// Exit record.
    pub(super) exit: RecordFile<Exit>,
    /// True if a kill was requested.
    pub(super) kill: bool,
}

/// Writes `spec` into the new directory; removes the directory if that fails.
pub(super) fn write_spec(directory: &Path, spec: &Spec) -> io::Result<()> {
    let write = || {
        let mut bytes = serde_json::to_vec(spec)?;
        bytes.push(b'\n');
        let path = directory.join(file::SPEC);
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(&bytes)
    };
    write().inspect_err(|_| remove(directory))
}

/// Removes a directory with its files; logs a failure.
pub(super) fn remove(directory: &Path) {
    if let Err(error) = std::fs::remove_dir_all(directory)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %directory.display(), %error, "cannot remove an execution's directory");
    }
}

/// Reads the directory. The lock comes first: a shim writes `exit` before it releases the lock. An error means that the host
/// lacks descriptors or memory, from which nothing can be concluded about the execution.
pub(super) fn read_evidence(directory: &Path) -> io::Result<Evidence> {
    let lock = probe_lock(directory)?;
    Ok(Evidence {
        lock,
        started: read_record(&directory.join(file::STARTED))?,
        exit: read_record(&directory.join(file::EXIT))?,
        spec: read_record(&directory.join(file::SPEC))?,
        kill: directory.join(file::KILL).symlink_metadata().is_ok(),
    })
}

/// As [`read_evidence`], retrying until the host has the resources.
pub(super) async fn read_evidence_retrying(directory: &Path) -> Evidence {
    loop {
        match read_evidence(directory) {
            Ok(evidence) => return evidence,
            Err(error) => tracing::warn!(path = %directory.display(), %error, "cannot read a directory; retrying"),
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

/// Writes the kill request for the shim that runs the execution now or starts it later. Idempotent.
pub(super) fn request_end(directory: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(directory.join(file::KILL)) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        _ => Ok(()),
    }
}

/// Returns who wrote the kill request, and the note, if root did by local access while no api answered. Others leave it empty.
pub(super) fn read_kill(directory: &Path) -> Option<(Principal, Option<String>)> {
    match read_record::<Kill>(&directory.join(file::KILL)) {
        Ok(RecordFile::Valid(Kill { by, note, .. })) if by.is_local() => {
            Some((by, note.map(|note| note.chars().take(MAX_NOTE).collect())))
        }
        _ => None,
    }
}

/// True if the directory has a kill request or an exit record.
pub(super) fn is_end_requested(directory: &Path) -> bool {
    [file::KILL, file::EXIT].iter().any(|name| directory.join(name).symlink_metadata().is_ok())
}

/// Writes the exit record of an execution without a shim. Does nothing if the directory does not exist.
pub(super) fn write_exit(directory: &Path, exit: &Exit) -> io::Result<()> {
    let temporary = directory.join(file::EXIT_NEW);
    let write = || {
        let bytes = serde_json::to_vec(exit)?;
        // A shim that died has left its preallocated file, owned by root; in our own directory we may remove it.
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

/// True if the file system of `directory` has less free than the threshold for accepting executions.
pub(super) fn is_low_on_space(directory: &Path) -> bool {
    let Ok(stat) = statvfs(directory) else { return false };
    let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
    let bytes = (bytes(stat.blocks()), bytes(stat.blocks_available()));
    let kept = (reserve::ACCEPT_BYTES, reserve::ACCEPT_FILES);
    reserve::is_within(bytes, (stat.files(), stat.files_available()), kept)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits()).open(path)
}

/// Tests whether a shim holds the lock. An error means a lack of descriptors or memory.
pub(super) fn probe_lock(directory: &Path) -> io::Result<Lock> {
    let opened = match open(&directory.join(file::LOCK)) {
        Ok(opened) => opened,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Lock::Absent),
        Err(e) if HostFault::classify(&e) == Some(HostFault::Resources) => return Err(e),
        // Not readable: treated as held until the directory says otherwise.
        Err(_) => return Ok(Lock::Held),
    };
    match Flock::lock(opened, FlockArg::LockSharedNonblock) {
        Ok(_released_at_once) => Ok(Lock::Free),
        Err((_, Errno::EWOULDBLOCK)) => Ok(Lock::Held),
        Err((_, errno)) => Err(errno.into()),
    }
}

/// Reads a record. An error means a lack of descriptors or memory.
pub(super) fn read_record<T: DeserializeOwned>(path: &Path) -> io::Result<RecordFile<T>> {
    let mut bytes = Vec::with_capacity(USUAL_RECORD);
    match open(path).and_then(|file| file.take(MAX_RECORD).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(RecordFile::Absent),
        Err(e) if HostFault::classify(&e) == Some(HostFault::Resources) => return Err(e),
        Err(e) => return Ok(RecordFile::Damaged(e.to_string())),
    }
    Ok(match packs_schema::agent::execution::read_record(&bytes) {
        Ok(record) => RecordFile::Valid(record),
        Err(e) => RecordFile::Damaged(e.to_string()),
    })
}
