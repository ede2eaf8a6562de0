//! Reader that fails beyond a limit instead of ending there: a decompression bomb must not look like a short archive.

use std::io::{self, Read};

pub(super) struct Limited<R> {
    inner: R,
    left: u64,
    limit: u64,
}

impl<R> Limited<R> {
    pub(super) fn new(inner: R, limit: u64) -> Limited<R> {
        Limited { inner, left: limit, limit }
    }

    /// Returns the number of bytes read.
    pub(super) fn count(&self) -> u64 {
        self.limit - self.left
    }

    pub(super) fn into_inner(self) -> R {
        self.inner
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::other(format!(
                "the archive unpacks to more than the {} bytes that one of its size may",
                self.limit
            ))
        })?;
        Ok(count)
    }
}
