//! Blob under construction: in memory while it is small, then in a temporary file.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use packs_schema::agent::execution::file;

use super::{HEADER, Header, MAX_INLINE};

/// Name of the temporary file.
pub(super) const NEW: &str = "archive.new";

/// Writer that spills to a file when the blob no longer fits the database.
pub(super) struct Spill {
    directory: PathBuf,
    memory: Vec<u8>,
    file: Option<File>,
    written: u64,
}

impl Spill {
    /// Starts a blob with space for the header.
    pub(super) fn new(directory: &Path) -> Spill {
        let (memory, written) = (vec![0; HEADER], HEADER as u64);
        Spill { directory: directory.to_owned(), memory, file: None, written }
    }

    /// Number of bytes written so far.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Writes the header and completes the blob: returns a small one; a larger one is durably renamed into place.
    pub(super) fn finish(mut self, header: &Header) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.file else {
            self.memory[..HEADER].copy_from_slice(&header.encode());
            return Ok(Some(self.memory));
        };
        file.write_all_at(&header.encode(), 0)?;
        file.sync_all()?;
        std::fs::rename(self.directory.join(NEW), self.directory.join(file::ARCHIVE))?;
        File::open(&self.directory)?.sync_all()?;
        Ok(None)
    }

    fn begin_file(&self) -> io::Result<File> {
        let path = self.directory.join(NEW);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
        let mut file = options.open(path)?;
        file.write_all(&self.memory)?;
        Ok(file)
    }
}

impl Write for Spill {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.file.is_none() && self.memory.len() + bytes.len() <= MAX_INLINE {
            self.memory.extend_from_slice(bytes);
        } else {
            if self.file.is_none() {
                self.file = Some(self.begin_file()?);
                self.memory = Vec::new();
            }
            if let Some(file) = &mut self.file {
                file.write_all(bytes)?;
            }
        }
        self.written += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
