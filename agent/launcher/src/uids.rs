//! Accounts of executions: each execution of an action that names no account runs as a user id of its own, out of
//! `execution.uid_range`, with the group id of the same number.
//!
//! ```text
//!  lease: counter + 1 ─▶ an account of the host has it? ─▶ record and lock taken ─▶ fork ─▶ shim
//!              ▲                     │ yes                     │ held                        │ nothing of it is left
//!              └─────────────────────┴─────────────────────────┘                     record removed
//! ```
//!
//! - **One living execution per id.** The record `accounts/<uid>` in the runtime directory is made with `O_EXCL` and removed
//!   when nothing of the execution is left, by its shim or by whoever cleans up after that. So a new launcher knows which
//!   ids the shims of an older one hold, and takes nobody's word for it. Launchers with other runtime directories are kept
//!   apart by a lock on the id's byte of one file in `/run`, which the shim holds. Where processes stay after their execution
//!   (`leftovers: keep`), the byte itself says so, and the id is not given to another execution while they live.
//! - **Reuse as late as possible.** The counter rises over the whole range before an id comes back, and it is in the runtime
//!   directory, so that it survives the launcher. In another boot it begins at random.

mod check;

use std::cell::Cell;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};
use packs_schema::agent::config::{Config, UidRange};
use packs_schema::base::name::ExecutionId;

use crate::account::{self, Account};
use crate::dir::Dir;
use crate::{ipc, proc, sys};

pub(crate) use check::UidRangeInUse;

/// The directory of records, in the runtime directory.
const RECORDS: &str = "accounts";
/// In it: the id that was handed out last.
const COUNTER: &str = "last";
/// Locked byte by byte by the shims of all launchers of this host.
const LOCKS: &str = "/run/bolt-accounts.lock";
/// In it, at the id's byte: processes of the id may have stayed after their execution.
const KEPT: u8 = b'k';
/// Bytes of a record: an execution id.
const RECORD: u64 = 64;
/// Between two looks at processes that were killed.
const PAUSE: Duration = Duration::from_millis(5);

/// The ids, and which of them are in use.
pub(crate) struct UidPool {
    range: UidRange,
    records: Dir,
    last: Cell<u32>,
    counter: File,
}

/// Why there is no id for an execution.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaseError {
    #[error("the record of an account in {0} cannot be written")]
    Record(String, #[source] Errno),
    #[error("no user id of execution.uid_range = \"{0}\" is free")]
    Exhausted(UidRange),
}

/// An id that belongs to one execution. Dropped before it was handed over to a shim, it is free again.
pub(crate) struct Lease {
    uid: u32,
    /// Made from the runtime directory's descriptor, so that the shim can remove it.
    record: String,
    records: Option<Dir>,
    lock: File,
}

impl UidPool {
    /// Opens the records in the runtime directory, and checks that nobody else uses the range.
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
        let _ = (&counter).take(RECORD).read_to_string(&mut text);
        let last = text.trim().parse().ok().filter(|uid| range.contains(*uid)).unwrap_or_else(|| random(range));
        let pool = UidPool { range, records, last: Cell::new(last), counter };
        pool.prune();
        Ok(pool)
    }

    pub(crate) fn range(&self) -> UidRange {
        self.range
    }

    /// Takes the next free id for `execution`.
    pub(crate) fn lease(&self, execution: &ExecutionId) -> Result<(Lease, Account), LeaseError> {
        let failed = |e: Errno| LeaseError::Record(self.records.path().display().to_string(), e);
        let taken = account::ids_in(self.range);
        for _ in 0..self.range.count() {
            let uid = self.next().map_err(failed)?;
            if taken.contains(&uid) {
                continue;
            }
            let mut record = match self.records.make_file(&uid.to_string(), 0o600, OFlag::O_WRONLY) {
                Ok(record) => record,
                Err(Errno::EEXIST) => continue,
                Err(e) => return Err(failed(e)),
            };
            let records = self.records.again().map_err(failed)?;
            let lock = match lock(uid) {
                Ok(lock) => lock,
                Err(e) => {
                    let _ = self.records.remove_file(&uid.to_string());
                    if matches!(e, Errno::EAGAIN | Errno::EACCES) {
                        continue;
                    }
                    return Err(failed(e));
                }
            };
            if !is_free_of_kept(&lock, uid) {
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

    /// The id after the last one; it is on record before anybody has it.
    fn next(&self) -> nix::Result<u32> {
        let last = self.last.get();
        let uid = if last >= self.range.last() { self.range.first() } else { last + 1 };
        let written = self.counter.write_all_at(format!("{uid:010}\n").as_bytes(), 0);
        written.map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
        self.last.set(uid);
        Ok(uid)
    }

    /// The id of an execution, from the record that its launcher made.
    pub(crate) fn of(&self, execution: &ExecutionId) -> Option<u32> {
        self.list().into_iter().find(|(_, of)| of == execution.as_str()).map(|(uid, _)| uid)
    }

    fn list(&self) -> Vec<(u32, String)> {
        let entries = self.records.names().into_iter().filter_map(|name| name.parse::<u32>().ok());
        entries
            .map(|uid| {
                let content = self.records.read(&uid.to_string(), RECORD).map(|(bytes, _)| bytes).unwrap_or_default();
                (uid, String::from_utf8_lossy(&content).into_owned())
            })
            .collect()
    }

    /// Kills every process of an id, and frees it; the number of those that are left when `patience` is over.
    pub(crate) fn clean_up(&self, uid: u32, patience: Duration) -> usize {
        let begun = Instant::now();
        while signal_all(uid, Some(Signal::SIGKILL)) {
            let left = proc::living_of(uid).len();
            if left == 0 {
                break;
            }
            if begun.elapsed() > patience {
                return left;
            }
            std::thread::sleep(PAUSE);
        }
        self.free(uid);
        0
    }

    fn free(&self, uid: u32) {
        ipc::remove_of(uid);
        let _ = self.records.remove_file(&uid.to_string());
    }

    /// Frees ids whose shims are gone and that no process has any more.
    fn prune(&self) {
        for (uid, _) in self.list() {
            if lock(uid).is_ok() && !is_alive(uid) {
                self.free(uid);
            }
        }
    }
}

/// Why executions cannot have accounts of their own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    InUse(#[from] UidRangeInUse),
    #[error("the records of accounts in {0} cannot be opened")]
    Records(String, #[source] Errno),
}

impl Lease {
    #[cfg(test)]
    fn uid(&self) -> u32 {
        self.uid
    }

    /// The shim has it from here on.
    pub(crate) fn hand_over(mut self) {
        self.records = None;
    }

    /// Frees it, in the shim: nothing of the execution is left. What belongs to the id outside of files goes first.
    pub(crate) fn release(&self, runtime: BorrowedFd<'_>) {
        ipc::remove_of(self.uid);
        let _ = nix::unistd::unlinkat(runtime, self.record.as_str(), nix::unistd::UnlinkatFlags::NoRemoveDir);
    }

    /// Leaves the id to processes that stay after their execution (`leftovers: keep`): the mark in the file of locks, which
    /// outlives this process and which all launchers read, keeps it from anybody else until they have ended.
    pub(crate) fn keep(&self, runtime: BorrowedFd<'_>) {
        // Without the mark the record has to stay: nobody but this launcher then gives the id to others.
        if self.lock.write_all_at(&[KEPT], u64::from(self.uid)).is_ok() {
            let _ = nix::unistd::unlinkat(runtime, self.record.as_str(), nix::unistd::UnlinkatFlags::NoRemoveDir);
        }
    }

    /// True if a process has this id.
    pub(crate) fn is_in_use(&self) -> bool {
        is_alive(self.uid)
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

/// The account with an id of the range. It has no entry in `/etc/passwd`, so its number is its name.
fn account_of(uid: u32) -> Account {
    Account { name: uid.to_string(), uid: Uid::from_raw(uid), gid: Gid::from_raw(uid), home: "/".to_owned() }
}

fn random(range: UidRange) -> u32 {
    let at = RandomState::new().hash_one(0) % u64::from(range.count());
    range.first() + u32::try_from(at).expect("below a count that fits")
}

/// Locks the byte of an id for as long as the file is open, here or in a child. `EAGAIN` when another shim has it.
fn lock(uid: u32) -> nix::Result<File> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = nix::fcntl::open(LOCKS, flags, Mode::from_bits_truncate(0o600))?;
    let byte = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: libc::off_t::from(uid),
        l_len: 1,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_OFD_SETLK(&byte))?;
    Ok(File::from(file))
}

/// False if processes of an id that were kept still live; takes the mark away when they have ended. The id is locked.
fn is_free_of_kept(lock: &File, uid: u32) -> bool {
    let mut mark = [0];
    if lock.read_at(&mut mark, u64::from(uid)).unwrap_or(0) == 0 || mark[0] != KEPT {
        return true;
    }
    if is_alive(uid) {
        return false;
    }
    ipc::remove_of(uid);
    let _ = lock.write_all_at(&[0], u64::from(uid));
    true
}

/// True if a process of an id lives. One that has ended and that its parent does not take in does not count.
fn is_alive(uid: u32) -> bool {
    signal_all(uid, None) && !proc::living_of(uid).is_empty()
}

/// Sends `signal` to every process of an id; true if there was one. A child that becomes this account asks the kernel, which
/// misses nobody: not who forks meanwhile, and not who hides from `/proc`.
fn signal_all(uid: u32, signal: Option<Signal>) -> bool {
    match sys::fork() {
        Ok(None) => {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(uid));
            let changed = nix::unistd::setgroups(&[])
                .and_then(|()| nix::unistd::setresgid(gid, gid, gid))
                .and_then(|()| nix::unistd::setresuid(uid, uid, uid));
            let status = match changed {
                // The kernel spares the one who asks.
                Ok(()) if nix::sys::signal::kill(nix::unistd::Pid::from_raw(-1), signal) == Err(Errno::ESRCH) => 0,
                _ => 1,
            };
            sys::exit_now(status)
        }
        Ok(Some(child)) => sys::wait_for(child).is_none_or(|ended| ended.status != Some(0)),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(range: &str, runtime: &std::path::Path) -> UidPool {
        let runtime = Dir::open(runtime).unwrap();
        let records = runtime.make_dir(RECORDS, 0o700).or_else(|_| runtime.dir(RECORDS)).unwrap();
        let counter = File::create(records.path().join(COUNTER)).unwrap();
        let range = UidRange::parse(range).unwrap();
        UidPool { range, records, last: Cell::new(range.last()), counter }
    }

    fn id(n: u32) -> ExecutionId {
        ExecutionId::new(format!("01932c07-1f4e-7c61-b4b0-{n:012}")).unwrap()
    }

    #[test]
    fn an_id_comes_back_last_and_never_while_it_is_in_use() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let runtime = tempfile::tempdir().unwrap();
        let pool = pool("1990000100-1990000103", runtime.path());
        let lease = |n| pool.lease(&id(n)).map(|(lease, _)| lease);
        let (first, second) = (lease(1).unwrap(), lease(2).unwrap());
        assert_eq!((first.uid(), second.uid()), (1_990_000_100, 1_990_000_101));
        assert_eq!(pool.of(&id(2)), Some(second.uid()));
        drop(first);
        let (third, fourth) = (lease(3).unwrap(), lease(4).unwrap());
        assert_eq!(
            (third.uid(), fourth.uid()),
            (1_990_000_102, 1_990_000_103),
            "the one that is free again comes last"
        );
        let again = lease(5).unwrap();
        assert_eq!(again.uid(), 1_990_000_100);
        assert!(matches!(lease(6), Err(LeaseError::Exhausted(_))));
        // Handed over: the record stays.
        let held = fourth.uid();
        fourth.hand_over();
        drop((second, third, again));
        assert_eq!(pool.list(), [(held, id(4).to_string())]);
        // A child that another test is just making holds every lock of this process until it has become another program.
        let until = Instant::now() + Duration::from_secs(20);
        pool.prune();
        while !pool.list().is_empty() && Instant::now() < until {
            std::thread::yield_now();
            pool.prune();
        }
        assert_eq!(pool.list(), [], "no shim has it, and no process");
    }

    #[test]
    fn the_id_of_processes_that_were_kept_is_given_to_nobody_while_they_live() {
        use std::os::unix::process::CommandExt;
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let (runtime, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let range = "1990000300-1990000301";
        let (mine, others) = (pool(range, runtime.path()), pool(range, other.path()));
        let lease = mine.lease(&id(1)).unwrap().0;
        let uid = lease.uid();
        let mut service = std::process::Command::new("sleep").arg("600").uid(uid).gid(uid).spawn().unwrap();
        assert!(lease.is_in_use());
        lease.keep(Dir::open(runtime.path()).unwrap().as_fd());
        lease.hand_over();
        assert_eq!(mine.list(), []);
        for pool in [&mine, &others] {
            for n in 2..4 {
                assert_ne!(pool.lease(&id(n)).unwrap().0.uid(), uid);
            }
        }
        service.kill().unwrap();
        service.wait().unwrap();
        let mut given: Vec<u32> = (4..6).map(|n| others.lease(&id(n)).unwrap().0.uid()).collect();
        given.sort_unstable();
        assert_eq!(given, [uid, uid + 1], "it is free again");
    }

    #[test]
    fn launchers_with_other_runtime_directories_share_no_id() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (one, other) = (pool("1990000200-1990000201", one.path()), pool("1990000200-1990000201", other.path()));
        let first = one.lease(&id(1)).unwrap().0;
        let second = other.lease(&id(2)).unwrap().0;
        assert_ne!(first.uid(), second.uid());
        assert!(matches!(other.lease(&id(3)), Err(LeaseError::Exhausted(_))));
    }
}
