//! The input of a shim. All of it was checked and opened before the fork.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::unistd::Pid;
use packs_schema::base::name::ExecutionId;
use packs_schema::pack::action::Action;

use crate::account::Account;
use crate::cgroup::Group;
use crate::dir::Dir;
use crate::exit_file::ExitFile;
use crate::uids::Lease;

/// An execution to supervise.
pub(crate) struct Job<'a> {
    pub(crate) execution: ExecutionId,
    /// The process that forked the shim.
    pub(crate) launcher: Pid,
    pub(crate) action: Action,
    pub(crate) program: Program,
    /// Written to the action's standard input.
    pub(crate) stdin: Vec<u8>,
    pub(crate) timeout: Duration,
    /// True if the time-out is the expiry of a pushed version, which is earlier than the action's own time-out.
    pub(crate) ends_with_push: bool,
    /// Limits that are not enforced, with the reason of each.
    pub(crate) unenforced: Vec<String>,
    pub(crate) boot_id: String,
    /// Signals that this process ignores, and the action must not.
    pub(crate) ignored_signals: &'a [i32],
    /// The execution's directory.
    pub(crate) directory: Dir,
    /// Lock file, locked until the shim ends.
    pub(crate) lock: File,
    pub(crate) exit_file: ExitFile,
    pub(crate) group: Group,
    /// The execution's run-time directory.
    pub(crate) runtime: Dir,
    /// The launcher's run-time directory, which contains it.
    pub(crate) runtime_parent: &'a Dir,
    /// The memory file for the structured result.
    pub(crate) result: File,
    /// The user id that only this execution has; absent when the action names an account.
    pub(crate) lease: Option<Lease>,
}

/// The program to execute, and its account.
pub(crate) struct Program {
    pub(crate) path: CString,
    pub(crate) arguments: Vec<CString>,
    pub(crate) environment: Vec<CString>,
    /// The directory of the pack's version, which becomes the working directory.
    pub(crate) directory: OwnedFd,
    pub(crate) account: Account,
    /// False without root.
    pub(crate) change_account: bool,
}
