//! Room for the exit record, taken before the action exists: a disk that is full by the time it ends cannot keep its end
//! from being written down.
//!
//! ```text
//!  launcher: exit.new made, EXIT_ROOM allocated ─▶ fork ─▶ … ─▶ shim: record into it, renamed to exit, the rest given back
//! ```
//!
//! The space is beyond the file's end, so that the record alone makes its length: to cut a file takes some file systems longer
//! than all else at an execution's end, and whoever waits for `exit` would wait for that too.
//!
//! Nothing is synced: after a host went down the boot id decides, and no record is looked for. What a crash leaves of
//! `exit.new` counts for nothing; whoever writes the end then removes it first.

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

/// The longest reason, the longest `result_error` and the longest list of what was not enforced, in a record that must fit
/// into its room, whatever JSON makes of their characters.
const MAX_TEXT: usize = 400;

/// The file, and the space behind it.
pub(crate) struct Room {
    file: File,
}

impl AsFd for Room {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Room {
    /// Makes the file and allocates the space; with an error, neither is there.
    pub(crate) fn take(directory: &Dir) -> nix::Result<Room> {
        let make = || directory.make_file(file::EXIT_NEW, 0o644, OFlag::O_WRONLY);
        let made = match make() {
            // Nobody has the execution but us: it is left over, or was put there, and nobody's end.
            Err(Errno::EEXIST) => directory.remove_file(file::EXIT_NEW).and_then(|()| make()),
            other => other,
        };
        let room = Room { file: made? };
        room.allocate().inspect_err(|_| Room::give_back(directory))?;
        Ok(room)
    }

    /// Nothing was started after all.
    pub(crate) fn give_back(directory: &Dir) {
        let _ = directory.remove_file(file::EXIT_NEW);
    }

    fn allocate(&self) -> nix::Result<()> {
        let room = i64::try_from(EXIT_PREALLOCATED).expect("it is small");
        match fallocate(&self.file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, room) {
            // File systems that cannot promise space can be given bytes, which are cut off later.
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL) => (&self.file)
                .write_all(&vec![0; usize::try_from(EXIT_PREALLOCATED).expect("it is small")])
                .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(nix::libc::EIO))),
            other => other,
        }
    }

    /// Writes the record and renames it to `exit`: the whole one or, where the disk has no space beyond the room, one
    /// without what can be long.
    pub(super) fn write(&self, directory: &Dir, exit: &Exit) -> io::Result<()> {
        let whole = to_json(exit);
        if let Err(why) = self.put(&whole) {
            self.put(&to_json(&shortened(exit, &why)))?;
        }
        match renameat(directory, OsStr::new(file::EXIT_NEW), directory, OsStr::new(file::EXIT)) {
            // Somebody has removed it.
            Err(Errno::ENOENT) => dir::replace_file(directory, file::EXIT, 0o644, &whole),
            Err(e) => Err(e.into()),
            Ok(()) => {
                // What is allocated beyond the end goes when the length is set, also to what it is.
                let _ = self.file.metadata().and_then(|file| self.file.set_len(file.len()));
                Ok(())
            }
        }
    }

    fn put(&self, json: &[u8]) -> io::Result<()> {
        self.file.write_all_at(json, 0)?;
        let length = json.len() as u64;
        if self.file.metadata()?.len() == length { Ok(()) } else { self.file.set_len(length) }
    }
}

fn to_json(exit: &Exit) -> Vec<u8> {
    serde_json::to_vec(exit).expect("a record serialises")
}

/// A record that fits into the room.
fn shortened(exit: &Exit, why: &io::Error) -> Exit {
    let mut short = exit.clone();
    if short.result.take().is_some() {
        short.result_error = Some(format!("the result was not kept: its record could not be written whole: {why}"));
    }
    for text in short.reason.iter_mut().chain(&mut short.result_error) {
        cut(text, MAX_TEXT);
    }
    if let Some(leftovers) = &mut short.leftovers {
        leftovers.programs.clear();
    }
    let mut left = MAX_TEXT;
    for text in &mut short.unenforced {
        cut(text, left);
        left -= text.len().min(left);
    }
    short.unenforced.retain(|text| !text.is_empty());
    short
}

fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    use packs_schema::agent::execution::{FORMAT, State, StreamTotals, Usage};
    use serde_json::json;

    fn exit() -> Exit {
        Exit {
            format: FORMAT,
            id: "01932c07-1f4e-7c61-b4b0-6e1d4cf1b2aa".parse().unwrap(),
            state: State::Succeeded,
            reason: None,
            exit_status: Some(0),
            signal: None,
            started_at_ms: u64::MAX,
            ended_at_ms: u64::MAX,
            duration_ms: u64::MAX,
            usage: Usage::default(),
            stdout: StreamTotals::default(),
            stderr: StreamTotals::default(),
            leftovers: None,
            unenforced: Vec::new(),
            result: None,
            result_error: None,
        }
    }

    fn read(dir: &Dir, name: &str) -> Vec<u8> {
        std::fs::read(dir.path().join(name)).unwrap()
    }

    #[test]
    fn what_is_renamed_is_the_record_and_nothing_else() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        // Left over by a crash, and longer than any record.
        std::fs::write(temporary.path().join(file::EXIT_NEW), vec![b'x'; 100_000]).unwrap();
        let room = Room::take(&dir).unwrap();
        let allocated = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().blocks() * 512;
        assert!(allocated(file::EXIT_NEW) >= EXIT_PREALLOCATED);
        for mut exit in [exit(), exit()] {
            exit.reason = Some("x".repeat(20_000));
            room.write(&dir, &exit).unwrap();
            assert_eq!(serde_json::from_slice::<Exit>(&read(&dir, file::EXIT)).unwrap(), exit);
        }
        assert!(!dir.has(file::EXIT_NEW).unwrap());
        // A short one, whose room is given back.
        let room = Room::take(&dir).unwrap();
        room.write(&dir, &exit()).unwrap();
        assert_eq!(serde_json::from_slice::<Exit>(&read(&dir, file::EXIT)).unwrap(), exit());
        assert!(allocated(file::EXIT) < EXIT_PREALLOCATED, "{}", allocated(file::EXIT));
    }

    /// Where no space can be promised, there are bytes, and none of them is left behind a record.
    #[test]
    fn what_was_written_to_have_room_is_cut_off() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open(temporary.path()).unwrap();
        let room = Room::take(&dir).unwrap();
        std::fs::write(temporary.path().join(file::EXIT_NEW), vec![0; usize::try_from(EXIT_PREALLOCATED).unwrap()])
            .unwrap();
        room.write(&dir, &exit()).unwrap();
        assert_eq!(serde_json::from_slice::<Exit>(&read(&dir, file::EXIT)).unwrap(), exit());
    }

    #[test]
    fn the_shortest_record_fits_into_its_room() {
        let mut long = exit();
        // The most bytes that JSON makes of one: a control character.
        let text = "\u{1}".repeat(50_000);
        (long.reason, long.result_error) = (Some(text.clone()), Some(text.clone()));
        long.unenforced = vec![text[..300].to_owned(); 9];
        let why = io::Error::from_raw_os_error(nix::libc::ENOSPC);
        let short = shortened(&long, &why);
        assert!(to_json(&short).len() as u64 <= EXIT_PREALLOCATED, "{}", to_json(&short).len());
        assert_eq!((short.unenforced[0].len(), short.unenforced[1].len(), short.unenforced.len()), (300, 100, 2));

        long.result = Some(std::iter::once(("a".to_owned(), json!("x".repeat(60_000)))).collect());
        let short = shortened(&long, &why);
        assert!(to_json(&short).len() as u64 <= EXIT_PREALLOCATED, "{}", to_json(&short).len());
        assert!(short.result.is_none() && short.result_error.unwrap().contains("No space left"));
    }
}
