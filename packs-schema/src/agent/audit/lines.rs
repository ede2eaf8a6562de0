//! Lines of a file of the audit log, in bounded memory.

use std::io::{self, BufRead, Read};

use super::MAX_LINE;

/// Piece of a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Line, without its line feed.
    Line(&'a [u8]),
    /// Line that is longer than any entry, of which nothing is kept.
    TooLong,
    /// End of the file without a line feed: an entry that was being written when the power failed.
    Incomplete(&'a [u8]),
}

/// Reads lines one after another.
#[derive(Debug)]
pub struct Lines<R> {
    reader: R,
    line: Vec<u8>,
    ended: bool,
    /// True if the rest of a line that is too long is still to be read.
    in_long_line: bool,
}

impl<R: BufRead> Lines<R> {
    /// Reads the lines of `reader`.
    pub fn new(reader: R) -> Lines<R> {
        Lines { reader, line: Vec::new(), ended: false, in_long_line: false }
    }

    /// Returns the next piece; `None` at the end.
    pub fn next_piece(&mut self) -> io::Result<Option<Piece<'_>>> {
        if self.ended {
            return Ok(None);
        }
        if std::mem::take(&mut self.in_long_line) {
            self.reader.skip_until(b'\n')?;
        }
        self.line.clear();
        self.reader.by_ref().take(MAX_LINE as u64).read_until(b'\n', &mut self.line)?;
        let has_end = self.line.last() == Some(&b'\n');
        self.in_long_line = !has_end && self.line.len() == MAX_LINE;
        self.ended = !has_end && !self.in_long_line;
        Ok(match self.line.split_last() {
            None => None,
            Some((b'\n', line)) => Some(Piece::Line(line)),
            Some(_) if self.in_long_line => Some(Piece::TooLong),
            Some(_) => Some(Piece::Incomplete(&self.line)),
        })
    }
}
