//! A writer that computes the length and the SHA-256 of what passes through it, so that nothing has to be kept in memory.

use std::io::{self, Write};

use sha2::{Digest as _, Sha256};

/// Writes to `inner` and hashes what was written.
#[derive(Debug)]
pub(crate) struct Hashing<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

/// Length and digest of what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hashed {
    /// How many bytes.
    pub(crate) bytes: u64,
    /// Their SHA-256, in hexadecimal digits.
    pub(crate) sha256: String,
}

impl<W: Write> Hashing<W> {
    pub(crate) fn new(inner: W) -> Hashing<W> {
        Hashing { inner, hash: Sha256::new(), bytes: 0 }
    }

    /// The writer beneath, and what was written to it.
    pub(crate) fn finish(self) -> (W, Hashed) {
        let sha256 = self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        (self.inner, Hashed { bytes: self.bytes, sha256 })
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or(bytes));
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
