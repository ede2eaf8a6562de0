//! Unpacks an archive of `bolt pack build`, to check it and to run it. Entries that such an archive never has are refused.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use flate2::read::GzDecoder;
use packs_schema::pack::contents::{MAX_FILES, check_path, unpacked_limit};
use tar::{Archive, EntryType};

use super::ArchiveFile;

/// Unpacks `archive` into the empty directory `into`.
pub(super) fn extract(archive: &ArchiveFile, into: &Path) -> io::Result<()> {
    let limit = unpacked_limit(archive.size_bytes());
    let mut tar = Archive::new(GzDecoder::new(archive.reader()).take(limit));
    // Raw: extended headers, which could rename what follows them, are entries of a type that is refused below.
    for (count, entry) in tar.entries()?.raw(true).enumerate() {
        let mut entry = entry?;
        if count >= MAX_FILES {
            return Err(io::Error::other("it has too many files"));
        }
        let path = String::from_utf8(entry.path_bytes().into_owned()).map_err(io::Error::other)?;
        let path = path.strip_suffix('/').unwrap_or(&path).to_owned();
        check_path(&path).map_err(io::Error::other)?;
        let full = into.join(&path);
        match entry.header().entry_type() {
            EntryType::Directory => {
                fs::create_dir(&full)?;
                fs::set_permissions(&full, fs::Permissions::from_mode(0o755))?;
            }
            EntryType::Regular => {
                let mode = if entry.header().mode()? & 0o100 != 0 { 0o755 } else { 0o644 };
                let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&full)?;
                let size = entry.size();
                if io::copy(&mut entry, &mut file)? != size {
                    return Err(io::Error::other(format!("{path} is cut short")));
                }
                file.set_permissions(fs::Permissions::from_mode(mode))?;
            }
            other => return Err(io::Error::other(format!("{path} is an entry of type {other:?}"))),
        }
    }
    Ok(())
}
