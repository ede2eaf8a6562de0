//! Directories by descriptor. Files in directories of another account are opened component by component without following
//! symbolic links, and owner and mode are checked on the open descriptor, not on the path.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Space with which a read begins, in bytes: most files fit, and are read by one call and one that finds the end.
const SPACE: usize = 4 << 10;
/// Mode bits that let group or others write.
pub(crate) const WRITABLE_BY_OTHERS: u32 = 0o022;

/// An open directory. The path is used in messages only.
pub(crate) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Dir> for OwnedFd {
    fn from(dir: Dir) -> OwnedFd {
        dir.fd
    }
}

fn flags(more: OFlag) -> OFlag {
    OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | more
}

impl Dir {
    /// Opens a path. Its last component must not be a symbolic link.
    pub(crate) fn open(path: &Path) -> nix::Result<Dir> {
        let fd = nix::fcntl::open(path, flags(OFlag::O_DIRECTORY | OFlag::O_RDONLY), Mode::empty())?;
        Ok(Dir { fd, path: path.to_owned() })
    }

    /// Returns the directory of a descriptor that was opened with this path.
    pub(crate) fn from_parts(fd: OwnedFd, path: PathBuf) -> Dir {
        Dir { fd, path }
    }

    /// Locks the directory until the last copy of this descriptor is closed. Fails with `EWOULDBLOCK` if another one has it locked.
    pub(crate) fn try_lock(&self) -> nix::Result<()> {
        crate::sys::try_lock(self)
    }

    /// Duplicates the descriptor.
    pub(crate) fn try_clone(&self) -> nix::Result<Dir> {
        let fd = self.fd.try_clone().map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EMFILE)))?;
        Ok(Dir { fd, path: self.path.clone() })
    }

    /// Returns the names of the entries, without those that are not UTF-8, which Bolt never creates.
    pub(crate) fn names(&self) -> Vec<String> {
        let opened = openat(self, ".", flags(OFlag::O_DIRECTORY | OFlag::O_RDONLY), Mode::empty());
        let Ok(mut listing) = opened.and_then(nix::dir::Dir::from_fd) else { return Vec::new() };
        let entries = listing.iter().filter_map(|entry| Some(entry.ok()?.file_name().to_str().ok()?.to_owned()));
        entries.filter(|name| name != "." && name != "..").collect()
    }

    /// Opens a subdirectory.
    pub(crate) fn dir(&self, name: &str) -> nix::Result<Dir> {
        let fd = openat(self, name, flags(OFlag::O_DIRECTORY | OFlag::O_RDONLY), Mode::empty())?;
        Ok(Dir { fd, path: self.path.join(name) })
    }

    /// Creates a subdirectory, which must not exist.
    pub(crate) fn make_dir(&self, name: &str, mode: u32) -> nix::Result<Dir> {
        mkdirat(self, name, Mode::from_bits_truncate(mode))?;
        let made = self.dir(name)?;
        nix::sys::stat::fchmod(&made, Mode::from_bits_truncate(mode))?;
        Ok(made)
    }

    /// Opens a file for reading. Does not block, not even on a named pipe.
    pub(crate) fn file(&self, name: &str) -> nix::Result<File> {
        openat(self, name, flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK), Mode::empty()).map(File::from)
    }

    /// Creates a file, which must not exist.
    pub(crate) fn make_file(&self, name: &str, mode: u32, more: OFlag) -> nix::Result<File> {
        let file = openat(self, name, flags(OFlag::O_CREAT | OFlag::O_EXCL | more), Mode::from_bits_truncate(mode))?;
        nix::sys::stat::fchmod(&file, Mode::from_bits_truncate(mode))?;
        Ok(File::from(file))
    }

    /// Reads a regular file of at most `limit` bytes.
    pub(crate) fn read(&self, name: &str, limit: u64) -> io::Result<(Vec<u8>, FileStat)> {
        let (file, stat) = self.regular_file(name)?;
        Ok((Dir::read_all(file, limit)?, stat))
    }

    /// Opens a regular file, and returns its status.
    pub(crate) fn regular_file(&self, name: &str) -> io::Result<(File, FileStat)> {
        let file = self.file(name)?;
        let stat = fstat(&file)?;
        if !is_kind(&stat, libc::S_IFREG) {
            return Err(io::Error::other("is not a regular file"));
        }
        Ok((file, stat))
    }

    /// Reads an open file of at most `limit` bytes.
    pub(crate) fn read_all(file: File, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(SPACE);
        file.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::other(format!("is larger than {limit} bytes")));
        }
        Ok(bytes)
    }

    /// Returns true if an entry `name` of any type exists.
    pub(crate) fn has(&self, name: &str) -> nix::Result<bool> {
        match fstatat(self, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Removes a file.
    pub(crate) fn remove_file(&self, name: &str) -> nix::Result<()> {
        unlinkat(self, name, UnlinkatFlags::NoRemoveDir)
    }

    /// Removes an empty directory.
    pub(crate) fn remove_dir(&self, name: &str) -> nix::Result<()> {
        unlinkat(self, name, UnlinkatFlags::RemoveDir)
    }

    /// Returns owner, mode and type.
    pub(crate) fn stat(&self) -> nix::Result<FileStat> {
        fstat(self)
    }

    /// Sets the path, after the directory was renamed.
    pub(crate) fn set_path(&mut self, path: PathBuf) {
        self.path = path;
    }

    /// Returns the path by which it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Returns true if `stat` describes a file of this type (`S_IFREG`, `S_IFDIR` …).
pub(crate) fn is_kind(stat: &FileStat, kind: libc::mode_t) -> bool {
    stat.st_mode & libc::S_IFMT == kind
}

/// Replaces the file `name` in `dir` atomically. Not synced to disk.
pub(crate) fn replace_file(dir: &Dir, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    let temporary = format!("{name}.tmp");
    match dir.remove_file(&temporary) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(e) => return Err(e.into()),
    }
    let mut file = dir.make_file(&temporary, mode, OFlag::O_WRONLY)?;
    let written = file.write_all(content);
    let done = written.and_then(|()| Ok(nix::fcntl::renameat(dir, OsStr::new(&temporary), dir, OsStr::new(name))?));
    if done.is_err() {
        let _ = dir.remove_file(&temporary);
    }
    done
}
