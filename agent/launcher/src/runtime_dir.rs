//! The run-time directory of an execution, `<paths.runtime>/<execution id>`, in memory on a host with `/run`.
//!
//! Exists from before a shim is given the execution until no process of the execution is left. The launcher counts these
//! directories to enforce `execution.max_shims`, and a launcher that was restarted finds running executions by them. They belong to
//! the launcher, so the api cannot change the count.
//!
//! The directory of an execution that is only prepared ([`crate::preparations`]) is called `prepared-<execution id>` until its start,
//! so that it does not count; the next launcher removes what is left of it.
//!
//! The shim has the directory locked, and marks it when the execution has ended and only its clean-up is left. A marked directory
//! without a lock was left by a shim that died ([`crate::clean_up`]). It is renamed to `removed-<execution id>` before it is emptied:
//! whoever dies in between leaves nothing that counts, or that lacks its mark.

use std::ffi::OsStr;
use std::io::Write;

use nix::errno::Errno;
use nix::fcntl::{OFlag, renameat};
use nix::libc;
use packs_schema::agent::execution::file;
use packs_schema::base::name::ExecutionId;

use crate::dir::Dir;

/// Name of the file with the user id of the action, when other processes may have the same user id.
const ACCOUNT: &str = "account";
/// Name of the mark of an execution that has ended.
const ENDED: &str = "ended";
/// Names of all files that a run-time directory may hold. Launchers of earlier releases made `result`.
const FILES: [&str; 4] = [ACCOUNT, ENDED, file::KILL, "result"];
/// Maximum size of the file `account`, in bytes.
const MAX_ACCOUNT: u64 = 16;

/// Beginning of the names of prepared directories.
const PREPARED: &str = "prepared-";
/// Beginning of the names of directories that are being removed.
const REMOVED: &str = "removed-";

/// Returns the name of the directory of an execution that is prepared and not started.
pub(crate) fn prepared_name(execution: &ExecutionId) -> String {
    format!("{PREPARED}{execution}")
}

/// Creates a directory `name` in `parent`, the launcher's own run-time directory, and locks it for as long as any process has the
/// returned descriptor.
pub(crate) fn create(parent: &Dir, name: &str) -> nix::Result<Dir> {
    let directory = parent.make_dir(name, 0o711)?;
    match directory.try_lock() {
        Ok(()) => Ok(directory),
        Err(e) => {
            let _ = parent.remove_dir(name);
            Err(e)
        }
    }
}

/// Makes a prepared directory that of a started execution.
pub(crate) fn activate(parent: &Dir, execution: &ExecutionId, directory: &mut Dir) -> nix::Result<()> {
    // A rename would replace an empty directory.
    if parent.has(execution.as_str())? {
        return Err(Errno::EEXIST);
    }
    renameat(parent, OsStr::new(&prepared_name(execution)), parent, OsStr::new(execution.as_str()))?;
    directory.set_path(parent.path().join(execution.as_str()));
    Ok(())
}

/// Returns the executions that have a prepared directory.
pub(crate) fn prepared(parent: &Dir) -> Vec<ExecutionId> {
    let names = parent.names().into_iter();
    names.filter_map(|name| ExecutionId::new(name.strip_prefix(PREPARED)?).ok()).collect()
}

/// Marks the directory: the execution has ended.
pub(crate) fn mark_ended(directory: &Dir) -> nix::Result<()> {
    directory.make_file(ENDED, 0o600, OFlag::O_WRONLY).map(drop)
}

/// Returns true if the directory is marked.
pub(crate) fn is_marked_ended(directory: &Dir) -> bool {
    directory.has(ENDED) == Ok(true)
}

/// Returns the number of executions that have a run-time directory, including those of an older launcher and those whose shim
/// has died.
pub(crate) fn count(parent: &Dir) -> usize {
    executions(parent).len()
}

/// Returns these executions.
pub(crate) fn executions(parent: &Dir) -> Vec<ExecutionId> {
    parent.names().into_iter().filter_map(|name| ExecutionId::new(name.as_str()).ok()).collect()
}

/// Records the user id of the action, so that its processes can be found if the shim dies.
pub(crate) fn write_account(directory: &Dir, uid: u32) -> nix::Result<()> {
    let mut file = directory.make_file(ACCOUNT, 0o600, OFlag::O_WRONLY)?;
    let written = file.write_all(uid.to_string().as_bytes());
    written.map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))
}

/// Returns the user id that [`write_account`] recorded.
pub(crate) fn read_account(parent: &Dir, execution: &ExecutionId) -> Option<u32> {
    let directory = parent.dir(execution.as_str()).ok()?;
    let (bytes, _) = directory.read(ACCOUNT, MAX_ACCOUNT).ok()?;
    String::from_utf8(bytes).ok()?.trim().parse().ok()
}

/// Removes the directory of an execution; does nothing when there is none.
pub(crate) fn remove(parent: &Dir, execution: &ExecutionId) {
    let name = retire(parent, execution);
    remove_named(parent, name.as_deref().unwrap_or(execution.as_str()));
}

/// Makes the directory of an execution one that is being removed, and returns its name; `None` if it cannot be renamed.
fn retire(parent: &Dir, execution: &ExecutionId) -> Option<String> {
    let name = format!("{REMOVED}{execution}");
    renameat(parent, OsStr::new(execution.as_str()), parent, OsStr::new(&name)).ok()?;
    Some(name)
}

/// Removes what processes that died have left of directories that they were removing.
pub(crate) fn finish_removals(parent: &Dir) {
    for name in parent.names().iter().filter(|name| name.starts_with(REMOVED)) {
        remove_named(parent, name);
    }
}

/// Removes the prepared directory of an execution; does nothing when there is none.
pub(crate) fn remove_prepared(parent: &Dir, execution: &ExecutionId) {
    remove_named(parent, &prepared_name(execution));
}

/// Removes the directory with this name; does nothing when there is none.
pub(crate) fn remove_named(parent: &Dir, name: &str) {
    if let Ok(directory) = parent.dir(name) {
        for file in FILES {
            let _ = directory.remove_file(file);
        }
        let _ = parent.remove_dir(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_whose_removal_was_interrupted_does_not_count_and_is_removed_later() {
        let temporary = tempfile::tempdir().unwrap();
        let parent = Dir::open(temporary.path()).unwrap();
        let execution: ExecutionId = "01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa".parse().unwrap();
        let directory = create(&parent, execution.as_str()).unwrap();
        write_account(&directory, 70_001).unwrap();
        mark_ended(&directory).unwrap();
        assert!(retire(&parent, &execution).is_some());
        assert_eq!((count(&parent), prepared(&parent).len()), (0, 0));
        finish_removals(&parent);
        assert!(parent.names().is_empty());
    }

    #[test]
    fn an_account_is_recorded_and_the_directory_removed_with_it() {
        let temporary = tempfile::tempdir().unwrap();
        let parent = Dir::open(temporary.path()).unwrap();
        let execution: ExecutionId = "01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa".parse().unwrap();
        let directory = create(&parent, execution.as_str()).unwrap();
        parent.make_dir("accounts", 0o700).unwrap();
        assert_eq!((count(&parent), read_account(&parent, &execution)), (1, None));
        write_account(&directory, 70_001).unwrap();
        assert_eq!(read_account(&parent, &execution), Some(70_001));
        for _ in 0..2 {
            remove(&parent, &execution);
            assert_eq!(parent.names(), ["accounts"]);
        }
    }
}
