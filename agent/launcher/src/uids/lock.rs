//! Locks on user ids between all launchers of a host: one byte per id in one file. The content of the byte marks an id whose
//! processes were kept after their execution.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::stat::Mode;

use super::processes;
use crate::ipc;

/// Path of the lock file.
const PATH: &str = "/run/bolt-accounts.lock";
/// Content of the byte of an id whose processes were kept.
const KEPT: u8 = b'k';

/// The lock of one id. Held for as long as its file is open, in this process or in a child.
pub(super) struct IdLock {
    uid: u32,
    file: File,
}

impl IdLock {
    /// Locks the byte of an id. Fails with `EAGAIN` when another shim holds it.
    pub(super) fn try_lock(uid: u32) -> nix::Result<IdLock> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = nix::fcntl::open(PATH, flags, Mode::from_bits_truncate(0o600))?;
        let byte = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: libc::off_t::from(uid),
            l_len: 1,
            l_pid: 0,
        };
        fcntl(&file, FcntlArg::F_OFD_SETLK(&byte))?;
        Ok(IdLock { uid, file: File::from(file) })
    }

    /// Returns the lock of an id that another process has taken with this descriptor.
    pub(super) fn from_parts(uid: u32, file: File) -> IdLock {
        IdLock { uid, file }
    }

    /// Marks the id: processes of it outlive their execution.
    pub(super) fn mark(&self) -> std::io::Result<()> {
        self.file.write_all_at(&[KEPT], u64::from(self.uid))
    }

    /// Returns false if kept processes of the id are alive. Clears the mark when they have ended.
    pub(super) fn clear_mark_if_unused(&self) -> bool {
        let mut mark = [0];
        if self.file.read_at(&mut mark, u64::from(self.uid)).unwrap_or(0) == 0 || mark[0] != KEPT {
            return true;
        }
        if processes::any_alive(self.uid) {
            return false;
        }
        ipc::remove_objects_of(self.uid);
        let _ = self.file.write_all_at(&[0], u64::from(self.uid));
        true
    }
}

impl AsFd for IdLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
