//! Directories by descriptor. What lies in a directory of another account is opened component by component,
//! without following links, and judged by what was opened, not by its name.

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

/// Group or others may write.
pub(crate) const LAX: u32 = 0o022;

/// An open directory. The path is for messages only.
pub(crate) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn flags(more: OFlag) -> OFlag {
    OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | more
}

impl Dir {
    /// Opens a path of the configuration; its last component must not be a link.
    pub(crate) fn open(path: &Path) -> nix::Result<Dir> {
        let fd = nix::fcntl::open(path, flags(OFlag::O_DIRECTORY | OFlag::O_RDONLY), Mode::empty())?;
        Ok(Dir { fd, path: path.to_owned() })
    }

    /// The same directory once more.
    pub(crate) fn again(&self) -> nix::Result<Dir> {
        let fd = self.fd.try_clone().map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EMFILE)))?;
        Ok(Dir { fd, path: self.path.clone() })
    }

    /// The names of what is in it; those that are not UTF-8 are none of ours.
    pub(crate) fn names(&self) -> Vec<String> {
        let opened = openat(self, ".", flags(OFlag::O_DIRECTORY | OFlag::O_RDONLY), Mode::empty());
        let Ok(mut listing) = opened.and_then(nix::dir::Dir::from_fd) else { return Vec::new() };
        let entries = listing.iter().filter_map(|entry| Some(entry.ok()?.file_name().to_str().ok()?.to_owned()));
        entries.filter(|name| name != "." && name != "..").collect()
    }

    /// Opens a directory in this one.
    pub(crate) fn dir(&self, name: &str) -> nix::Result<Dir> {
        let fd = openat(self, name, flags(OFlag::O_DIRECTORY | OFlag::O_RDONLY), Mode::empty())?;
        Ok(Dir { fd, path: self.path.join(name) })
    }

    /// Makes a directory in this one, which must not be there yet.
    pub(crate) fn make_dir(&self, name: &str, mode: u32) -> nix::Result<Dir> {
        mkdirat(self, name, Mode::from_bits_truncate(mode))?;
        let made = self.dir(name)?;
        nix::sys::stat::fchmod(&made, Mode::from_bits_truncate(mode))?;
        Ok(made)
    }

    /// Opens a file in this one for reading. Never waits, not even for a named pipe.
    pub(crate) fn file(&self, name: &str) -> nix::Result<File> {
        openat(self, name, flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK), Mode::empty()).map(File::from)
    }

    /// Makes a file in this one, which must not be there yet.
    pub(crate) fn make_file(&self, name: &str, mode: u32, more: OFlag) -> nix::Result<File> {
        let file = openat(self, name, flags(OFlag::O_CREAT | OFlag::O_EXCL | more), Mode::from_bits_truncate(mode))?;
        nix::sys::stat::fchmod(&file, Mode::from_bits_truncate(mode))?;
        Ok(File::from(file))
    }

    /// Reads a regular file of at most `limit` bytes.
    pub(crate) fn read(&self, name: &str, limit: u64) -> io::Result<(Vec<u8>, FileStat)> {
        let file = self.file(name)?;
        let stat = fstat(&file)?;
        if !is_kind(&stat, libc::S_IFREG) {
            return Err(io::Error::other("is not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::other(format!("is larger than {limit} bytes")));
        }
        Ok((bytes, stat))
    }

    /// True if there is something called `name`, whatever it is.
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

    /// Its owner, mode and kind.
    pub(crate) fn stat(&self) -> nix::Result<FileStat> {
        fstat(self)
    }

    /// Where it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// True if `stat` is of a file of this kind (`S_IFREG`, `S_IFDIR` …).
pub(crate) fn is_kind(stat: &FileStat, kind: libc::mode_t) -> bool {
    stat.st_mode & libc::S_IFMT == kind
}

/// Replaces `name` in `dir` by a file with this content, at once.
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
