//! What safe wrappers do not offer: taking over an inherited descriptor, waiting for inotify, and giving freed memory back.

#![expect(unsafe_code, reason = "a few calls, each with its argument why it is sound")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use inotify::Inotify;
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::stat::{SFlag, fstat};
use tokio::io::unix::AsyncFd;

/// Why a descriptor could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// It is one of the standard streams.
    #[error("descriptor {0} is a standard stream, not the launcher's socket")]
    Standard(RawFd),
    /// It is not open.
    #[error("descriptor {0} is not open: bolt-agent api is started by bolt-launch, which passes its socket there")]
    Closed(RawFd, #[source] nix::Error),
    /// It is something else.
    #[error("descriptor {0} is not a socket: bolt-agent api is started by bolt-launch, which passes its socket there")]
    NotASocket(RawFd),
    /// Not a number.
    #[error("environment variable {0} is invalid: it is not the number of a descriptor")]
    NotANumber(&'static str),
    /// It is a socket that does not listen.
    #[error("descriptor {0} is not a listening socket")]
    NotListening(RawFd),
}

/// Takes over an inherited socket. To be called once, before anything else opens a descriptor.
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
    // SAFETY: the descriptor is open (fstat said so) and inherited: called before this process opened any, nobody owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes over an inherited listening socket. To be called once for each, before anything else opens a descriptor.
pub fn adopt_listener(fd: RawFd) -> Result<std::net::TcpListener, AdoptError> {
    let socket = adopt_socket(fd)?;
    match getsockopt(&socket, sockopt::AcceptConn) {
        Ok(true) => Ok(std::net::TcpListener::from(socket)),
        Ok(false) | Err(_) => Err(AdoptError::NotListening(fd)),
    }
}

/// Has the runtime say when inotify events can be read.
pub fn register(inotify: Inotify) -> io::Result<AsyncFd<Inotify>> {
    // SAFETY: an `Inotify` owns its descriptor, always the same, and closes it when it is dropped: not before the `AsyncFd`.
    Ok(unsafe { AsyncFd::register(inotify) }?)
}

/// Gives the heap's free pages back to the system, where the C library can.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> i32;
        }
        // SAFETY: glibc's malloc_trim may be called at any time from any thread and touches only free memory.
        unsafe {
            malloc_trim(0);
        }
    }
}
