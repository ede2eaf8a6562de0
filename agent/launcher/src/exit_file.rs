//! The file `exit` of an execution, preallocated before the action starts, so that a full disk cannot prevent the exit record.
//!
//! ```text
//!  launcher: create exit.new, allocate EXIT_PREALLOCATED ─▶ fork ─▶ … ─▶ shim: write the record, rename to exit
//! ```
//!
//! The space is allocated beyond the end of the file, so that the record alone determines its length: truncating a file takes
//! some file systems longer than everything else at the end of an execution, and readers of `exit` would wait for it. Nor is it
//! truncated afterwards, so that a block stays allocated until the directory is removed: ext4 mounted with `discard` may wait some
//! milliseconds for the disk when it frees one, and what is committed to the history meanwhile waits as well.
//!
//! Nothing is synced: after a crash of the host the boot id decides, and no record is looked for. An `exit.new` left by a crash
//! has no meaning; the next writer removes it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, fallocate, renameat};
use packs_schema::agent::execution::reserve::EXIT_PREALLOCATED;
use packs_schema::agent::execution::{Exit, file};

use crate::dir::{self, Dir};

/// Maximum bytes, as JSON, each of `reason`, `result_error` and all of `unenforced` in a shortened record, so that it always fits
/// into the preallocated space.
const MAX_TEXT: usize = 800;

/// An open `exit.new` with its preallocated space.
pub(crate) struct ExitFile {
    file: File,
}

impl AsFd for ExitFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl From<File> for ExitFile {
    /// Returns the value of an open `exit.new`, which another process preallocated.
    fn from(file: File) -> ExitFile {
        ExitFile { file }
    }
}

impl ExitFile {
    /// Creates the file and allocates its space. After an error, neither exists.
    pub(crate) fn preallocate(directory: &Dir) -> nix::Result<ExitFile> {
        let make = || directory.make_file(file::EXIT_NEW, 0o644, OFlag::O_WRONLY);
        let made = match make() {
            // The caller has claimed the execution, so this is a leftover of a crash, or was put there by someone else.
            Err(Errno::EEXIST) => directory.remove_file(file::EXIT_NEW).and_then(|()| make()),
            other => other,
        };
        let exit_file = ExitFile { file: made? };
        exit_file.allocate().inspect_err(|_| ExitFile::discard(directory))?;
        Ok(exit_file)
    }

    /// Removes the file, when nothing was started.
    pub(crate) fn discard(directory: &Dir) {
        let _ = directory.remove_file(file::EXIT_NEW);
    }

    fn allocate(&self) -> nix::Result<()> {
        let length = i64::try_from(EXIT_PREALLOCATED).expect("it is small");
        match fallocate(&self.file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, length) {
            // File systems without fallocate: write zeros, which are truncated later.
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => (&self.file)
                .write_all(&vec![0; usize::try_from(EXIT_PREALLOCATED).expect("it is small")])
                .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(nix::libc::EIO))),
            other => other,
        }
    }

    /// Writes the record and renames it to `exit`. A record that does not fit, because the disk has no space beyond what was
    /// preallocated, is shortened.
    pub(crate) fn write(&self, directory: &Dir, exit: &Exit) -> io::Result<()> {
        let whole = to_json(exit);
        if let Err(why) = self.write_content(&whole) {
            self.write_content(&to_json(&shorten(exit, &why)))?;
        }
        match renameat(directory, OsStr::new(file::EXIT_NEW), directory, OsStr::new(file::EXIT)) {
            // `exit.new` was removed.
            Err(Errno::ENOENT) => dir::replace_file(directory, file::EXIT, 0o644, &whole),
            Err(e) => Err(e.into()),
            Ok(()) => Ok(()),
        }
    }

    fn write_content(&self, json: &[u8]) -> io::Result<()> {
        self.file.write_all_at(json, 0)?;
        let length = json.len() as u64;
        if self.file.metadata()?.len() == length { Ok(()) } else { self.file.set_len(length) }
    }
}

fn to_json(exit: &Exit) -> Vec<u8> {
    serde_json::to_vec(exit).expect("a record serialises")
}

/// Returns a record that fits into the preallocated space: without result and program names, and with short texts.
fn shorten(exit: &Exit, why: &io::Error) -> Exit {
    let mut short = exit.clone();
    if short.result.take().is_some() {
        short.result_error =
            Some(format!("the result was dropped, because the exit record did not fit on the disk: {why}"));
    }
    for text in short.reason.iter_mut().chain(&mut short.result_error) {
        truncate(text, MAX_TEXT);
    }
    if let Some(leftovers) = &mut short.leftovers {
        leftovers.programs.clear();
    }
    let mut left = MAX_TEXT;
    for text in &mut short.unenforced {
        left -= truncate(text, left);
    }
    short.unenforced.retain(|text| !text.is_empty());
    short
}

/// Shortens a text to at most `max` bytes as JSON, and returns their number.
fn truncate(text: &mut String, max: usize) -> usize {
    let escaped = |c: char| match c {
        '"' | '\\' => 2,
        c if c < ' ' => 6,
        c => c.len_utf8(),
    };
    let (mut length, mut end) = (0, 0);
    for c in text.chars() {
        if length + escaped(c) > max {
            text.truncate(end);
            break;
        }
        length += escaped(c);
        end += c.len_utf8();
    }
    length
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::records::record;

    use serde_json::json;

    fn exit() -> Exit {
        record(json!({ "started_at_ms": u64::MAX, "ended_at_ms": u64::MAX, "duration_ms": u64::MAX }))
    }

    fn read(dir: &Dir, name: &str) -> Vec<u8> {
        std::fs::read(dir.path().join(name)).unwrap()
    }

    #[test]
    fn the_exit_file_holds_the_record_and_nothing_else() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        // Left over by a crash, and longer than any record.
        std::fs::write(temporary.path().join(file::EXIT_NEW), vec![b'x'; 100_000]).unwrap();
        let exit_file = ExitFile::preallocate(&dir).unwrap();
        let allocated = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().blocks() * 512;
        assert!(allocated(file::EXIT_NEW) >= EXIT_PREALLOCATED);
        for mut exit in [exit(), exit()] {
            exit.reason = Some("x".repeat(20_000));
            exit_file.write(&dir, &exit).unwrap();
            assert_eq!(serde_json::from_slice::<Exit>(&read(&dir, file::EXIT)).unwrap(), exit);
        }
        assert!(!dir.has(file::EXIT_NEW).unwrap());
        // A short record keeps its space: to free it could take longer than the execution.
        let exit_file = ExitFile::preallocate(&dir).unwrap();
        exit_file.write(&dir, &exit()).unwrap();
        assert_eq!(serde_json::from_slice::<Exit>(&read(&dir, file::EXIT)).unwrap(), exit());
        assert!(allocated(file::EXIT) >= EXIT_PREALLOCATED, "{}", allocated(file::EXIT));
    }

    /// File systems without fallocate.
    #[test]
    fn zeros_written_for_preallocation_are_truncated() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        let exit_file = ExitFile::preallocate(&dir).unwrap();
        std::fs::write(temporary.path().join(file::EXIT_NEW), vec![0; usize::try_from(EXIT_PREALLOCATED).unwrap()])
            .unwrap();
        exit_file.write(&dir, &exit()).unwrap();
        assert_eq!(serde_json::from_slice::<Exit>(&read(&dir, file::EXIT)).unwrap(), exit());
    }

    #[test]
    fn a_shortened_record_fits_into_the_preallocated_space() {
        let mut long = exit();
        // The longest escape in JSON: a control character.
        let text = "\u{1}".repeat(50_000);
        (long.reason, long.result_error) = (Some(text.clone()), Some(text.clone()));
        long.unenforced = vec![text[..300].to_owned(); 9];
        let why = io::Error::from_raw_os_error(nix::libc::ENOSPC);
        let short = shorten(&long, &why);
        assert!(to_json(&short).len() as u64 <= EXIT_PREALLOCATED, "{}", to_json(&short).len());
        // A control character has six bytes in JSON.
        assert_eq!((short.reason.as_ref().unwrap().len(), &short.unenforced[..]), (133, &["\u{1}".repeat(133)][..]));
        long.unenforced = vec!["x".repeat(300), "é\"".repeat(150), "x".repeat(300)];
        let kept: Vec<usize> = shorten(&long, &why).unenforced.iter().map(String::len).collect();
        assert_eq!(kept, [300, 375], "of which all have 800 bytes in JSON");

        long.result = Some(std::iter::once(("a".to_owned(), json!("x".repeat(60_000)))).collect());
        let short = shorten(&long, &why);
        assert!(to_json(&short).len() as u64 <= EXIT_PREALLOCATED, "{}", to_json(&short).len());
        assert!(short.result.is_none() && short.result_error.unwrap().contains("No space left"));
    }
}
