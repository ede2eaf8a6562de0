//! A pack's archive in a temporary file, so that its size costs no memory.
//!
//! The file has no name: it is gone when the last handle of it is closed, however the process ends.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use packs_schema::base::name::Digest;

use crate::hashing::{Hashed, Hashing};
use crate::pack::PackError;

/// An archive in a temporary file without a name. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ArchiveFile {
    file: Arc<File>,
    size_bytes: u64,
    digest: Digest,
}

impl ArchiveFile {
    /// Copies an archive into a temporary file. An error tells whether it could not be read or could not be written.
    pub(crate) fn copy_of(
        mut from: impl Read,
        unreadable: impl FnOnce(io::Error) -> PackError,
    ) -> Result<ArchiveFile, PackError> {
        let mut writer = ArchiveFile::begin()?;
        let mut source = Source::new(&mut from);
        match io::copy(&mut source, &mut writer) {
            Ok(_) => Ok(ArchiveFile::finish(writer)),
            Err(error) if source.failed => Err(unreadable(error)),
            Err(error) => Err(unwritable(error)),
        }
    }

    /// An empty temporary file for an archive, which is hashed while it is written.
    pub(super) fn begin() -> Result<Hashing<File>, PackError> {
        tempfile::tempfile().map(Hashing::new).map_err(unwritable)
    }

    /// The archive that was written to what [`ArchiveFile::begin`] gave.
    pub(super) fn finish(writer: Hashing<File>) -> ArchiveFile {
        let (file, Hashed { bytes, sha256 }) = writer.finish();
        let digest = Digest::new(sha256).expect("SHA-256 has 64 hexadecimal digits");
        ArchiveFile { file: Arc::new(file), size_bytes: bytes, digest }
    }

    /// Its length.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Its SHA-256.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Reads it from its start.
    pub fn reader(&self) -> ArchiveReader {
        ArchiveReader { file: Arc::clone(&self.file), position: 0 }
    }

    /// The whole archive, in memory.
    pub fn to_vec(&self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.size_bytes).unwrap_or_default());
        self.reader().read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The file. Its cursor is anywhere: it is to be read at offsets.
    #[cfg(feature = "s3")]
    pub(crate) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }
}

/// Reads an archive, with a position of its own.
#[derive(Debug)]
pub struct ArchiveReader {
    file: Arc<File>,
    position: u64,
}

impl Read for ArchiveReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

/// A reader that remembers that it failed, for copies that can fail on either side.
pub(super) struct Source<R> {
    inner: R,
    pub(super) failed: bool,
}

impl<R> Source<R> {
    pub(super) fn new(inner: R) -> Source<R> {
        Source { inner, failed: false }
    }

    pub(super) fn into_inner(self) -> R {
        self.inner
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer);
        self.failed = read.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted);
        read
    }
}

/// The error for an archive that cannot be written. The default directory can be changed with `TMPDIR`.
pub(super) fn unwritable(error: io::Error) -> PackError {
    PackError::Temporary { directory: std::env::temp_dir(), source: error }
}
