//! Calls without a safe wrapper: taking over an inherited descriptor, waiting for descriptors, and giving memory back.

#![expect(unsafe_code, reason = "a few calls, each with a SAFETY comment")]

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use inotify::Inotify;
use nix::libc;
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::stat::{SFlag, fstat};
use packs_schema::base::memory_map;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Error returned when a descriptor cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// The descriptor is a standard stream.
    #[error("descriptor {0} is a standard stream, not the launcher's socket")]
    Standard(RawFd),
    /// The descriptor is not open.
    #[error("descriptor {0} is not open: bolt-agent api is started by bolt-launch, which passes its socket there")]
    Closed(RawFd, #[source] nix::Error),
    /// The descriptor is not a socket.
    #[error("descriptor {0} is not a socket: bolt-agent api is started by bolt-launch, which passes its socket there")]
    NotASocket(RawFd),
    /// The environment variable is not a number.
    #[error("environment variable {0} is invalid: it is not the number of a descriptor")]
    NotANumber(&'static str),
    /// The socket is not listening.
    #[error("descriptor {0} is not a listening socket")]
    NotListening(RawFd),
}

/// Takes over an inherited socket. Must be called once, before this process opens any descriptor.
pub fn adopt_socket(fd: RawFd) -> Result<OwnedFd, AdoptError> {
    if fd <= 2 {
        return Err(AdoptError::Standard(fd));
    }
    // SAFETY: only borrowed for one fstat, which reports a closed descriptor as EBADF.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let stat = fstat(borrowed.as_fd()).map_err(|e| AdoptError::Closed(fd, e))?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFSOCK {
        return Err(AdoptError::NotASocket(fd));
    }
    // SAFETY: fstat succeeded, so the descriptor is open; it is inherited, and this process has not opened any yet, so it has no
    // other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes over an inherited listening socket. Must be called once for each, before this process opens any descriptor.
pub fn adopt_listener(fd: RawFd) -> Result<OwnedFd, AdoptError> {
    let socket = adopt_socket(fd)?;
    match getsockopt(&socket, sockopt::AcceptConn) {
        Ok(true) => Ok(socket),
        Ok(false) | Err(_) => Err(AdoptError::NotListening(fd)),
    }
}

/// Registers inotify with the runtime, to wait until events can be read.
pub fn register(inotify: Inotify) -> io::Result<AsyncFd<Inotify>> {
    // SAFETY: an `Inotify` owns one descriptor and closes it when it is dropped, which is not before the `AsyncFd`.
    Ok(unsafe { AsyncFd::register(inotify) }?)
}

/// Registers a socket with the runtime, to wait for this interest only.
pub fn register_socket(socket: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    // SAFETY: a `UnixStream` owns one descriptor and closes it when it is dropped, which is not before the `AsyncFd`.
    Ok(unsafe { AsyncFd::register_with_interest(socket, interest) }?)
}

/// Lets all threads allocate from one heap, so that what each has freed is used by the others and can be returned; with C libraries
/// that have more. Must be called before the first thread is started.
pub fn use_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes numbers only; this process has one thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Frees the pages of the stack that earlier calls used, if this is the main thread. Returns the ranges of programs and libraries whose
/// pages can be unmapped with [`unmap`].
pub fn free_stack() -> Vec<ProgramRange> {
    let Ok(smaps) = std::fs::read_to_string("/proc/self/smaps") else { return Vec::new() };
    if let Some(range) = memory_map::unused_stack(&smaps, (&raw const smaps).addr(), page_size()) {
        // SAFETY: below the stack pointer of the current call and a margin for further calls and signals, so no value is there.
        unsafe {
            libc::madvise(range.start as *mut libc::c_void, range.len(), libc::MADV_DONTNEED);
        }
    }
    memory_map::clean_program_ranges(&smaps).into_iter().map(ProgramRange).collect()
}

/// Address range of a program or library, unchanged since it was mapped.
#[derive(Debug)]
pub struct ProgramRange(Range<usize>);

/// Unmaps the pages of programs and libraries, which the page cache keeps: each is mapped again when it is next touched.
pub fn unmap(ranges: &[ProgramRange]) {
    for ProgramRange(range) in ranges {
        // SAFETY: a private read-only mapping of a file, without pages of our own, of a program or library, which stays mapped:
        // the kernel reads the same bytes from the file again.
        unsafe {
            libc::madvise(range.start as *mut libc::c_void, range.len(), libc::MADV_DONTNEED);
        }
    }
}

/// Returns free pages of the heap to the system, with C libraries that can.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: glibc's malloc_trim may be called at any time from any thread and touches only free memory.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Returns the size of a page in bytes.
fn page_size() -> usize {
    // SAFETY: sysconf takes a number only.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).expect("every system has a page size")
}
