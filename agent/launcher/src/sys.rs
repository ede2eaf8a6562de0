//! System calls that need `unsafe`, each in a safe function.
//!
//! The process is always single-threaded, so that `fork` without `exec` is sound.
#![expect(
    unsafe_code,
    reason = "clone, close_range, dispositions, received descriptors, pidfds, System V objects and mappings have no safe wrapper"
)]

use std::io::IoSliceMut;
use std::ops::{Deref, DerefMut, Range};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use nix::unistd::{ForkResult, Pid};
use packs_schema::base::memory_map;

mod spawn;

use spawn::clone_args;
pub(crate) use spawn::{Image, Stack, is_ended_by, kill_unless_executed, spawn};

/// Forks; `None` in the child.
pub(crate) fn fork() -> nix::Result<Option<Pid>> {
    // SAFETY: this program never creates a second thread, so the child may run any code.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}

/// Forks into a v2 cgroup, given as its open directory; `None` in the child. Unlike joining the group afterwards, this does not
/// wait for an RCU grace period, which takes the kernel ten milliseconds.
pub(crate) fn fork_into(cgroup: BorrowedFd<'_>) -> nix::Result<Option<Pid>> {
    let args = clone_args(Some(cgroup));
    // SAFETY: without CLONE_VM and without a stack this is a fork; the kernel reads only the size given. The
    // process has one thread, and the child only makes system calls until it calls exec.
    let pid = Errno::result(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of_val(&args)) })?;
    Ok((pid != 0).then(|| Pid::from_raw(i32::try_from(pid).expect("a process id is an int"))))
}

/// Receives bytes and the descriptors that came with them, closed on `exec`. `space` must have room for the descriptors: others are
/// closed by the kernel.
pub(crate) fn receive_with_descriptors(
    socket: impl AsFd,
    bytes: &mut [IoSliceMut<'_>],
    space: &mut [u8],
) -> nix::Result<(usize, Vec<OwnedFd>)> {
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<UnixAddr>(socket.as_fd().as_raw_fd(), bytes, Some(space), flags)?;
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = control {
            // SAFETY: the kernel has just made these descriptors for this process: no other value owns them.
            descriptors.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok((message.bytes, descriptors))
}

/// Ends the process without running exit handlers.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: _exit takes any status and does not return.
    unsafe { libc::_exit(status) }
}

fn close_range(first: RawFd, last: u32, flags: u32) -> nix::Result<()> {
    // SAFETY: close_range takes numbers only. Callers never use the descriptors of the range again: they call exec, or the range
    // excludes the descriptors that they still use.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first.cast_unsigned(), last, flags) };
    Errno::result(result).map(drop)
}

/// Marks every descriptor above standard error as closed on `exec`.
pub(crate) fn close_rest_on_exec() -> nix::Result<()> {
    close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

/// Closes every descriptor above standard error except `keep`. Only for a forked child that never returns to code that owns one of
/// the others. Allocates nothing.
pub(crate) fn close_all_but<const N: usize>(keep: [BorrowedFd<'_>; N]) -> nix::Result<()> {
    let mut keep = keep.map(|fd| fd.as_raw_fd());
    keep.sort_unstable();
    let mut first = 3;
    for fd in keep.into_iter().filter(|fd| *fd >= 3) {
        if fd > first {
            close_range(first, fd.cast_unsigned() - 1, 0)?;
        }
        first = fd + 1;
    }
    close_range(first, u32::MAX, 0)
}

/// Duplicates `fd` to the number `target`, open across `exec`.
pub(crate) fn copy_to(fd: BorrowedFd<'_>, target: RawFd) -> nix::Result<()> {
    // SAFETY: only called by forked children before exec, in which no value owns `target`.
    let result = if fd.as_raw_fd() == target {
        unsafe { libc::fcntl(target, libc::F_SETFD, 0) }
    } else {
        unsafe { libc::dup2(fd.as_raw_fd(), target) }
    };
    Errno::result(result).map(drop)
}

/// Takes ownership of an inherited descriptor, which must be a listening socket, and marks it as closed on `exec`. Must be called
/// once per descriptor, before any other descriptor is opened.
pub(crate) fn adopt_listener(fd: RawFd) -> nix::Result<OwnedFd> {
    let mut listening: libc::c_int = 0;
    let mut length = libc::socklen_t::try_from(size_of::<libc::c_int>()).expect("an int is short");
    // SAFETY: getsockopt writes at most `length` bytes into an int that outlives the call; it fails for a descriptor that is
    // not open or not a socket.
    Errno::result(unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN, (&raw mut listening).cast(), &raw mut length)
    })?;
    if fd <= 2 || listening == 0 {
        return Err(Errno::EINVAL);
    }
    // SAFETY: fcntl takes numbers only here.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: the descriptor is open and was inherited: no value of this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Duplicates `fd` to a number of at least `lowest`, closed on `exec`.
pub(crate) fn duplicate_above(fd: BorrowedFd<'_>, lowest: RawFd) -> nix::Result<OwnedFd> {
    let copy = nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(lowest))?;
    // SAFETY: the kernel has just created it: no other value owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Keeps `fd` open across `exec`.
pub(crate) fn keep_on_exec(fd: BorrowedFd<'_>) -> nix::Result<()> {
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).map(drop)
}

/// Returns the signals that this process ignores: SIGPIPE, which Rust ignores, and those that its parent ignored.
pub(crate) fn ignored_signals() -> Vec<i32> {
    let ignores = |number: &i32| {
        let mut action = [0_u64; 4];
        // SAFETY: the kernel writes its structure of 32 bytes, whose first field is the handler, and changes nothing. Not through
        // libc, which reserves two signals.
        let result = unsafe {
            let new = std::ptr::null::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, *number, new, action.as_mut_ptr(), size_of::<u64>())
        };
        result == 0 && action[0] == libc::SIG_IGN as u64
    };
    (1..=64).filter(ignores).collect()
}

/// Sets the default disposition of these signals: `exec` keeps ignored ones. It resets those with handlers itself.
pub(crate) fn default_signals(signals: &[i32]) {
    // The kernel's structure in zeros: SIG_DFL, no flags, no mask.
    let default = [0_u64; 4];
    for number in signals {
        // SAFETY: the kernel reads at most the 32 bytes given, writes nothing, and SIG_DFL runs no code. It fails for
        // SIGKILL and SIGSTOP, which is ignored.
        unsafe {
            let old = std::ptr::null_mut::<u64>();
            libc::syscall(libc::SYS_rt_sigaction, *number, default.as_ptr(), old, size_of::<u64>());
        }
    }
}

/// Locks an open file or directory exclusively, for its open file description (flock(2)). Not through `nix`, which would unlock it
/// when its value is dropped, and with it the copies in other processes.
pub(crate) fn try_lock(file: impl AsFd) -> nix::Result<()> {
    // SAFETY: flock takes numbers only.
    Errno::result(unsafe { libc::flock(file.as_fd().as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }).map(drop)
}

/// Adds `by` to the nice value.
pub(crate) fn renice(by: i32) {
    // SAFETY: nice takes any number; lowering the own priority cannot fail.
    unsafe { libc::nice(by) };
}

/// Removes all capabilities from the bounding set; without the privilege for that, none.
pub(crate) fn drop_bounding_set() {
    // The kernel refuses the first number that is no capability.
    for capability in 0..64 {
        // SAFETY: this prctl takes numbers only.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            return;
        }
    }
}

/// Installs a filter of system calls for this thread, its children and what it executes (seccomp(2)).
pub(crate) fn install_filter(program: &[libc::sock_filter]) -> nix::Result<()> {
    let length = libc::c_ushort::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel copies `length` instructions from the pointer and writes nothing.
    Errno::result(unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, std::ptr::from_ref(&program), 0, 0)
    })
    .map(drop)
}

/// Returns true if a system call fails with EPERM before the kernel reads its arguments.
#[cfg(test)]
pub(crate) fn is_denied(number: libc::c_long) -> bool {
    // SAFETY: without a filter the null pointers and zeros are refused with another error, or change nothing.
    let result = unsafe { libc::syscall(number, 0, 0, 0, 0, 0) };
    result == -1 && Errno::last() == Errno::EPERM
}

/// Returns true if `clone` fails with EPERM for a user namespace, and `clone3` with ENOSYS. A child that is made ends at once.
#[cfg(test)]
pub(crate) fn is_namespace_denied() -> bool {
    let flags = libc::c_long::from(libc::CLONE_NEWUSER | Signal::SIGCHLD as i32);
    // SAFETY: without a stack and CLONE_VM this forks; the child only exits. The second call is refused for its size of zero.
    unsafe {
        let made = libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0);
        if made == 0 {
            exit_now(0);
        }
        let denied = made == -1 && Errno::last() == Errno::EPERM;
        denied && libc::syscall(libc::SYS_clone3, 0, 0) == -1 && Errno::last() == Errno::ENOSYS
    }
}

/// A reaped child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExitedChild {
    pub(crate) pid: Pid,
    /// Exit status, if it exited.
    pub(crate) status: Option<i32>,
    /// Signal that ended it, if one did.
    pub(crate) signal: Option<i32>,
}

/// Reaps one child; `None` when all children are alive, `ECHILD` when there is none. Not through `nix`, which fails for a child that
/// was ended by a real-time signal, after it has reaped it.
pub(crate) fn reap() -> nix::Result<Option<ExitedChild>> {
    let mut raw = 0;
    // SAFETY: waitpid writes one int, which outlives the call.
    let pid = Errno::result(unsafe { libc::waitpid(-1, &raw mut raw, libc::WNOHANG) })?;
    if pid == 0 {
        return Ok(None);
    }
    let status = libc::WIFEXITED(raw).then(|| libc::WEXITSTATUS(raw));
    let signal = libc::WIFSIGNALED(raw).then(|| libc::WTERMSIG(raw));
    Ok(Some(ExitedChild { pid: Pid::from_raw(pid), status, signal }))
}

/// Waits for the end of one child, and kills it if it is stopped.
pub(crate) fn wait_for(child: Pid) -> Option<ExitedChild> {
    let mut raw = 0;
    loop {
        // SAFETY: waitpid writes one int, which outlives the call.
        match Errno::result(unsafe { libc::waitpid(child.as_raw(), &raw mut raw, libc::WUNTRACED) }) {
            // Stopped by a process that has the same account: it would never end.
            Ok(_) if libc::WIFSTOPPED(raw) => {
                let _ = nix::sys::signal::kill(child, Signal::SIGKILL);
            }
            Ok(pid) => {
                let status = libc::WIFEXITED(raw).then(|| libc::WEXITSTATUS(raw));
                let signal = libc::WIFSIGNALED(raw).then(|| libc::WTERMSIG(raw));
                return Some(ExitedChild { pid: Pid::from_raw(pid), status, signal });
            }
            Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}

/// Types of System V objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IpcKind {
    SharedMemory,
    MessageQueue,
    Semaphores,
}

/// Returns the number of System V objects of this kind, whoever has them.
pub(crate) fn count_ipc(kind: IpcKind) -> nix::Result<i32> {
    // linux/shm.h, linux/msg.h, linux/sem.h.
    const MSG_INFO: libc::c_int = 12;
    const SHM_INFO: libc::c_int = 14;
    const SEM_INFO: libc::c_int = 19;
    /// Larger than each of the three structures, and aligned like the largest of their fields.
    #[repr(align(16))]
    struct Info([libc::c_int; 64]);
    let mut info = Info([0; 64]);
    let space = &raw mut info;
    // SAFETY: the kernel writes one of these structures into the space, which outlives the call.
    let result = unsafe {
        match kind {
            IpcKind::SharedMemory => libc::shmctl(0, SHM_INFO, space.cast()),
            IpcKind::MessageQueue => libc::msgctl(0, MSG_INFO, space.cast()),
            IpcKind::Semaphores => libc::semctl(0, 0, SEM_INFO, space),
        }
    };
    Errno::result(result)?;
    Ok(match kind {
        // `used_ids` and `msgpool`, the first fields.
        IpcKind::SharedMemory | IpcKind::MessageQueue => info.0[0],
        // `semusz`, the eighth of as many ints.
        IpcKind::Semaphores => info.0[7],
    })
}

/// Removes a System V object.
pub(crate) fn remove_ipc(kind: IpcKind, id: i32) -> nix::Result<()> {
    // SAFETY: IPC_RMID takes no argument beyond the id, and reads or writes no memory of ours.
    let result = unsafe {
        match kind {
            IpcKind::SharedMemory => libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()),
            IpcKind::MessageQueue => libc::msgctl(id, libc::IPC_RMID, std::ptr::null_mut()),
            IpcKind::Semaphores => libc::semctl(id, 0, libc::IPC_RMID),
        }
    };
    Errno::result(result).map(drop)
}

/// Opens a pidfd, which refers to the current process with this pid even after the pid is reused.
pub(crate) fn pidfd_open(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: pidfd_open takes numbers only, and returns a new descriptor, which no other value owns.
    unsafe {
        let fd = Errno::result(libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0))?;
        Ok(OwnedFd::from_raw_fd(i32::try_from(fd).expect("a descriptor is an int")))
    }
}

/// Sends `signal` to the process of a pidfd, never to a process that reuses its pid.
pub(crate) fn pidfd_signal(pidfd: impl AsFd, signal: Signal) -> nix::Result<()> {
    // SAFETY: no siginfo is passed; the kernel makes one.
    let result = unsafe {
        let (fd, info) = (pidfd.as_fd().as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
        libc::syscall(libc::SYS_pidfd_send_signal, fd, signal as i32, info, 0)
    };
    Errno::result(result).map(drop)
}

/// Returns free pages of the heap to the system, with C libraries that can, and those of the stack that earlier calls used; unmaps the
/// pages of programs and libraries, which the page cache keeps: each is mapped again when it is next touched. `ranges` is space for
/// the list of these pages, which the caller keeps, so that little code is touched after the last step.
pub(crate) fn give_memory_back(ranges: &mut Vec<Range<usize>>) {
    ranges.clear();
    if let Ok(smaps) = std::fs::read_to_string("/proc/self/smaps") {
        if let Some(range) = memory_map::unused_stack(&smaps, (&raw const smaps).addr(), page_size()) {
            // SAFETY: below the stack pointer of the current call and a margin for further calls and signals, so no value is
            // there.
            unsafe {
                libc::madvise(range.start as *mut libc::c_void, range.len(), libc::MADV_DONTNEED);
            }
        }
        ranges.extend(memory_map::clean_program_ranges(&smaps));
    }
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim touches only free memory.
    unsafe {
        libc::malloc_trim(0);
    }
    for range in ranges {
        // SAFETY: a private read-only mapping of a file, without pages of our own, of a program or library, which stays mapped:
        // the kernel reads the same bytes from the file again.
        unsafe {
            libc::madvise(range.start as *mut libc::c_void, range.len(), libc::MADV_DONTNEED);
        }
    }
}

/// Zeroed memory outside the heap. Takes up only the pages that were written.
pub(crate) struct Pages {
    start: NonNull<u8>,
    length: usize,
}

impl Pages {
    /// Maps `length` bytes.
    pub(crate) fn map(length: usize) -> nix::Result<Pages> {
        // SAFETY: a new private mapping, at an address that the kernel chooses.
        let start = unsafe {
            let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0)
        };
        if start == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let start = NonNull::new(start.cast()).expect("the kernel maps nothing at address 0");
        Ok(Pages { start, length })
    }

    /// Returns all pages to the system: all bytes are zero afterwards.
    pub(crate) fn clear(&mut self) {
        // SAFETY: the mapping of this value, to which no reference exists during the call.
        unsafe {
            libc::madvise(self.start.as_ptr().cast(), self.length, libc::MADV_DONTNEED);
        }
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: mapped, readable, and zeroed by the kernel; borrowed like this value.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl DerefMut for Pages {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: mapped, writable, and zeroed by the kernel; borrowed like this value.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping of this value, which ends here.
        unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.length);
        }
    }
}

/// Returns the size of a page in bytes.
fn page_size() -> usize {
    // SAFETY: sysconf takes a number only.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).expect("every system has a page size")
}
