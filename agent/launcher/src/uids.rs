//! User ids of executions: each execution of an action that names no account runs as a user id of its own from
//! `execution.uid_range`, with the group id of the same number.
//!
//! ```text
//!  lease: counter + 1 ─▶ used by an account of the host? ─▶ create record, lock id ─▶ fork ─▶ shim
//!              ▲                     │ yes                     │ exists                      │ no process is left
//!              └─────────────────────┴─────────────────────────┘                      record removed
//! ```
//!
//! - **At most one living execution per id.** The record `accounts/<uid>` in the run-time directory is created with `O_EXCL` and
//!   removed when no process of the execution is left, by its shim or by the launcher that cleans up after a dead shim. A
//!   restarted launcher thus knows which ids are in use. Launchers with other run-time directories are excluded by a lock on the
//!   id's byte of one file in `/run`, which the shim holds. For processes that outlive their execution (`leftovers: keep`), the
//!   byte itself is a mark, and the id is not leased while they live ([`lock`]).
//! - **Late reuse.** The counter passes through the whole range before an id is reused. It is stored in the run-time directory and
//!   survives the launcher. After a boot it starts at a random id.

mod check;
mod lock;
mod processes;

use std::cell::Cell;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};
use packs_schema::agent::config::{Config, UidRange};
use packs_schema::base::name::ExecutionId;

use crate::account::{self, Account};
use crate::dir::Dir;
use crate::parsed::Parsed;
use crate::{ipc, proc};

pub(crate) use check::UidRangeInUse;
use lock::IdLock;

/// Name of the directory of records, in the run-time directory.
const RECORDS: &str = "accounts";
/// Name of the file with the id that was leased last, in that directory.
const COUNTER: &str = "last";
/// Maximum size of a record or of the counter, in bytes.
const MAX_RECORD: u64 = 64;
/// Pause between two searches for processes that were killed.
const PAUSE: Duration = Duration::from_millis(5);

/// The ids of the range, and which of them are leased.
pub(crate) struct UidPool {
    range: UidRange,
    records: Dir,
    last: Cell<u32>,
    counter: File,
    /// Ids of the host's accounts and groups in the range.
    taken: Parsed<Vec<u32>>,
}

/// Error returned when no id can be leased.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaseError {
    #[error("cannot write the record of a user id in {0}")]
    Record(String, #[source] Errno),
    #[error("no user id of execution.uid_range = \"{0}\" is free")]
    Exhausted(UidRange),
}

/// Error returned when executions cannot have user ids of their own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    InUse(#[from] UidRangeInUse),
    #[error("cannot open the records of user ids in {0}")]
    Records(String, #[source] Errno),
}

/// An id that only one execution has. When dropped before it was handed over to a shim, the id is free again.
pub(crate) struct Lease {
    uid: u32,
    /// Path of the record, relative to the run-time directory.
    record: String,
    /// Present until the lease is handed over.
    records: Option<Dir>,
    lock: IdLock,
}

impl UidPool {
    /// Opens the records in the run-time directory, and checks that no account of the host is in the range.
    pub(crate) fn open(config: &Config, runtime: &Dir) -> Result<UidPool, OpenError> {
        let range = config.execution.uid_range;
        check::check(config)?;
        let failed = |e: Errno| OpenError::Records(runtime.path().join(RECORDS).display().to_string(), e);
        let records = match runtime.make_dir(RECORDS, 0o700) {
            Err(Errno::EEXIST) => runtime.dir(RECORDS),
            made => made,
        };
        let records = records.map_err(failed)?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let counter = nix::fcntl::openat(&records, COUNTER, flags, Mode::from_bits_truncate(0o600)).map_err(failed)?;
        let counter = File::from(counter);
        let mut text = String::new();
        let _ = (&counter).take(MAX_RECORD).read_to_string(&mut text);
        let last = text.trim().parse().ok().filter(|uid| range.contains(*uid)).unwrap_or_else(|| random(range));
        let pool = UidPool { range, records, last: Cell::new(last), counter, taken: Parsed::new(2) };
        pool.prune();
        Ok(pool)
    }

    pub(crate) fn range(&self) -> UidRange {
        self.range
    }

    /// Leases the next free id to `execution`.
    pub(crate) fn lease(&self, execution: &ExecutionId) -> Result<(Lease, Account), LeaseError> {
        let failed = |e: Errno| LeaseError::Record(self.records.path().display().to_string(), e);
        let taken = account::ids_in(self.range, &self.taken);
        for _ in 0..self.range.count() {
            let uid = self.advance().map_err(failed)?;
            if taken.iter().any(|ids| ids.contains(&uid)) {
                continue;
            }
            let mut record = match self.records.make_file(&uid.to_string(), 0o600, OFlag::O_WRONLY) {
                Ok(record) => record,
                Err(Errno::EEXIST) => continue,
                Err(e) => return Err(failed(e)),
            };
            let records = self.records.try_clone().map_err(failed)?;
            let lock = match IdLock::try_lock(uid) {
                Ok(lock) => lock,
                Err(e) => {
                    let _ = self.records.remove_file(&uid.to_string());
                    if matches!(e, Errno::EAGAIN | Errno::EACCES) {
                        continue;
                    }
                    return Err(failed(e));
                }
            };
            if !lock.clear_mark_if_unused() {
                let _ = self.records.remove_file(&uid.to_string());
                continue;
            }
            let lease = Lease { uid, record: format!("{RECORDS}/{uid}"), records: Some(records), lock };
            let written = record.write_all(execution.as_str().as_bytes());
            written.map_err(|e| failed(Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO))))?;
            return Ok((lease, account_of(uid)));
        }
        Err(LeaseError::Exhausted(self.range))
    }

    /// Advances the counter and returns the new id. The counter is stored before the id is used.
    fn advance(&self) -> nix::Result<u32> {
        let last = self.last.get();
        let uid = if last >= self.range.last() { self.range.first() } else { last + 1 };
        let written = self.counter.write_all_at(format!("{uid:010}\n").as_bytes(), 0);
        written.map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
        self.last.set(uid);
        Ok(uid)
    }

    /// Returns the id that was leased to an execution.
    pub(crate) fn uid_of(&self, execution: &ExecutionId) -> Option<u32> {
        self.leases().into_iter().find(|(_, holder)| holder == execution.as_str()).map(|(uid, _)| uid)
    }

    /// Returns all leased ids, each with the execution that has it.
    fn leases(&self) -> Vec<(u32, String)> {
        let uids = self.records.names().into_iter().filter_map(|name| name.parse::<u32>().ok());
        uids.map(|uid| {
            let content = self.records.read(&uid.to_string(), MAX_RECORD).map(|(bytes, _)| bytes).unwrap_or_default();
            (uid, String::from_utf8_lossy(&content).into_owned())
        })
        .collect()
    }

    /// Kills every process of an id, then releases it. Returns the number of processes that are alive after `timeout`.
    pub(crate) fn kill_and_release(&self, uid: u32, timeout: Duration) -> usize {
        let begun = Instant::now();
        while processes::signal_all(uid, Some(Signal::SIGKILL)) {
            let left = proc::alive_with_uid(uid).len();
            if left == 0 {
                break;
            }
            if begun.elapsed() > timeout {
                return left;
            }
            std::thread::sleep(PAUSE);
        }
        self.release(uid);
        0
    }

    /// Releases the id that was leased to an execution whose shim has died; leaves it to its processes if there are any, which outlive
    /// the execution.
    pub(crate) fn release_or_keep(&self, execution: &ExecutionId) {
        let Some(uid) = self.uid_of(execution) else { return };
        if !processes::any_alive(uid) {
            return self.release(uid);
        }
        // Without the mark, the record stays: then at least this launcher does not lease the id.
        if IdLock::try_lock(uid).is_ok_and(|lock| lock.mark().is_ok()) {
            let _ = self.records.remove_file(&uid.to_string());
        }
    }

    fn release(&self, uid: u32) {
        ipc::remove_objects_of(uid);
        let _ = self.records.remove_file(&uid.to_string());
    }

    /// Releases ids that no shim holds and no process has.
    fn prune(&self) {
        for (uid, _) in self.leases() {
            if IdLock::try_lock(uid).is_ok() && !processes::any_alive(uid) {
                self.release(uid);
            }
        }
    }
}

impl Lease {
    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }

    /// Leaves the lease to the shim that has received its descriptor.
    pub(crate) fn hand_over(&mut self) {
        self.records = None;
    }

    /// Returns the lease of an id that was handed over, in the shim. `lock` is its descriptor.
    pub(crate) fn handed_over(uid: u32, lock: File) -> Lease {
        Lease { uid, record: format!("{RECORDS}/{uid}"), records: None, lock: IdLock::from_parts(uid, lock) }
    }

    /// Releases the id, in the shim, when no process of the execution is left. IPC objects of the id are removed first.
    pub(crate) fn release(&self, runtime: &Dir) {
        ipc::remove_objects_of(self.uid);
        let _ = runtime.remove_file(&self.record);
    }

    /// Leaves the id to processes that outlive their execution (`leftovers: keep`): the mark in the lock file, which outlives this
    /// process and which all launchers read, reserves it until they have ended.
    pub(crate) fn keep(&self, runtime: &Dir) {
        // Without the mark, the record stays: then at least this launcher does not lease the id.
        if self.lock.mark().is_ok() {
            let _ = runtime.remove_file(&self.record);
        }
    }

    /// Returns true if a process has this id.
    pub(crate) fn is_in_use(&self) -> bool {
        processes::any_alive(self.uid)
    }
}

impl AsFd for Lease {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(records) = &self.records {
            let _ = records.remove_file(&self.uid.to_string());
        }
    }
}

/// Returns the account of an id of the range. It has no entry in `/etc/passwd`, so its number is its name.
fn account_of(uid: u32) -> Account {
    Account { name: uid.to_string(), uid: Uid::from_raw(uid), gid: Gid::from_raw(uid), home: "/".to_owned() }
}

fn random(range: UidRange) -> u32 {
    let offset = RandomState::new().hash_one(0) % u64::from(range.count());
    range.first() + u32::try_from(offset).expect("below a count that fits")
}

#[cfg(test)]
mod tests;
