//! Small files of the user: certificates, keys, configuration, inventory. Reads are bounded; a key that others can read is
//! refused; only [`replace`] and [`replace_private`] overwrite a file, atomically.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Error returned when a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file could not be read.
    #[error("cannot read {path}{named}", path = crate::show::path(path), named = named(named_by.as_deref()))]
    Read {
        /// The file.
        path: PathBuf,
        /// Option, variable or line of a file that names it, if known.
        named_by: Option<String>,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The file could not be written.
    #[error("cannot write {path}", path = crate::show::path(path))]
    Write {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The file exists and would be overwritten.
    #[error("{path} exists already: remove it first, or choose another directory", path = crate::show::path(.0))]
    Exists(PathBuf),
    /// The file holds a key, and other accounts can read it.
    #[error("{path} can be read by others (mode {mode:04o}): run `chmod 600 {path}`", path = crate::show::path(path))]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is larger than such a file can be.
    #[error("{path} is larger than {limit} bytes", path = crate::show::path(path))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Maximum size in bytes.
        limit: u64,
    },
    /// The file is not UTF-8 text.
    #[error("{path} is not UTF-8 text", path = crate::show::path(.0))]
    NotText(PathBuf),
}

impl FileError {
    /// Adds the option, variable or line of a file that names the file, where reading it failed.
    #[must_use]
    pub fn named_by(self, origin: impl fmt::Display) -> FileError {
        match self {
            FileError::Read { path, source, .. } => {
                FileError::Read { path, named_by: Some(origin.to_string()), source }
            }
            other => other,
        }
    }
}

fn named(by: Option<&str>) -> String {
    by.map(|origin| format!(", which {origin} names")).unwrap_or_default()
}

/// Reads a text file of at most `limit` bytes.
pub fn read_text(path: &Path, limit: u64) -> Result<String, FileError> {
    let file = File::open(path).map_err(|source| FileError::Read { path: path.to_owned(), named_by: None, source })?;
    read_open(path, file, limit)
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read_bytes(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let file = File::open(path).map_err(|source| FileError::Read { path: path.to_owned(), named_by: None, source })?;
    read_open_bytes(path, file, limit)
}

/// Reads a text file that must be readable by its owner only.
pub fn read_private_text(path: &Path, limit: u64) -> Result<String, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), named_by: None, source };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileError::Exposed { path: path.to_owned(), mode });
    }
    read_open(path, file, limit)
}

fn read_open(path: &Path, file: File, limit: u64) -> Result<String, FileError> {
    let bytes = read_open_bytes(path, file, limit)?;
    String::from_utf8(bytes).map_err(|_| FileError::NotText(path.to_owned()))
}

fn read_open_bytes(path: &Path, file: File, limit: u64) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|source| FileError::Read {
        path: path.to_owned(),
        named_by: None,
        source,
    })?;
    if bytes.len() as u64 > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

/// Makes `dir` and its missing parents, accessible to its owner only.
pub fn create_dir(dir: &Path) -> Result<(), FileError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|source| FileError::Write { path: dir.to_owned(), source })
}

/// Returns an error if one of `paths` exists.
pub fn refuse_existing(paths: &[&Path]) -> Result<(), FileError> {
    match paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => Err(FileError::Exists((*path).to_owned())),
        None => Ok(()),
    }
}

/// Writes a new file with permissions `mode`; an existing file is an error.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => FileError::Exists(path.to_owned()),
        _ => FileError::Write { path: path.to_owned(), source },
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)
}

/// Replaces the file at `path` atomically: a temporary file beside it, synced, with the old file's owner and mode, is renamed
/// over it. A file that does not exist yet gets mode 0644.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    stage(path, bytes)?.commit()
}

/// Replaces a private file in the same way; other accounts lose access to it, and a group keeps only what it may read. A file
/// that does not exist yet gets mode 0600.
pub fn replace_private(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    stage_private(path, bytes)?.commit()
}

/// Writes what is to replace the file at `path` beside it; [`Staged::commit`] renames it. For files that change together.
pub fn stage(path: &Path, bytes: &[u8]) -> Result<Staged, FileError> {
    stage_with(path, bytes, 0o644, 0o777)
}

/// Writes what is to replace a private file, as [`replace_private`] does.
pub fn stage_private(path: &Path, bytes: &[u8]) -> Result<Staged, FileError> {
    stage_with(path, bytes, 0o600, 0o640)
}

/// Complete and durable content of a file that has not replaced the old one yet. Dropping it removes it.
#[derive(Debug)]
pub struct Staged {
    temporary: tempfile::NamedTempFile,
    path: PathBuf,
    /// File that is replaced: where `path` leads.
    target: PathBuf,
    exists: bool,
}

impl Staged {
    /// Replaces the file.
    pub fn commit(self) -> Result<(), FileError> {
        let failed = |source: io::Error| FileError::Write { path: self.path.clone(), source };
        self.temporary.persist(&self.target).map_err(|error| failed(error.error))?;
        sync_directory(&self.target).map_err(failed)
    }

    /// Gives the old file a second name, `<file>.old`, under which it remains; `None` when there is no old file.
    pub fn keep_old(&self) -> Result<Option<KeptOld>, FileError> {
        if !self.exists {
            return Ok(None);
        }
        let mut name = self.target.clone().into_os_string();
        name.push(".old");
        let old = PathBuf::from(name);
        refuse_existing(&[&old])?;
        fs::hard_link(&self.target, &old).map_err(|source| FileError::Write { path: old.clone(), source })?;
        Ok(Some(KeptOld { old, target: self.target.clone() }))
    }
}

/// The old file of a replacement, under its second name.
#[derive(Debug)]
pub struct KeptOld {
    old: PathBuf,
    target: PathBuf,
}

impl KeptOld {
    /// Puts the old file back in place of the new one.
    pub fn restore(self) -> Result<(), FileError> {
        let failed = |source| FileError::Write { path: self.target.clone(), source };
        // Where nothing was replaced, both names are of one file, and rename(2) does nothing.
        fs::rename(&self.old, &self.target).map_err(failed)?;
        let _ = fs::remove_file(&self.old);
        sync_directory(&self.target).map_err(failed)
    }

    /// Removes the second name.
    pub fn remove(self) -> Result<(), FileError> {
        fs::remove_file(&self.old).map_err(|source| FileError::Write { path: self.old.clone(), source })
    }
}

fn stage_with(path: &Path, bytes: &[u8], new_mode: u32, allowed: u32) -> Result<Staged, FileError> {
    let failed = |source: io::Error| FileError::Write { path: path.to_owned(), source };
    // A link stays a link: what it leads to is replaced.
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let old = match fs::metadata(&target) {
        Ok(meta) => Some(meta),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    let mut temporary = tempfile::Builder::new().prefix(".bolt-").tempfile_in(directory_of(&target)).map_err(failed)?;
    let write = |file: &mut File| -> io::Result<()> {
        file.write_all(bytes)?;
        let made = file.metadata()?;
        if let Some(old) = old.as_ref().filter(|old| (old.uid(), old.gid()) != (made.uid(), made.gid())) {
            std::os::unix::fs::fchown(&*file, Some(old.uid()), Some(old.gid()))?;
        }
        let mode = old.as_ref().map_or(new_mode, |old| old.mode() & allowed);
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()
    };
    write(temporary.as_file_mut()).map_err(failed)?;
    Ok(Staged { temporary, path: path.to_owned(), target, exists: old.is_some() })
}

pub(crate) fn directory_of(file: &Path) -> &Path {
    file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the names in the directory of `file` durable.
pub(crate) fn sync_directory(file: &Path) -> io::Result<()> {
    File::open(directory_of(file)).and_then(|directory| directory.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k.key");
        write_new(&path, b"secret", 0o600).unwrap();
        assert_eq!(read_private_text(&path, 100).unwrap(), "secret");
        for mode in [0o640, 0o604, 0o644, 0o620] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = read_private_text(&path, 100).unwrap_err().to_string();
            assert!(error.contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn a_file_over_its_limit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write_new(&path, b"12345", 0o600).unwrap();
        assert!(matches!(read_text(&path, 4), Err(FileError::TooLarge { .. })));
        assert!(matches!(write_new(&path, b"", 0o600), Err(FileError::Exists(_))));
    }
}
