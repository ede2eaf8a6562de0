//! Small files of the user's: certificates, keys, configuration, inventory. Reads are bounded; a key that
//! others can read is refused; nothing is overwritten.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Why a file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It could not be read.
    #[error("cannot read {path}", path = crate::show::path(path))]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It could not be written.
    #[error("cannot write {path}", path = crate::show::path(path))]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is there, and would be lost.
    #[error("{path} exists already: remove it first, or choose another directory", path = crate::show::path(.0))]
    Exists(PathBuf),
    /// A key that other people can read.
    #[error("{path} can be read by others (mode {mode:04o}): run `chmod 600 {path}`", path = crate::show::path(path))]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// More than such a file ever holds.
    #[error("{path} is larger than {limit} bytes", path = crate::show::path(path))]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// The most it may have.
        limit: u64,
    },
    /// Not UTF-8.
    #[error("{path} is not UTF-8 text", path = crate::show::path(.0))]
    NotText(PathBuf),
}

/// The text of a file of at most `limit` bytes.
pub fn read_text(path: &Path, limit: u64) -> Result<String, FileError> {
    let file = File::open(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    read_open(path, file, limit)
}

/// The same of a file that nobody but its owner may be able to read.
pub fn read_private_text(path: &Path, limit: u64) -> Result<String, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileError::Exposed { path: path.to_owned(), mode });
    }
    read_open(path, file, limit)
}

fn read_open(path: &Path, file: File, limit: u64) -> Result<String, FileError> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    if bytes.len() as u64 > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), limit });
    }
    String::from_utf8(bytes).map_err(|_| FileError::NotText(path.to_owned()))
}

/// Makes `dir` and what is missing above it, for its owner only.
pub fn create_dir(dir: &Path) -> Result<(), FileError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|source| FileError::Write { path: dir.to_owned(), source })
}

/// Refuses when one of `paths` exists, before any of them is written.
pub fn refuse_existing(paths: &[&Path]) -> Result<(), FileError> {
    match paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => Err(FileError::Exists((*path).to_owned())),
        None => Ok(()),
    }
}

/// Writes a new file with permissions `mode`; refuses when there is one.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => FileError::Exists(path.to_owned()),
        _ => FileError::Write { path: path.to_owned(), source },
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)
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
