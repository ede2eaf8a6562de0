//! Files of one chain: opened after a crash, appended to, rotated and bounded.
//!
//! Appended entries are durable after [`ChainFile::sync`]. When an append or a sync fails, [`ChainFile::roll_back`] returns the
//! chain to its last durable entry, so that a failed write leaves neither half a line nor a gap. A file that someone removes or
//! moves, alone or with its directory, is noticed before the next entry: the chain goes on in a new file, so that what is missing
//! shows.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt as _, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use packs_schema::agent::audit::lines::{Lines, Piece};
use packs_schema::agent::audit::{Chain, Entry, Head, MAX_SEQUENCE, Record, Verifier, seal};

use super::finding::Finding;

/// Bounds of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Size at which the next file is begun, in bytes.
    pub(super) file_bytes: u64,
    /// Maximum number of files.
    pub(super) max_files: usize,
}

/// The newest file of a chain.
#[derive(Debug)]
pub(super) struct ChainFile {
    directory: PathBuf,
    chain: Chain,
    bounds: Bounds,
    /// Newest file and its path; `None` before the first entry and after a rotation.
    file: Option<(File, PathBuf)>,
    /// Its length, in bytes.
    length: u64,
    head: Head,
    /// Head and length after the last sync.
    synced: (Head, u64),
    /// True if the directory has an entry that is not durable.
    is_new: bool,
    /// Last durable entry of a file that was removed, until that is told.
    removed: Option<u64>,
}

/// Creates the directory, readable by the agent's account only.
pub(super) fn make_directory(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Err(_) => Ok(()),
        Ok(()) => sync_directory(directory.parent().unwrap_or(directory)),
    }
}

/// Lists the files of a chain, the oldest first, each with the number in its name.
pub(super) fn files(directory: &Path, chain: Chain) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if let Some((of, first)) = entry.file_name().to_str().and_then(Chain::parse_file_name)
            && of == chain
        {
            files.push((first, entry.path()));
        }
    }
    files.sort();
    Ok(files)
}

/// Opens a file of the audit log for reading its lines.
pub(super) fn read(path: &Path) -> io::Result<Lines<BufReader<File>>> {
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)?;
    Ok(Lines::new(BufReader::new(file)))
}

/// End of a file, as far as it can be continued.
struct Tail {
    head: Option<Head>,
    /// Length of the valid entries, in bytes.
    length: u64,
    /// True if a line without an end follows.
    is_torn: bool,
    /// First line that does not continue the chain, with the highest head that the rest claims.
    broken: Option<(u64, Option<Head>)>,
}

/// Reads a file whose first entry should have the number `first`, as its name says.
fn read_tail(path: &Path, first: u64) -> io::Result<Tail> {
    let mut lines = read(path)?;
    let mut verifier = Verifier::default();
    let mut tail = Tail { head: None, length: 0, is_torn: false, broken: None };
    let mut number = 0;
    while let Some(piece) = lines.next_piece()? {
        number += 1;
        let text = match piece {
            Piece::Incomplete(_) => {
                tail.is_torn = true;
                break;
            }
            Piece::TooLong => &[][..],
            Piece::Line(text) => text,
        };
        let checked = if number == 1 { verifier.check_first(first, text) } else { verifier.check(text) };
        match (&mut tail.broken, checked) {
            (None, Ok(head)) => {
                tail.head = Some(head);
                tail.length += text.len() as u64 + 1;
            }
            (None, Err(_)) => tail.broken = Some((number, claimed(text))),
            (Some((_, highest)), _) => {
                let later = claimed(text);
                if later.map(|head| head.sequence) > highest.map(|head| head.sequence) {
                    *highest = later;
                }
            }
        }
    }
    Ok(tail)
}

/// Newest file of a chain: the number in its name, its path and its end.
type Newest = (u64, PathBuf, Tail);

/// Returns the newest of the files, and takes it from the list.
fn take_newest(files: &mut Vec<(u64, PathBuf)>) -> io::Result<Option<Newest>> {
    let Some((first, path)) = files.pop() else { return Ok(None) };
    let tail = read_tail(&path, first)?;
    Ok(Some((first, path, tail)))
}

/// Finds the newest file. Removes one that a crash has left without an entry: right behind the entry before it. Any other one
/// without an entry had entries.
fn find_newest(mut files: Vec<(u64, PathBuf)>) -> io::Result<(Option<Newest>, Option<Finding>)> {
    let Some(newest) = take_newest(&mut files)? else { return Ok((None, None)) };
    let (first, path, tail) = &newest;
    if tail.head.is_some() || tail.broken.is_some() {
        return Ok((Some(newest), None));
    }
    let before = take_newest(&mut files)?;
    let is_begun = match &before {
        None => *first == 1,
        // Nothing tells behind entries that cannot be verified. Behind a file without an entry, the next one was begun.
        Some((number, _, before)) => {
            before.broken.is_some() || before.head.map_or(*number, |head| head.sequence) + 1 == *first
        }
    };
    if !is_begun {
        return Ok((Some(newest), None));
    }
    let bytes = path.metadata()?.len();
    std::fs::remove_file(path)?;
    Ok((before, (bytes > 0).then(|| Finding::Torn { file: path.clone(), bytes })))
}

/// Returns the head that a line claims to be.
fn claimed(text: &[u8]) -> Option<Head> {
    let record: Record = serde_json::from_slice(text).ok()?;
    Some(Head { sequence: record.sequence, hash: record.hash })
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

impl ChainFile {
    /// Opens the chain in `directory`, and finds its end. An incomplete last line is removed: no call was answered for it.
    pub(super) fn open(directory: &Path, chain: Chain, bounds: Bounds) -> io::Result<(ChainFile, Option<Finding>)> {
        let mut opened = ChainFile {
            directory: directory.to_owned(),
            chain,
            bounds,
            file: None,
            length: 0,
            head: Head::EMPTY,
            synced: (Head::EMPTY, 0),
            is_new: false,
            removed: None,
        };
        let (newest, mut finding) = find_newest(files(directory, chain)?)?;
        if let Some((first, path, tail)) = newest {
            // At least the number in the file's name, so that the next file is a new one, and the newest.
            let valid = tail.head.unwrap_or(Head { sequence: first, ..Head::EMPTY });
            opened.head = valid;
            if let Some((line, highest)) = tail.broken {
                let claimed = highest.filter(|head| (valid.sequence..=MAX_SEQUENCE).contains(&head.sequence));
                opened.head = claimed.unwrap_or(valid);
                finding = Some(Finding::Broken { file: path, line });
            } else if tail.head.is_none() {
                finding = Some(Finding::Emptied { file: path });
            } else {
                let file = append_to(&path)?;
                if tail.is_torn {
                    let bytes = file.metadata()?.len().saturating_sub(tail.length);
                    finding = Some(Finding::Torn { file: path.clone(), bytes });
                }
                file.set_len(tail.length)?;
                file.sync_all()?;
                (opened.file, opened.length) = (Some((file, path)), tail.length);
            }
        }
        sync_directory(directory)?;
        opened.synced = (opened.head, opened.length);
        Ok((opened, finding))
    }

    /// Returns the head.
    pub(super) fn head(&self) -> Head {
        self.head
    }

    /// Returns the sequence number of the last durable entry.
    pub(super) fn durable(&self) -> u64 {
        self.synced.0.sequence
    }

    /// True if entries were appended that are not durable.
    pub(super) fn is_unsynced(&self) -> bool {
        self.head != self.synced.0
    }

    /// Appends an entry, in a new file if the present one is full.
    pub(super) fn append(&mut self, entry: &Entry) -> io::Result<Head> {
        let (line, head) = seal(&self.head, entry);
        if self.file.is_some() && self.length > 0 && self.length + line.len() as u64 > self.bounds.file_bytes {
            // A roll-back ends in one file.
            self.sync()?;
            (self.file, self.length) = (None, 0);
            self.synced = (self.head, 0);
        }
        let (file, _) = match &mut self.file {
            Some(file) => file,
            None => {
                // Someone may have removed it.
                make_directory(&self.directory)?;
                let path = self.directory.join(self.chain.file_name(head.sequence));
                let mut options = OpenOptions::new();
                options.append(true).create_new(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
                self.is_new = true;
                self.file.insert((options.open(&path)?, path))
            }
        };
        file.write_all(line.as_bytes())?;
        self.length += line.len() as u64;
        self.head = head;
        Ok(head)
    }

    /// Returns whether the newest file was removed or moved, once. The next entry begins a new one then: the removed file would
    /// take every further entry with it.
    pub(super) fn leave_removed(&mut self) -> io::Result<Option<Finding>> {
        if !self.is_unsynced() && self.is_removed()? {
            self.leave();
        }
        Ok(self.removed.take().map(|last| Finding::Removed { last }))
    }

    /// Returns the finding once more: it could not be recorded.
    pub(super) fn return_finding(&mut self, finding: &Finding) {
        if let Finding::Removed { last } = finding {
            self.removed = Some(*last);
        }
    }

    /// True if the path leads to another file, or to none. The number of links does not tell: there may be another one.
    fn is_removed(&self) -> io::Result<bool> {
        let Some((file, path)) = &self.file else { return Ok(false) };
        match path.symlink_metadata() {
            Ok(there) => {
                let ours = file.metadata()?;
                Ok((there.dev(), there.ino()) != (ours.dev(), ours.ino()))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Continues behind the last durable entry, in a new file.
    fn leave(&mut self) {
        self.synced = (self.synced.0, 0);
        (self.head, self.length) = self.synced;
        self.file = None;
        self.removed = Some(self.head.sequence);
    }

    /// Makes everything that was appended durable.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.is_unsynced() && self.is_removed()? {
            self.leave();
            return Err(io::Error::other("its newest file was removed"));
        }
        if let Some((file, _)) = self.file.as_ref().filter(|_| self.is_unsynced()) {
            file.sync_data()?;
            if self.is_new {
                sync_directory(&self.directory)?;
                // Not earlier: with few files, the entries of the removed one may be the only durable ones.
                prune(&self.directory, self.chain, self.bounds.max_files);
                self.is_new = false;
            }
        }
        self.synced = (self.head, self.length);
        Ok(())
    }

    /// Returns to the last durable entry. An error means that the chain has to be opened again.
    pub(super) fn roll_back(&mut self) -> io::Result<()> {
        (self.head, self.length) = self.synced;
        match &self.file {
            Some((file, _)) => file.set_len(self.length),
            None => Ok(()),
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)
}

/// Removes the oldest files beyond the maximum.
fn prune(directory: &Path, chain: Chain, max_files: usize) {
    let mut all = match files(directory, chain) {
        Ok(all) => all,
        Err(error) => return tracing::warn!(%error, "cannot list the files of the audit log"),
    };
    let surplus = all.len().saturating_sub(max_files);
    for (_, path) in all.drain(..surplus) {
        match std::fs::remove_file(&path) {
            Ok(()) => tracing::info!(path = %path.display(), "removed the oldest file of the audit log"),
            Err(error) => tracing::warn!(path = %path.display(), %error, "cannot remove a file of the audit log"),
        }
    }
}
