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

/// A claimed execution, which no other process can start.
pub(crate) struct Claim {
    /// The execution's directory, which the api created.
    pub(crate) directory: Dir,
    /// Locked exclusively for as long as any process has it open.
    pub(crate) lock: File,
    pub(crate) exit_file: ExitFile,
}

impl UnclaimedJob {
    /// Returns the job of the claimed execution.
    pub(crate) fn claimed(self, claim: Claim) -> Job {
        let UnclaimedJob { plan, stdin, runtime, result, pack, lease } = self;
        let Claim { directory, lock, exit_file } = claim;
        Job { plan, stdin, handles: Handles { directory, lock, exit_file, runtime, result, pack, lease } }
    }

    /// Overwrites what may be secret.
    pub(crate) fn overwrite(&mut self) {
        overwrite(&mut self.plan, &mut self.stdin);
    }

    /// Maximum number of descriptors.
    pub(super) const MAX_FDS: usize = 4;

    /// Returns the parts that are no descriptors; these are sent in the order of [`UnclaimedJob::descriptors`].
    pub(super) fn names(&self) -> JobNames {
        names(&self.runtime, self.lease.as_ref())
    }

    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        descriptors(&self.runtime, &self.result, &self.pack, self.lease.as_ref())
    }

    /// Joins a job with its descriptors; `None` if their number is another one.
    pub(super) fn join(
        plan: Plan,
        stdin: Vec<u8>,
        names: JobNames,
        descriptors: &mut impl Iterator<Item = OwnedFd>,
    ) -> Option<UnclaimedJob> {
        let runtime = Dir::from_parts(descriptors.next()?, names.runtime);
        let (result, pack) = (File::from(descriptors.next()?), descriptors.next()?);
        let lease = match names.leased {
            Some(uid) => Some(Lease::handed_over(uid, File::from(descriptors.next()?))),
            None => None,
        };
        Some(UnclaimedJob { plan, stdin, runtime, result, pack, lease })
    }
}

impl Claim {
    /// Number of descriptors.
    pub(super) const FDS: usize = 3;

    /// Returns the descriptors, in the order in which they are sent.
    pub(super) fn descriptors(&self) -> [BorrowedFd<'_>; Claim::FDS] {
        [self.directory.as_fd(), self.lock.as_fd(), self.exit_file.as_fd()]
    }

    /// Joins a claim with its descriptors; `None` if there are too few.
    pub(super) fn join(directory: PathBuf, descriptors: &mut impl Iterator<Item = OwnedFd>) -> Option<Claim> {
        let directory = Dir::from_parts(descriptors.next()?, directory);
        let (lock, exit_file) = (File::from(descriptors.next()?), ExitFile::from(File::from(descriptors.next()?)));
        Some(Claim { directory, lock, exit_file })
    }
}

/// The parts of an unclaimed job that are no descriptors.
#[derive(Serialize, Deserialize)]
pub(super) struct JobNames {
    runtime: PathBuf,
    leased: Option<u32>,
}

fn names(runtime: &Dir, lease: Option<&Lease>) -> JobNames {
    JobNames { runtime: runtime.path().to_owned(), leased: lease.map(Lease::uid) }
}

fn descriptors<'a>(
    runtime: &'a Dir,
    result: &'a File,
    pack: &'a OwnedFd,
    lease: Option<&'a Lease>,
) -> Vec<BorrowedFd<'a>> {
    [runtime.as_fd(), result.as_fd(), pack.as_fd()].into_iter().chain(lease.map(Lease::as_fd)).collect()
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

impl Handles {
    /// Returns what does not belong to the claim, as [`UnclaimedJob::names`].
    pub(super) fn names(&self) -> JobNames {
        names(&self.runtime, self.lease.as_ref())
    }

    /// Returns what does not belong to the claim, as [`UnclaimedJob::descriptors`].
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        descriptors(&self.runtime, &self.result, &self.pack, self.lease.as_ref())
    }

    /// Returns those of the claim, as [`Claim::descriptors`].
    pub(super) fn claim_descriptors(&self) -> [BorrowedFd<'_>; Claim::FDS] {
        [self.directory.as_fd(), self.lock.as_fd(), self.exit_file.as_fd()]
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
