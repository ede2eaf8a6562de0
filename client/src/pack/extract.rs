//! Unpacks an archive of `bolt pack build`, to check it and to run it. What such an archive never has is refused, as agents do:
//! they would not take a version that is signed, and its number would be used up.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use flate2::bufread::GzDecoder;
use packs_schema::pack::contents::{MAX_FILES, check_path, unpacked_limit};
use tar::{Archive, EntryType};

use super::ArchiveFile;

/// Block size of tar, in bytes.
const BLOCK: u64 = 512;

/// Unpacks `archive` into the empty directory `into`.
pub(super) fn extract(archive: &ArchiveFile, into: &Path) -> io::Result<()> {
    let limit = unpacked_limit(archive.size_bytes());
    let inner = GzDecoder::new(BufReader::new(archive.reader()));
    let mut tar = Archive::new(Limited { inner, left: limit });
    let (mut end, mut seen) = (0, BTreeSet::new());
    // Raw: extended headers, which could rename what follows them, are entries of a type that is refused below.
    for (count, entry) in tar.entries()?.raw(true).enumerate() {
        let mut entry = entry?;
        if count >= MAX_FILES {
            return Err(io::Error::other("it has too many files"));
        }
        let path = String::from_utf8(entry.path_bytes().into_owned()).map_err(io::Error::other)?;
        let path = path.strip_suffix('/').unwrap_or(&path).to_owned();
        check_path(&path).map_err(io::Error::other)?;
        if !seen.insert(path.to_ascii_lowercase()) {
            return Err(io::Error::other(format!("{path} is there twice, or differs from another path in case only")));
        }
        if entry.header().mode()? & 0o7000 != 0 {
            return Err(io::Error::other(format!("{path} has a set-id or sticky bit")));
        }
        let size = entry.size();
        end = entry.raw_file_position().saturating_add(size.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX));
        let full = into.join(&path);
        match entry.header().entry_type() {
            EntryType::Directory if size != 0 => {
                return Err(io::Error::other(format!("{path} is a directory with content")));
            }
            EntryType::Directory => {
                fs::create_dir(&full)?;
                fs::set_permissions(&full, fs::Permissions::from_mode(0o755))?;
            }
            EntryType::Regular => {
                let mode = if entry.header().mode()? & 0o100 != 0 { 0o755 } else { 0o644 };
                let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&full)?;
                if io::copy(&mut entry, &mut file)? != size {
                    return Err(io::Error::other(format!("{path} is cut short")));
                }
                file.set_permissions(fs::Permissions::from_mode(mode))?;
            }
            other => return Err(io::Error::other(format!("{path} is an entry of type {other:?}"))),
        }
    }
    finish(tar.into_inner(), limit, end)
}

/// Reads the archive to its end, which is that of the file as well. Its entries end at `end`.
fn finish(mut tar: Limited<GzDecoder<impl BufRead>>, limit: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match tar.read(&mut buffer)? {
            0 => break,
            count if buffer[..count].iter().all(|byte| *byte == 0) => {}
            _ => return Err(io::Error::other("it goes on after its end")),
        }
    }
    if limit - tar.left < end.saturating_add(2 * BLOCK) {
        return Err(io::Error::other("it has no end; it was cut off"));
    }
    if !tar.inner.into_inner().fill_buf()?.is_empty() {
        return Err(io::Error::other("it is followed by other bytes"));
    }
    Ok(())
}

/// Reader that fails beyond its limit instead of ending there: what is too large must not look like what is shorter.
struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let left = self.left.checked_sub(count as u64);
        self.left =
            left.ok_or_else(|| io::Error::other("it unpacks to more than agents take of an archive of its size"))?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tar::Header;

    use super::*;
    use crate::pack::PackError;

    fn entry(path: &str, mode: u32, content: &[u8]) -> Vec<u8> {
        let mut header = Header::new_ustar();
        header.set_path(path).unwrap();
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.set_cksum();
        let mut block = [header.as_bytes(), content].concat();
        block.resize(block.len().next_multiple_of(512), 0);
        block
    }

    fn gzip(tar: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(tar).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_agents_would_not_take_is_refused() {
        let (one, end) = (entry("a", 0o644, b"x"), vec![0; 1024]);
        // The entry after the padding begins where the limit of a small archive is.
        let padding = vec![0; (1 << 20) - one.len() - 512];
        let cut = [one.clone(), entry("padding", 0o644, &padding), entry("b", 0o755, b"x"), end.clone()].concat();
        let whole = [one.clone(), end.clone()].concat();
        let twice = |path, mode| gzip(&[one.clone(), entry(path, mode, b"y"), end.clone()].concat());
        for (archive, words) in [
            (gzip(&whole), None),
            (gzip(&[&whole[..], &[0; 4096]].concat()), None),
            (twice("b", 0o755), None),
            (gzip(&cut), Some("unpacks to more")),
            (gzip(&one), Some("cut off")),
            (gzip(&[&one[..], &[0; 512]].concat()), Some("cut off")),
            (gzip(&[&whole[..], b"x"].concat()), Some("goes on after its end")),
            ([gzip(&whole), gzip(b"hidden")].concat(), Some("followed by other bytes")),
            (twice("A", 0o644), Some("in case only")),
            (twice("b", 0o4755), Some("set-id")),
        ] {
            let temp = tempfile::tempdir().unwrap();
            let file = ArchiveFile::copy_of(&archive[..], PackError::file("read", "the archive")).unwrap();
            let said = extract(&file, temp.path()).err().map(|error| error.to_string());
            match words {
                None => assert_eq!(said, None),
                Some(words) => assert!(said.as_ref().is_some_and(|said| said.contains(words)), "{words}: {said:?}"),
            }
        }
    }
}
