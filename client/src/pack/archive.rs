//! Writes a pack's archive, the same bytes for the same files: sorted, without owners and times, executable bits only.
//!
//! Files are read and the archive is written in pieces: neither is ever in memory as a whole.
//!
//! The archive is a temporary file without a name, hashed while it is written, from which it is copied or uploaded.

mod file;

use std::io::{self, Read};
use std::path::Path;

use flate2::{Compression, GzBuilder};
use packs_schema::pack::contents::{EntryKind, MAX_UNPACKED, unpacked_limit};
use tar::{Builder, EntryType, Header};

use super::PackError;
use super::listing::Listing;
pub use file::{ArchiveFile, ArchiveReader};
use file::{Source, unwritable};

/// Writes the tar archive of `listing`, compressed, into a temporary file.
pub(super) fn write(listing: &Listing) -> Result<ArchiveFile, PackError> {
    let unpacked: u64 = listing.files.iter().map(|f| f.size + 1024).sum();
    if unpacked > MAX_UNPACKED {
        return Err(PackError::TooLarge(format!("it has {unpacked} bytes, and agents take at most {MAX_UNPACKED}")));
    }
    // No name, no time, and an operating system of "unknown": nothing of the machine it was built on.
    let gzip = GzBuilder::new().mtime(0).operating_system(255).write(ArchiveFile::begin()?, Compression::new(9));
    let mut tar = Builder::new(gzip);
    for file in &listing.files {
        append(&mut tar, listing, file)?;
    }
    let archive = tar.into_inner().and_then(flate2::write::GzEncoder::finish).map_err(unwritable)?;
    let archive = ArchiveFile::finish(archive);
    if unpacked > unpacked_limit(archive.size_bytes()) {
        let message =
            "it is almost all repetition, which agents take for an attack; make such files when the action runs";
        return Err(PackError::TooLarge(message.to_owned()));
    }
    Ok(archive)
}

fn append(
    tar: &mut Builder<impl io::Write>,
    listing: &Listing,
    file: &packs_schema::pack::contents::PackEntry,
) -> Result<(), PackError> {
    let unreadable = |error| PackError::file("read", listing.root.join(&file.path))(error);
    let header = header(file).map_err(unreadable)?;
    if file.kind == EntryKind::Directory {
        return tar.append(&header, io::empty()).map_err(unwritable);
    }
    let mut opened = listing.tree.file(Path::new(&file.path)).map_err(unreadable)?;
    let mut content = Source::new(opened.by_ref().take(file.size));
    if let Err(error) = tar.append(&header, &mut content) {
        return Err(if content.failed { unreadable(error) } else { unwritable(error) });
    }
    // A file that grows or shrinks while it is read would shift what follows it: no archive is made of it.
    let shrunk = content.into_inner().limit() > 0;
    if shrunk || opened.read(&mut [0]).map_err(unreadable)? > 0 {
        return Err(unreadable(io::Error::other("it changed while it was read; build again")));
    }
    Ok(())
}

fn header(file: &packs_schema::pack::contents::PackEntry) -> io::Result<Header> {
    let mut header = Header::new_ustar();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    if file.kind == EntryKind::Directory {
        header.set_entry_type(EntryType::Directory);
        header.set_path(format!("{}/", file.path))?;
        header.set_size(0);
        header.set_mode(0o755);
    } else {
        header.set_entry_type(EntryType::Regular);
        header.set_path(&file.path)?;
        header.set_size(file.size);
        header.set_mode(if file.executable { 0o755 } else { 0o644 });
    }
    header.set_cksum();
    Ok(header)
}
