//! Files of one chain: opened after a crash, appended to, rotated and bounded.
//!
//! Appended entries are durable after [`ChainFile::sync`]. When an append or a sync fails, [`ChainFile::roll_back`] returns the
//! chain to its last durable entry, so that a failed write leaves neither half a line nor a gap. A file that someone removes is
//! noticed before the next entry: the chain goes on in a new file, so that what is missing shows.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt as _, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use packs_schema::agent::audit::lines::{Lines, Piece};
use packs_schema::agent::audit::{Chain, Entry, Head, MAX_SEQUENCE, Record, Verifier, seal};

/// Bounds of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Size at which the next file is begun, in bytes.
    pub(super) file_bytes: u64,
    /// Maximum number of files.
    pub(super) max_files: usize,
}

/// Finding about the files of a chain at their opening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    /// The last line had no end and was removed.
    Torn { file: PathBuf, bytes: u64 },
    /// The newest file has a line that does not continue the chain; it is left as it is, and a new file begins.
    Broken { file: PathBuf, line: u64 },
    /// The newest file was removed while the agent ran, with this entry as its last; a new file begins behind it.
    Removed { last: u64 },
}

/// The newest file of a chain.
#[derive(Debug)]
pub(super) struct ChainFile {
    directory: PathBuf,
    chain: Chain,
    bounds: Bounds,
    /// Newest file; `None` before the first entry and after a rotation.
    file: Option<File>,
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
        let mut finding = None;
        // The newest first; a file without an entry has none because of a crash.
        for (first, path) in files(directory, chain)?.into_iter().rev() {
            let tail = read_tail(&path, first)?;
            let is_newest = opened.file.is_none();
            if let Some((line, highest)) = tail.broken {
                finding = Some(Finding::Broken { file: path, line });
                // At least the number in the file's name, so that the next file is a new one, and the newest.
                let valid = tail.head.unwrap_or(Head { sequence: first, ..Head::EMPTY });
                let claimed = highest.filter(|head| (valid.sequence..=MAX_SEQUENCE).contains(&head.sequence));
                opened.head = claimed.unwrap_or(valid);
                break;
            }
            if is_newest && tail.is_torn {
                let bytes = path.metadata()?.len().saturating_sub(tail.length);
                finding = Some(Finding::Torn { file: path.clone(), bytes });
            }
            match tail.head {
                Some(head) => {
                    opened.head = head;
                    if finding
                        .as_ref()
                        .is_none_or(|finding| matches!(finding, Finding::Torn { file, .. } if *file == path))
                    {
                        let file = append_to(&path)?;
                        file.set_len(tail.length)?;
                        file.sync_all()?;
                        (opened.file, opened.length) = (Some(file), tail.length);
                    }
                    break;
                }
                None => std::fs::remove_file(&path)?,
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
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let path = self.directory.join(self.chain.file_name(head.sequence));
                let mut options = OpenOptions::new();
                options.append(true).create_new(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
                self.is_new = true;
                self.file.insert(options.open(path)?)
            }
        };
        file.write_all(line.as_bytes())?;
        self.length += line.len() as u64;
        self.head = head;
        Ok(head)
    }

    /// Returns whether the newest file was removed, once. The next entry begins a new one then: the removed file would take every
    /// further entry with it.
    pub(super) fn leave_removed(&mut self) -> io::Result<Option<Finding>> {
        if !self.is_unsynced() && self.is_removed()? {
            self.leave();
        }
        Ok(self.removed.take().map(|last| Finding::Removed { last }))
    }

    fn is_removed(&self) -> io::Result<bool> {
        self.file.as_ref().map_or(Ok(false), |file| Ok(file.metadata()?.nlink() == 0))
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
        if let Some(file) = self.file.as_ref().filter(|_| self.is_unsynced()) {
            file.sync_data()?;
            if self.is_new {
                sync_directory(&self.directory)?;
                // Not earlier: with few files, the entries of the removed one may be the only durable ones.
                prune(&self.directory, self.chain, self.bounds.max_files);
            }
        }
        self.is_new = false;
        self.synced = (self.head, self.length);
        Ok(())
    }

    /// Returns to the last durable entry. An error means that the chain has to be opened again.
    pub(super) fn roll_back(&mut self) -> io::Result<()> {
        (self.head, self.length) = self.synced;
        match &self.file {
            Some(file) => file.set_len(self.length),
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
