//! Unpacks a verified archive into staging. A signature proves the origin of an archive, not that it is harmless: only regular
//! files and directories are extracted, at plain paths, each newly created, within limits of size, count and ratio.
//!
//! An archive is one gzip stream over one tar, both with an end marker and nothing after it, so that no content is visible to
//! one reader and hidden from another. The files in staging are then compared with the bytes that were read.

mod limit;
mod verify;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use packs_schema::agent::store::ManifestFile;
use packs_schema::base::name::Digest;
use packs_schema::pack::contents::{MAX_FILES, check_path, unpacked_limit};
use sha2::{Digest as _, Sha256};
use tar::{Archive, Entry, EntryType};

use self::limit::Limited;
use super::choose::Chosen;
use super::disk;
use super::error::{PackFailure, Step};
use super::fetch::Verified;
use super::store::Store;

/// Files of a pack in staging, not yet checked.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) chosen: Chosen,
    pub(super) directory: PathBuf,
    /// Files, sorted by path.
    pub(super) files: Vec<ManifestFile>,
    /// Directories.
    pub(super) directories: Vec<String>,
}

/// Unpacks the archive, and removes it.
pub(super) fn unpack(store: &Store, verified: Verified) -> Result<Staged, PackFailure> {
    let Verified { chosen, path } = verified;
    let directory = store.staging().join(format!("{}-{}", chosen.pack, chosen.digest.short()));
    disk::make_directory(&directory, 0o755).map_err(PackFailure::file(Step::Unpack, "create", &directory))?;
    let archive = File::open(&path).map_err(PackFailure::file(Step::Unpack, "read", &path))?;
    let broken = |e: io::Error| PackFailure::new(Step::Unpack, format!("cannot unpack the archive: {}", one_line(&e)));
    let Tree { files, seen, .. } = extract(&directory, BufReader::new(archive), chosen.length).map_err(broken)?;
    disk::remove_if_there(&path).map_err(PackFailure::file(Step::Unpack, "remove", &path))?;
    let directories = directories(seen);
    verify::verify(&directory, &files, &directories).map_err(broken)?;
    Ok(Staged { chosen, directory, files, directories })
}

/// Writes what is in the archive below `top`, which is empty; the files are then sorted by path.
fn extract(top: &Path, archive: impl BufRead, length: u64) -> io::Result<Tree> {
    let mut tree = Tree { top: top.to_owned(), seen: BTreeMap::new(), files: Vec::new() };
    tree.unpack(archive, length)?;
    tree.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(tree)
}

fn directories(seen: BTreeMap<String, UnpackedEntry>) -> Vec<String> {
    seen.into_values().filter(|seen| seen.directory).map(|seen| seen.path).collect()
}

/// Unpacks an archive into an empty directory; returns the files that are in it then.
#[cfg(feature = "fuzzing")]
pub(super) fn unpack_bytes(archive: &[u8], top: &Path) -> Result<Vec<ManifestFile>, String> {
    let broken = |e: io::Error| one_line(&e);
    let Tree { files, seen, .. } = extract(top, archive, archive.len() as u64).map_err(broken)?;
    verify::verify(top, &files, &directories(seen)).map_err(broken)?;
    Ok(files)
}

/// Shortens an error of the archive's readers, which may quote bytes of it, to one line.
fn one_line(error: &io::Error) -> String {
    let mut said = String::new();
    for c in error.to_string().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }) {
        if c != '\u{fffd}' || !said.ends_with(c) {
            said.push(c);
        }
    }
    said.chars().take(MAX_WORDS).collect()
}

/// Reads the archive to its end: two blocks of zeros, optionally more zeros, the end of the gzip stream with its checksum, and
/// the end of the file.
fn finish(mut tar: Limited<GzDecoder<impl BufRead>>, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match tar.read(&mut buffer)? {
            0 => break,
            count if buffer[..count].iter().all(|byte| *byte == 0) => {}
            _ => return Err(io::Error::other("the archive goes on after its end")),
        }
    }
    if tar.count() < end.saturating_add(2 * BLOCK) {
        return Err(io::Error::other("the archive has no end; it was cut off"));
    }
    if !tar.into_inner().into_inner().fill_buf()?.is_empty() {
        return Err(io::Error::other("the archive is followed by other bytes"));
    }
    Ok(())
}

/// Maximum length of an error, in characters.
const MAX_WORDS: usize = 250;
/// Block size of tar, in bytes.
const BLOCK: u64 = 512;

/// Entries unpacked so far.
struct Tree {
    top: PathBuf,
    /// By path in lower case, to detect paths that differ in case only.
    seen: BTreeMap<String, UnpackedEntry>,
    files: Vec<ManifestFile>,
}

struct UnpackedEntry {
    path: String,
    directory: bool,
}

impl Tree {
    fn unpack(&mut self, archive: impl BufRead, archived: u64) -> io::Result<()> {
        let limit = unpacked_limit(archived);
        let mut tar = Archive::new(Limited::new(GzDecoder::new(archive), limit));
        let mut end = 0;
        // Raw: extended headers, with which one reader could see other files than another, are entries of a type that is
        // refused below.
        for entry in tar.entries()?.raw(true) {
            let mut entry = entry?;
            if self.seen.len() >= MAX_FILES {
                return Err(io::Error::other(format!("the archive has more than {MAX_FILES} files")));
            }
            self.entry(&mut entry)?;
            end = entry.raw_file_position() + entry.size().next_multiple_of(BLOCK);
        }
        finish(tar.into_inner(), end)
    }

    fn entry(&mut self, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
        let raw = entry.path_bytes().into_owned();
        let text = String::from_utf8(raw).map_err(|e| {
            let path = e.as_bytes().escape_ascii().to_string();
            io::Error::other(format!("path \"{path:.80}\" is not UTF-8"))
        })?;
        let kind = entry.header().entry_type();
        let path = match kind {
            EntryType::Directory => text.strip_suffix('/').unwrap_or(&text),
            _ => &text,
        };
        check_path(path).map_err(io::Error::other)?;
        let mode = entry.header().mode().map_err(|e| io::Error::other(format!("{path} has no mode: {e}")))?;
        if mode & 0o7000 != 0 {
            return Err(io::Error::other(format!("{path} has a set-id or sticky bit")));
        }
        match kind {
            EntryType::Directory if entry.size() != 0 => {
                Err(io::Error::other(format!("{path} is a directory with content")))
            }
            EntryType::Directory => self.directory(path),
            EntryType::Regular => {
                self.parents(path)?;
                self.remember(path, false)?;
                let size = entry.size();
                let file = write_file(&self.top.join(path), path, entry, size, mode & 0o100 != 0)?;
                self.files.push(file);
                Ok(())
            }
            other => Err(io::Error::other(format!(
                "{path} is an entry of type {other:?}; a pack holds regular files and directories only"
            ))),
        }
    }

    fn directory(&mut self, path: &str) -> io::Result<()> {
        self.parents(path)?;
        self.remember(path, true)?;
        disk::make_directory(&self.top.join(path), 0o755)
    }

    /// Creates directories above `path` for which there was no entry.
    fn parents(&mut self, path: &str) -> io::Result<()> {
        for (end, _) in path.match_indices('/') {
            let parent = &path[..end];
            match self.seen.get(&parent.to_ascii_lowercase()) {
                Some(seen) if seen.directory && seen.path == parent => {}
                Some(seen) => return Err(io::Error::other(format!("{path} conflicts with {}", seen.path))),
                None => {
                    self.remember(parent, true)?;
                    disk::make_directory(&self.top.join(parent), 0o755)?;
                }
            }
        }
        Ok(())
    }

    fn remember(&mut self, path: &str, directory: bool) -> io::Result<()> {
        let seen = UnpackedEntry { path: path.to_owned(), directory };
        match self.seen.insert(path.to_ascii_lowercase(), seen) {
            None => Ok(()),
            Some(other) if other.path == path => Err(io::Error::other(format!("{path} is in the archive twice"))),
            Some(other) => Err(io::Error::other(format!("{path} and {} differ in case only", other.path))),
        }
    }
}

fn write_file(to: &Path, path: &str, entry: &mut impl Read, size: u64, executable: bool) -> io::Result<ManifestFile> {
    let mut file = disk::create(to, if executable { 0o755 } else { 0o644 })?;
    let (mut hash, mut length) = (Sha256::new(), 0_u64);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = match entry.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(&buffer[..count]);
        file.write_all(&buffer[..count])?;
        length += count as u64;
    }
    if length != size {
        return Err(io::Error::other(format!("the archive ends within {path}")));
    }
    let digest = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let sha256 = Digest::new(digest).map_err(io::Error::other)?;
    Ok(ManifestFile { path: path.to_owned(), sha256, size_bytes: length, executable })
}

#[cfg(test)]
mod tests;
