//! Classification of failed system calls: no space, no resources, or a failing device. The only code that maps errno values.

use std::io;

use nix::errno::Errno;

/// Fault of the host that a failed system call reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostFault {
    /// No space: the disk or a quota is full, or the file system is read-only.
    Storage,
    /// No descriptors, memory, processes or threads left.
    Resources,
    /// The disk returns I/O errors.
    Device,
}

impl HostFault {
    /// Classifies an error; `None` when it is not a fault of the host.
    pub fn classify(error: &io::Error) -> Option<HostFault> {
        match Errno::from_raw(error.raw_os_error()?) {
            Errno::ENOSPC | Errno::EDQUOT | Errno::EROFS => Some(HostFault::Storage),
            Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS | Errno::EAGAIN => {
                Some(HostFault::Resources)
            }
            Errno::EIO => Some(HostFault::Device),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_errno_is_classified() {
        for (errno, fault) in [
            (Errno::ENOSPC, Some(HostFault::Storage)),
            (Errno::EDQUOT, Some(HostFault::Storage)),
            (Errno::EROFS, Some(HostFault::Storage)),
            (Errno::EMFILE, Some(HostFault::Resources)),
            (Errno::ENFILE, Some(HostFault::Resources)),
            (Errno::ENOMEM, Some(HostFault::Resources)),
            (Errno::EAGAIN, Some(HostFault::Resources)),
            (Errno::EIO, Some(HostFault::Device)),
            (Errno::EACCES, None),
            (Errno::ENOENT, None),
        ] {
            assert_eq!(HostFault::classify(&io::Error::from_raw_os_error(errno as i32)), fault, "{errno}");
        }
        assert_eq!(HostFault::classify(&io::Error::other("not from the system")), None);
    }
}
