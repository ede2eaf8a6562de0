//! Start of an action's process: in shared memory where that is safe, within a limited time, and without allocations.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::{Pages, exit_now, fork, fork_into};

/// Stack of a child until it executes a program. Not guarded: children use a small part of it.
pub(crate) struct Stack(Pages);

impl Stack {
    /// Size in bytes, a multiple of the size of a page.
    const SIZE: usize = 64 << 10;

    pub(crate) fn map() -> nix::Result<Stack> {
        Pages::map(Stack::SIZE).map(Stack)
    }
}

/// Runs `child` in a new process, in a v2 cgroup if one is given as its open directory. The process ends with status 127 when `child`
/// returns.
///
/// With a stack, on x86-64, the process shares the memory of this one, which is suspended until the child executes a program or ends
/// (`vfork(2)`): no page table is copied, and no page is when either of them writes. Without a stack, elsewhere, and where that fails,
/// as under a system call filter without `clone3`, it is forked.
pub(crate) fn spawn(
    cgroup: Option<BorrowedFd<'_>>,
    stack: Option<&mut Stack>,
    child: &mut dyn FnMut(),
) -> nix::Result<Pid> {
    #[cfg(target_arch = "x86_64")]
    if let Some(stack) = stack {
        let spawned = spawn_sharing(cgroup, stack, child);
        // No longer used: a shim supervises most of its time.
        stack.0.clear();
        // Whatever the reason was, the fork below decides.
        if spawned.is_ok() {
            return spawned;
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    drop(stack);
    let forked = match cgroup {
        Some(cgroup) => fork_into(cgroup),
        None => fork(),
    };
    match forked? {
        Some(pid) => Ok(pid),
        None => {
            child();
            exit_now(127)
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn spawn_sharing(cgroup: Option<BorrowedFd<'_>>, stack: &mut Stack, child: &mut dyn FnMut()) -> nix::Result<Pid> {
    extern "C" fn run(child: *mut &mut dyn FnMut()) -> ! {
        // SAFETY: the pointer is of a reference in the frame of the suspended parent.
        unsafe { (*child)() };
        exit_now(127)
    }
    let mut args = clone_args(cgroup);
    args.flags |= (libc::CLONE_VM | libc::CLONE_VFORK).cast_unsigned() as u64;
    args.stack = stack.0.start.as_ptr().addr() as u64;
    args.stack_size = stack.0.length as u64;
    let mut child = child;
    let result: i64;
    // SAFETY: the child begins with an empty stack of its own, on which it calls `run`, which never returns to the frames of the
    // parent. The kernel suspends the parent, the only thread, until the child has left the shared memory, so nothing changes
    // under its feet; the compiler assumes that the block changes memory, as the child does.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") &raw const args,
            in("rsi") size_of_val(&args),
            in("r12") &raw mut child,
            in("r13") run as extern "C" fn(*mut &mut dyn FnMut()) -> !,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    match i32::try_from(result) {
        Ok(pid) if pid > 0 => Ok(Pid::from_raw(pid)),
        Ok(error) => Err(Errno::from_raw(-error)),
        Err(_) => Err(Errno::EINVAL),
    }
}

/// Returns the arguments of a `clone3` that forks, into a v2 cgroup if one is given.
pub(super) fn clone_args(cgroup: Option<BorrowedFd<'_>>) -> libc::clone_args {
    const CLONE_INTO_CGROUP: u64 = 1 << 33;
    // SAFETY: all fields of this structure are numbers, for which zero is valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.exit_signal = Signal::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags = CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(cgroup.as_raw_fd()).expect("a descriptor is not negative");
    }
    args
}

/// A timer that kills this process unless it executes a program, which deletes the timer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExecuteTimer(libc::c_int);

/// Has this process killed after some time unless it has executed a program by then. Unlike the deadline of an action, this also
/// acts while its shim is suspended. Allocates nothing.
pub(crate) fn kill_unless_executed(within: Duration) -> nix::Result<ExecuteTimer> {
    // SAFETY: all fields of this structure are numbers, for which zero is valid.
    let mut event: libc::sigevent = unsafe { std::mem::zeroed() };
    event.sigev_notify = libc::SIGEV_SIGNAL;
    event.sigev_signo = Signal::SIGKILL as i32;
    let mut timer = ExecuteTimer(0);
    // SAFETY: the kernel reads the event and writes the number of the timer, an int. Not through libc, which may allocate.
    unsafe {
        let clock = libc::CLOCK_MONOTONIC;
        Errno::result(libc::syscall(libc::SYS_timer_create, clock, &raw const event, &raw mut timer.0))?;
    }
    timer.restart(within)?;
    Ok(timer)
}

impl ExecuteTimer {
    /// Begins the time again.
    pub(crate) fn restart(self, within: Duration) -> nix::Result<()> {
        // SAFETY: all fields of this structure are numbers, for which zero is valid.
        let mut limit: libc::itimerspec = unsafe { std::mem::zeroed() };
        limit.it_value.tv_sec = within.as_secs().try_into().unwrap_or(libc::time_t::MAX);
        limit.it_value.tv_nsec = within.subsec_nanos().into();
        // SAFETY: the kernel reads the limit and writes nothing.
        unsafe {
            let old = std::ptr::null_mut::<libc::itimerspec>();
            Errno::result(libc::syscall(libc::SYS_timer_settime, self.0, 0, &raw const limit, old)).map(drop)
        }
    }
}

/// Returns true if a child that is not reaped yet was ended by this signal, or is ended by it within some time: a process that
/// shares memory gives that up, and so wakes its parent, before it can be waited for.
pub(crate) fn is_ended_by(child: Pid, signal: Signal, within: Duration) -> bool {
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let begun = Instant::now();
    loop {
        match waitid(Id::Pid(child), flags) {
            Ok(WaitStatus::StillAlive) if executes_another_program(child) => return false,
            Ok(WaitStatus::StillAlive) if begun.elapsed() < within => std::thread::sleep(Duration::from_millis(1)),
            ended => return matches!(ended, Ok(WaitStatus::Signaled(_, by, _)) if by == signal),
        }
    }
}

/// Returns true if a process executes another program than this one; false also where that cannot be seen.
fn executes_another_program(pid: Pid) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let program = |of: &str| std::fs::metadata(format!("/proc/{of}/exe")).map(|file| (file.dev(), file.ino()));
    matches!((program(&pid.to_string()), program("self")), (Ok(its), Ok(own)) if its != own)
}

/// A program with its arguments and environment, prepared so that executing it allocates nothing.
pub(crate) struct Image<'a> {
    path: &'a CStr,
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
    last_variable: [u8; Image::MAX_VARIABLE],
}

impl<'a> Image<'a> {
    /// Maximum size of the variable that is added last.
    const MAX_VARIABLE: usize = 80;

    pub(crate) fn new(path: &'a CStr, arguments: &'a [CString], environment: &'a [CString]) -> Image<'a> {
        let pointers = |texts: &'a [CString], empty: usize| {
            texts.iter().map(|text| text.as_ptr()).chain(std::iter::repeat_n(std::ptr::null(), empty)).collect()
        };
        let (arguments, environment) = (pointers(arguments, 1), pointers(environment, 2));
        Image { path, arguments, environment, last_variable: [0; Image::MAX_VARIABLE] }
    }

    /// Executes the program, with the variable that `write` writes as well. Returns the error.
    pub(crate) fn execute(&mut self, write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> Errno {
        let (text, _nul) = self.last_variable.split_at_mut(Image::MAX_VARIABLE - 1);
        if write(&mut &mut *text).is_err() {
            return Errno::E2BIG;
        }
        let last = self.environment.len() - 2;
        self.environment[last] = self.last_variable.as_ptr().cast();
        // SAFETY: path, arguments and variables are C strings that outlive the call, and both lists end with a null pointer.
        unsafe { libc::execve(self.path.as_ptr(), self.arguments.as_ptr(), self.environment.as_ptr()) };
        Errno::last()
    }
}
