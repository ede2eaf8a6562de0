//! Files in directories that another account may write, as root meets them.
//!
//! A [`ConfinedDir`] is an open directory that is trusted. Every path below it is walked component by component from its
//! descriptor: a link is never followed at any component; an open never waits for the other end of a pipe; only
//! regular files are read and written, within a limit.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Open directory that confines the paths below it (as `RESOLVE_BENEATH` of openat2(2), which older kernels lack).
#[derive(Debug)]
pub(crate) struct ConfinedDir {
    root: PathBuf,
    directory: OwnedFd,
}

impl ConfinedDir {
    /// Opens `root`, a path that is trusted: only its last component must not be a link.
    pub(crate) fn open(root: &Path) -> io::Result<ConfinedDir> {
        let directory = nix::fcntl::open(root, directory_flags(), Mode::empty())?;
        Ok(ConfinedDir { root: root.to_owned(), directory })
    }

    /// The components of `path`, a path below the root or relative to it.
    fn parts<'a>(&self, path: &'a Path) -> io::Result<Vec<&'a std::ffi::OsStr>> {
        let relative = path.strip_prefix(&self.root).unwrap_or(path);
        let parts = relative.components().filter(|part| *part != Component::CurDir).map(|part| match part {
            Component::Normal(name) => Ok(name),
            _ => Err(io::Error::other(format!("{} is not below {}", path.display(), self.root.display()))),
        });
        parts.collect()
    }

    /// Opens what `path` names with `flags`, through directories only.
    fn at(&self, path: &Path, flags: OFlag, mode: u32) -> io::Result<OwnedFd> {
        let parts = self.parts(path)?;
        let mut at = self.directory.try_clone()?;
        let Some((last, directories)) = parts.split_last() else {
            return Ok(openat(&at, ".", flags | OFlag::O_CLOEXEC, Mode::empty())?);
        };
        for part in directories {
            at = openat(&at, *part, directory_flags(), Mode::empty())?;
        }
        Ok(openat(&at, *last, flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::from_bits_truncate(mode))?)
    }

    /// Opens a regular file for reading.
    pub(crate) fn file(&self, path: &Path) -> io::Result<File> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let file = File::from(self.at(path, flags, 0).map_err(name_link)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        Ok(file)
    }

    /// Reads a regular file of at most `limit` bytes.
    pub(crate) fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file(path)?.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::other(format!("it is larger than {limit} bytes")));
        }
        Ok(bytes)
    }

    /// Writes a new file with this mode, whatever the umask; fails if anything has that name, a link included.
    pub(crate) fn create(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let mut file = File::from(self.at(path, flags, mode)?);
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.write_all(bytes)
    }

    /// Gives a file another name in the root directory, in place of what has it; a link of that name is replaced, not followed.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (self.parts(from)?, self.parts(to)?);
        match (&from[..], &to[..]) {
            ([from], [to]) => Ok(renameat(&self.directory, *from, &self.directory, *to)?),
            _ => Err(io::Error::other("only files of the root directory are renamed")),
        }
    }

    /// Removes a file or a link, never what a link leads to.
    pub(crate) fn remove_file(&self, path: &Path) -> io::Result<()> {
        let (parent, name) = (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default());
        let directory = self.at(parent, directory_flags(), 0)?;
        Ok(unlinkat(&directory, name, UnlinkatFlags::NoRemoveDir)?)
    }

    /// Kind, owner and mode of what `path` names: of a link those of the link.
    pub(crate) fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        File::from(self.at(path, OFlag::O_PATH, 0)?).metadata()
    }

    /// Returns the target of a link.
    pub(crate) fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        let link = self.at(path, OFlag::O_PATH, 0)?;
        Ok(readlinkat(&link, "")?.into())
    }

    /// Returns the entries of a directory, by name; bytes of a name that are not UTF-8 are replaced.
    pub(crate) fn entries(&self, path: &Path) -> io::Result<BTreeMap<String, Metadata>> {
        let entries = self.entries_by_name(path)?;
        Ok(entries.into_iter().map(|(name, meta)| (name.to_string_lossy().into_owned(), meta)).collect())
    }

    /// Returns the entries of a directory, by name.
    pub(crate) fn entries_by_name(&self, path: &Path) -> io::Result<BTreeMap<OsString, Metadata>> {
        let mut entries = BTreeMap::new();
        for entry in Dir::from_fd(self.at(path, directory_flags(), 0)?)?.iter() {
            let name = OsString::from_vec(entry?.file_name().to_bytes().to_vec());
            if name == "." || name == ".." {
                continue;
            }
            match self.metadata(&path.join(&name)) {
                Ok(meta) => drop(entries.insert(name, meta)),
                // Removed between the two calls.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }
}

fn directory_flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

/// `ELOOP` is what a link gives; its own text speaks of "too many levels of symbolic links".
fn name_link(error: io::Error) -> io::Error {
    match error.raw_os_error() == Some(Errno::ELOOP as i32) {
        true => io::Error::other("it is a symbolic link, which is not followed here"),
        false => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    use nix::unistd::mkfifo;

    #[test]
    fn links_are_never_followed_and_pipes_never_waited_for() {
        let temp = tempfile::tempdir().unwrap();
        let (inside, outside) = (temp.path().join("inside"), temp.path().join("outside"));
        for directory in [inside.join("real"), outside.clone()] {
            std::fs::create_dir_all(directory).unwrap();
        }
        std::fs::write(outside.join("file"), "secret").unwrap();
        std::fs::write(inside.join("real/file"), "ours").unwrap();
        symlink(&outside, inside.join("directory")).unwrap();
        symlink(outside.join("file"), inside.join("file")).unwrap();
        symlink(outside.join("made"), inside.join("made")).unwrap();
        mkfifo(&inside.join("pipe"), Mode::from_bits_truncate(0o600)).unwrap();

        let confined = ConfinedDir::open(&inside).unwrap();
        let path = |name: &str| inside.join(name);
        assert_eq!(confined.read(&path("real/file"), 4).unwrap(), b"ours");
        assert_eq!(confined.read(Path::new("real/file"), 4).unwrap(), b"ours");
        for refused in ["file", "directory/file", "pipe", "real", "../outside/file"] {
            assert!(confined.read(&path(refused), 100).is_err(), "{refused}");
        }
        assert!(confined.read(&path("real/file"), 3).is_err(), "it is larger");
        for refused in ["made", "directory/made", "pipe", "real/file"] {
            assert!(confined.create(&path(refused), b"x", 0o644).is_err(), "{refused}");
        }
        assert!(confined.entries(&path("directory")).is_err());
        assert!(confined.remove_file(&path("directory/file")).is_err());
        assert!(confined.metadata(&path("file")).unwrap().is_symlink());
        assert_eq!(confined.read_link(&path("file")).unwrap(), outside.join("file"));
        let names: Vec<String> = confined.entries(&inside).unwrap().into_keys().collect();
        assert_eq!(names, ["directory", "file", "made", "pipe", "real"]);
        confined.remove_file(&path("file")).unwrap();
        assert_eq!(std::fs::read_to_string(outside.join("file")).unwrap(), "secret");
        assert!(!outside.join("made").exists());
        assert!(ConfinedDir::open(&inside.join("directory")).is_err());
    }
}
