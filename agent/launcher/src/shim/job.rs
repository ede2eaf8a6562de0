//! The input of a shim. All of it was checked and opened by the launcher, which sends it over a socket: the values as a [`Plan`], the
//! open files and locks as [`Handles`].

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use packs_schema::base::name::ExecutionId;
use packs_schema::pack::action::{Action, LeftoverPolicy};
use packs_schema::pack::param::Schema;
use serde::{Deserialize, Serialize};

use super::wipe::wipe;
use crate::account::Account;
use crate::cgroup::Group;
use crate::dir::Dir;
use crate::exit_file::ExitFile;
use crate::uids::Lease;

/// An execution to supervise. Parameters in it may be secret: it has no `Debug`, and its memory is overwritten when it is dropped.
pub(crate) struct Job {
    pub(crate) plan: Plan,
    /// Written to the action's standard input.
    pub(crate) stdin: Vec<u8>,
    pub(crate) handles: Handles,
}

impl Drop for Job {
    fn drop(&mut self) {
        self.overwrite();
    }
}

impl Job {
    /// Overwrites what may be secret.
    pub(crate) fn overwrite(&mut self) {
        overwrite(&mut self.plan, &mut self.stdin);
    }
}

/// A job before its execution is claimed: all that does not depend on the execution's directory.
pub(crate) struct UnclaimedJob {
    pub(crate) plan: Plan,
    pub(crate) stdin: Vec<u8>,
    pub(crate) runtime: Dir,
    pub(crate) result: File,
    pub(crate) pack: OwnedFd,
    pub(crate) lease: Option<Lease>,
}

impl UnclaimedJob {
    /// Returns the job of the claimed execution with these files.
    pub(crate) fn claimed(self, directory: Dir, lock: File, exit_file: ExitFile) -> Job {
        let UnclaimedJob { plan, stdin, runtime, result, pack, lease } = self;
        Job { plan, stdin, handles: Handles { directory, lock, exit_file, runtime, result, pack, lease } }
    }

    /// Overwrites what may be secret.
    pub(crate) fn overwrite(&mut self) {
        overwrite(&mut self.plan, &mut self.stdin);
    }
}

fn overwrite(plan: &mut Plan, stdin: &mut [u8]) {
    wipe(stdin);
    for text in plan.program.arguments.drain(..).chain(plan.program.environment.drain(..)) {
        wipe(&mut text.into_bytes());
    }
}

/// The values of a job.
#[derive(Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) execution: ExecutionId,
    pub(crate) program: Program,
    pub(crate) rules: Rules,
    pub(crate) timeout: Duration,
    /// True if the time-out is the expiry of a pushed version, which is earlier than the action's own time-out.
    pub(crate) ends_with_push: bool,
    /// Limits that are not enforced, with the reason of each.
    pub(crate) unenforced: Vec<String>,
    pub(crate) group: Group,
}

/// The rules of the action file that a shim applies.
#[derive(Serialize, Deserialize)]
pub(crate) struct Rules {
    /// Time between SIGTERM and SIGKILL.
    pub(crate) grace: Duration,
    pub(crate) leftovers: LeftoverPolicy,
    pub(crate) new_privileges: bool,
    /// Maximum number of bytes kept of each output stream.
    pub(crate) output_max: u64,
    /// Memory limit, in bytes.
    pub(crate) memory: u64,
    pub(crate) open_files: u32,
    pub(crate) output_schema: Option<Schema>,
}

impl Rules {
    /// Returns the rules of an action, with another policy for leftover processes than its own.
    pub(crate) fn of(action: &Action, leftovers: LeftoverPolicy) -> Rules {
        Rules {
            grace: action.grace.0,
            leftovers,
            new_privileges: action.new_privileges,
            output_max: action.output_max.0,
            memory: action.limits.memory.0,
            open_files: action.limits.open_files,
            output_schema: action.output_schema.clone(),
        }
    }
}

/// The program to execute, and its account.
#[derive(Serialize, Deserialize)]
pub(crate) struct Program {
    #[serde(with = "one_text")]
    pub(crate) path: CString,
    #[serde(with = "texts")]
    pub(crate) arguments: Vec<CString>,
    #[serde(with = "texts")]
    pub(crate) environment: Vec<CString>,
    pub(crate) account: Account,
    /// False without root.
    pub(crate) change_account: bool,
}

/// The open files and locks of a job.
pub(crate) struct Handles {
    /// The execution's directory.
    pub(crate) directory: Dir,
    /// Lock file, locked until the last copy of this descriptor is closed.
    pub(crate) lock: File,
    pub(crate) exit_file: ExitFile,
    /// The execution's run-time directory.
    pub(crate) runtime: Dir,
    /// The memory file for the structured result.
    pub(crate) result: File,
    /// The directory of the pack's version, which becomes the working directory.
    pub(crate) pack: OwnedFd,
    /// The user id that only this execution has; absent when the action names an account.
    pub(crate) lease: Option<Lease>,
}

/// The parts of handles that are no descriptors, in the order and number of the descriptors.
#[derive(Serialize, Deserialize)]
pub(super) struct HandleNames {
    directory: PathBuf,
    runtime: PathBuf,
    leased: Option<u32>,
}

impl Handles {
    /// Maximum number of descriptors.
    pub(super) const MAX: usize = 7;

    pub(super) fn names(&self) -> HandleNames {
        HandleNames {
            directory: self.directory.path().to_owned(),
            runtime: self.runtime.path().to_owned(),
            leased: self.lease.as_ref().map(Lease::uid),
        }
    }

    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let always = [
            self.directory.as_fd(),
            self.lock.as_fd(),
            self.exit_file.as_fd(),
            self.runtime.as_fd(),
            self.result.as_fd(),
            self.pack.as_fd(),
        ];
        always.into_iter().chain(self.lease.as_ref().map(Lease::as_fd)).collect()
    }

    /// Joins names and descriptors; `None` if their numbers differ.
    pub(super) fn join(names: HandleNames, descriptors: Vec<OwnedFd>) -> Option<Handles> {
        let mut left = descriptors.into_iter();
        let directory = Dir::from_parts(left.next()?, names.directory);
        let (lock, exit_file) = (File::from(left.next()?), ExitFile::from(File::from(left.next()?)));
        let runtime = Dir::from_parts(left.next()?, names.runtime);
        let (result, pack) = (File::from(left.next()?), left.next()?);
        let lease = match names.leased {
            Some(uid) => Some(Lease::handed_over(uid, File::from(left.next()?))),
            None => None,
        };
        left.next().is_none().then_some(Handles { directory, lock, exit_file, runtime, result, pack, lease })
    }
}

/// Serialises a text without NUL; only texts are converted to C strings.
mod one_text {
    use std::ffi::CString;

    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(text: &CString, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(text.to_str().map_err(S::Error::custom)?)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<CString, D::Error> {
        CString::new(String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// Does the same for a list.
mod texts {
    use std::ffi::CString;

    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(texts: &[CString], to: S) -> Result<S::Ok, S::Error> {
        let texts: Result<Vec<&str>, _> = texts.iter().map(|text| text.to_str()).collect();
        texts.map_err(S::Error::custom)?.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<CString>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        texts.into_iter().map(|text| CString::new(text).map_err(D::Error::custom)).collect()
    }
}
