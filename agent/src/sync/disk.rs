//! File operations that are atomic and durable: after a power cut a file is complete or absent.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Reads the text of a file of at most `limit` bytes.
pub(super) fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(limit + 1).read_to_string(&mut text)?;
    if text.len() as u64 > limit {
        return Err(io::Error::other(format!("it is larger than {limit} bytes")));
    }
    Ok(text)
}

/// Reads a file of at most `limit` bytes; `None` if it does not exist.
pub(super) fn read_if_there(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("it is larger than {limit} bytes")));
    }
    Ok(Some(bytes))
}

/// Creates a file with permissions `mode`, independent of the umask.
pub(super) fn create(path: &Path, mode: u32) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(file)
}

/// Creates a file, durably.
pub(super) fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = create(path, mode)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Replaces a file atomically.
pub(super) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{}.new", name.trim_start_matches('.')));
    remove_if_there(&temporary)?;
    write_new(&temporary, bytes, mode)?;
    fs::rename(&temporary, path)?;
    sync_directory(path.parent().unwrap_or(path))
}

/// Creates a directory with mode 0755 if it does not exist.
pub(super) fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes a file if it exists.
pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes a directory with everything in it; does nothing when there is none.
pub(super) fn remove_directory_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes a directory by renaming it into `staging` first, so that no reader finds half of it. Idempotent: does nothing
/// when there is none. What a crash leaves in `staging` is removed by the next poll.
pub(super) fn remove_atomically(directory: &Path, staging: &Path) -> io::Result<()> {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    let mut candidates = (0_u32..).map(|n| staging.join(format!("removed-{n}-{name}")));
    let removed = candidates.find(|path| path.symlink_metadata().is_err()).expect("fewer files than numbers");
    match fs::rename(directory, &removed) {
        Ok(()) => fs::remove_dir_all(&removed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes a directory's entries durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes `directory` and everything below it durable. Links are not followed.
pub(super) fn sync_tree(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_directory(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_removed_atomically_and_again() {
        let temporary = tempfile::tempdir().unwrap();
        let (directory, staging) = (temporary.path().join("1.0.0"), temporary.path().join("staging"));
        // Left by an earlier removal that failed.
        fs::create_dir_all(staging.join("removed-0-1.0.0")).unwrap();
        fs::create_dir_all(directory.join("actions")).unwrap();
        fs::write(directory.join("actions/run.sh"), "x").unwrap();
        remove_atomically(&directory, &staging).unwrap();
        assert!(!directory.exists());
        assert_eq!(fs::read_dir(&staging).unwrap().count(), 1);
        remove_atomically(&directory, &staging).unwrap();
    }
}
