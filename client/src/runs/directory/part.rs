//! Files of a run in a directory: opened only if no other user can change them, read within bounds, appended line by line.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::libc;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::StoreError;
use super::super::read::{damaged, parse, versioned};
use super::super::record::Entry;
use crate::files;
use crate::show;

/// Checks that no other user can change a file or directory: a resumed run starts what its record says.
pub(super) fn check_owner(path: &Path, metadata: &fs::Metadata) -> Result<(), StoreError> {
    let insecure = |problem: String| StoreError::Insecure { what: show::path(path), problem };
    let (owner, own) = (metadata.uid(), nix::unistd::geteuid().as_raw());
    if owner != own && owner != 0 {
        return Err(insecure(format!("it belongs to user {owner}, and this is user {own}: use a record of your own")));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(insecure(format!(
            "other users can change it (mode {mode:04o}): check its content, then run `chmod go-w`"
        )));
    }
    Ok(())
}

/// Opens a file of a run. A symbolic link and anything but a regular file are refused.
pub(super) fn open(path: &Path, options: &mut OpenOptions) -> Result<File, StoreError> {
    // Opening a named pipe must not wait for its other end.
    let opened = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP) => not_a_file(path),
        _ => unreadable(path, error),
    })?;
    let metadata = file.metadata().map_err(|error| unreadable(path, error))?;
    if !metadata.is_file() {
        return Err(not_a_file(path));
    }
    check_owner(path, &metadata)?;
    Ok(file)
}

fn not_a_file(path: &Path) -> StoreError {
    StoreError::Insecure { what: show::path(path), problem: "it is not a regular file".to_owned() }
}

/// Opens a file of a run to write it, and creates it if it does not exist.
pub(super) fn open_to_write(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    let opened = open(path, options.create(true).truncate(false).read(true).write(true).mode(0o600));
    opened.map_err(|error| match error {
        StoreError::Io { what, problem, .. } => StoreError::Io { verb: "write", what, problem },
        error => error,
    })
}

/// Reads a part that holds its format.
pub(super) fn read<T: DeserializeOwned>(path: &Path, limit: u64) -> Result<T, StoreError> {
    let file = open(path, OpenOptions::new().read(true))?;
    versioned(&show::path(path), &bytes(path, file, limit)?)
}

/// Reads the entries of the progress. A last line that a crash has cut short is ignored.
pub(super) fn progress(path: &Path, limit: u64) -> Result<Vec<Entry>, StoreError> {
    if path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(Vec::new());
    }
    entries(path, &bytes(path, open(path, OpenOptions::new().read(true))?, limit)?)
}

/// Parses the entries in the content of the progress at `path`.
pub(super) fn entries(path: &Path, bytes: &[u8]) -> Result<Vec<Entry>, StoreError> {
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let lines = bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.zip(1..).map(|(line, number)| parse(&format!("line {number} of {}", show::path(path)), line)).collect()
}

fn bytes(path: &Path, file: File, limit: u64) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, error))?;
    if bytes.len() as u64 > limit {
        return Err(damaged(&show::path(path), &format!("it is larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// Writes a new part. It is durable once its directory is synced.
pub(super) fn write(path: &Path, value: &impl Serialize) -> Result<(), StoreError> {
    let bytes = serde_json::to_vec(value).expect("records are JSON");
    files::write_new(path, &bytes, 0o600).map_err(|error| StoreError::Io {
        verb: "write",
        what: show::path(path),
        problem: show::visible(&error_chain(&error)),
    })
}

/// File to which whole lines are appended, each time durably.
pub(super) struct Appender {
    file: File,
    /// Length of the file after the last append, when its last line was whole.
    whole: Option<u64>,
}

impl Appender {
    /// Returns an appender to `file`, which is open for reading and writing.
    pub(super) fn new(file: File) -> Appender {
        Appender { file, whole: None }
    }

    /// Appends whole lines, over a last one that a crash has cut short. They are durable when this returns.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let length = self.file.seek(io::SeekFrom::End(0))?;
        let end = match self.whole.take() {
            Some(whole) if whole == length => length,
            _ => self.remove_cut_line(length)?,
        };
        let written = self.file.write_all(lines).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => self.whole = Some(end + lines.len() as u64),
            // A full disk: the next attempt begins after the last whole line.
            Err(_) => drop(self.file.set_len(end)),
        }
        written
    }

    /// Removes what follows the last whole line, and returns the end of that.
    fn remove_cut_line(&mut self, length: u64) -> io::Result<u64> {
        let mut end = length;
        let mut block = [0; 4096];
        while end > 0 {
            let from = end.saturating_sub(block.len() as u64);
            let part = &mut block[..usize::try_from(end - from).expect("at most a block")];
            self.file.seek(io::SeekFrom::Start(from))?;
            self.file.read_exact(part)?;
            if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
                end = from + at as u64 + 1;
                break;
            }
            end = from;
        }
        if end < length {
            self.file.set_len(end)?;
        }
        self.file.seek(io::SeekFrom::Start(end))
    }
}

pub(super) fn sync(directory: &Path) -> Result<(), StoreError> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(|error| unwritable(directory, error))
}

pub(super) fn unreadable(path: &Path, error: io::Error) -> StoreError {
    StoreError::Io { verb: "read", what: show::path(path), problem: error.to_string() }
}

pub(super) fn unwritable(path: &Path, error: io::Error) -> StoreError {
    StoreError::Io { verb: "write", what: show::path(path), problem: error.to_string() }
}

pub(super) fn error_chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |source| source.source()).map(ToString::to_string);
    std::iter::once(error.to_string()).chain(sources).collect::<Vec<_>>().join(": ")
}
