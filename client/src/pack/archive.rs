//! A pack's archive, the same bytes for the same files: sorted, without owners and times, run bits only.

use std::io::{self, Read};
use std::path::Path;

use flate2::{Compression, GzBuilder};
use packs_schema::contents::{Kind, MAX_UNPACKED, unpacked_limit};
use tar::{Builder, EntryType, Header};

use super::PackError;
use super::listing::Listing;

/// Bytes of tar for `listing`, compressed.
pub(super) fn write(listing: &Listing) -> Result<Vec<u8>, PackError> {
    let unpacked: u64 = listing.files.iter().map(|f| f.size + 1024).sum();
    if unpacked > MAX_UNPACKED {
        return Err(PackError::TooLarge(format!("it has {unpacked} bytes, and agents take at most {MAX_UNPACKED}")));
    }
    // No name, no time, and an operating system of "unknown": nothing of the machine it was built on.
    let gzip = GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), Compression::new(9));
    let mut tar = Builder::new(gzip);
    for file in &listing.files {
        let path = listing.root.join(&file.path);
        append(&mut tar, listing, file).map_err(PackError::file("read", path))?;
    }
    let failed = PackError::file("compress", &listing.root);
    let archive = tar.into_inner().and_then(flate2::write::GzEncoder::finish).map_err(failed)?;
    if unpacked > unpacked_limit(archive.len() as u64) {
        let message =
            "it is almost all repetition, which agents take for an attack; make such files when the action runs";
        return Err(PackError::TooLarge(message.to_owned()));
    }
    Ok(archive)
}

fn append(
    tar: &mut Builder<impl io::Write>,
    listing: &Listing,
    file: &packs_schema::contents::Listed,
) -> io::Result<()> {
    let mut header = Header::new_ustar();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    if file.kind == Kind::Directory {
        header.set_entry_type(EntryType::Directory);
        header.set_path(format!("{}/", file.path))?;
        header.set_size(0);
        header.set_mode(0o755);
        header.set_cksum();
        return tar.append(&header, io::empty());
    }
    header.set_entry_type(EntryType::Regular);
    header.set_path(&file.path)?;
    header.set_size(file.size);
    header.set_mode(if file.executable { 0o755 } else { 0o644 });
    header.set_cksum();
    // A file that grows or shrinks while it is read must not shift what follows it.
    let mut content = Vec::new();
    listing.tree.file(Path::new(&file.path))?.take(file.size + 1).read_to_end(&mut content)?;
    if content.len() as u64 != file.size {
        return Err(io::Error::other("it changed while it was read; build again"));
    }
    tar.append(&header, content.as_slice())
}
