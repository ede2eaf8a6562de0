//! What a failed call says that the host lacks. The one place that knows which number means what.

use std::io;

use nix::errno::Errno;

/// What is lacking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// Room: the disk or a quota is full, or the file system takes no writes.
    Storage,
    /// Descriptors, memory, processes or threads.
    Resources,
    /// A disk that does what it is told.
    Device,
}

impl Shortage {
    /// `None`: the call failed for another reason.
    pub fn of(error: &io::Error) -> Option<Shortage> {
        match Errno::from_raw(error.raw_os_error()?) {
            Errno::ENOSPC | Errno::EDQUOT | Errno::EROFS => Some(Shortage::Storage),
            Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS | Errno::EAGAIN => Some(Shortage::Resources),
            Errno::EIO => Some(Shortage::Device),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_says_what_is_lacking() {
        for (errno, lacks) in [
            (Errno::ENOSPC, Some(Shortage::Storage)),
            (Errno::EDQUOT, Some(Shortage::Storage)),
            (Errno::EROFS, Some(Shortage::Storage)),
            (Errno::EMFILE, Some(Shortage::Resources)),
            (Errno::ENFILE, Some(Shortage::Resources)),
            (Errno::ENOMEM, Some(Shortage::Resources)),
            (Errno::EAGAIN, Some(Shortage::Resources)),
            (Errno::EIO, Some(Shortage::Device)),
            (Errno::EACCES, None),
            (Errno::ENOENT, None),
        ] {
            assert_eq!(Shortage::of(&io::Error::from_raw_os_error(errno as i32)), lacks, "{errno}");
        }
        assert_eq!(Shortage::of(&io::Error::other("none of the system's")), None);
    }
}
