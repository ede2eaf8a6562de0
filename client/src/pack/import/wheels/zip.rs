//! Zip archives in memory, read strictly: what another reader might see differently is refused, and nothing is larger than
//! a limit. Entries are listed from the central directory, as pip does.
//!
//! Without a comment, an archive has its end record in its last bytes, the central directory directly before it, and the
//! entries before that. Archives of several disks, of more than 4 GiB (zip64) and with passwords are refused.

use std::collections::BTreeSet;
use std::io::Read as _;

use flate2::Crc;
use flate2::read::DeflateDecoder;
use packs_schema::base::strict::shorten;

/// Maximum number of entries.
const MAX_ENTRIES: usize = 20_000;
/// Maximum size of the central directory, in bytes.
const MAX_DIRECTORY: usize = 8 << 20;
/// Maximum length of a name, in bytes.
const MAX_NAME: usize = 1024;
/// Maximum size of all entries when they are unpacked, in bytes.
const MAX_UNPACKED: u64 = 1 << 30;

const END: &[u8] = b"PK\x05\x06";
const END_BYTES: usize = 22;
const CENTRAL: &[u8] = b"PK\x01\x02";
const CENTRAL_BYTES: usize = 46;
const LOCAL: &[u8] = b"PK\x03\x04";
const LOCAL_BYTES: usize = 30;
const ZIP64_LOCATOR: &[u8] = b"PK\x06\x07";
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// Error returned for an archive that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ZipError {
    #[error("it is not a zip archive that ends with its directory")]
    NotZip,
    #[error("it is a zip archive of several parts, or of more than 4 GiB")]
    Zip64,
    #[error("it has more than {MAX_ENTRIES} entries, or names of more than {} MiB", MAX_DIRECTORY >> 20)]
    Entries,
    #[error("its entries would have more than {MAX_UNPACKED} bytes")]
    Unpacked,
    #[error("its entry {0:?} has a name that no wheel may have")]
    Name(String),
    #[error("it has the entry {0:?} twice")]
    Twice(String),
    #[error("its entry {0:?} is encrypted, or packed in a way that is not deflate")]
    Method(String),
    #[error("its entry {0:?} would have more than {1} bytes")]
    Large(String, u64),
    #[error("its entry {0:?} is damaged")]
    Damaged(String),
}

/// Archive whose entries are listed.
#[derive(Debug)]
pub(super) struct Archive<'a> {
    /// All bytes before the central directory.
    bytes: &'a [u8],
    pub(super) entries: Vec<Entry>,
}

/// Entry of the central directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    encrypted: bool,
    method: u16,
    crc: u32,
    packed: usize,
    size: u64,
    offset: usize,
}

/// Lists the entries of an archive.
pub(super) fn open(bytes: &[u8]) -> Result<Archive<'_>, ZipError> {
    let start = bytes.len().checked_sub(END_BYTES).ok_or(ZipError::NotZip)?;
    let end = Record(&bytes[start..]);
    if !end.0.starts_with(END) || end.u16(20) != 0 {
        return Err(ZipError::NotZip);
    }
    let (count, directory_bytes, offset) = (end.u16(10), end.u32(12) as usize, end.u32(16) as usize);
    let located = start >= 20 && bytes[start - 20..].starts_with(ZIP64_LOCATOR);
    if located || count == u16::MAX || end.u32(16) == u32::MAX || (end.u16(4), end.u16(6), end.u16(8)) != (0, 0, count)
    {
        return Err(ZipError::Zip64);
    }
    if usize::from(count) > MAX_ENTRIES || directory_bytes > MAX_DIRECTORY {
        return Err(ZipError::Entries);
    }
    if offset.checked_add(directory_bytes) != Some(start) {
        return Err(ZipError::NotZip);
    }
    let entries = entries(&bytes[offset..start], usize::from(count))?;
    let mut seen = BTreeSet::new();
    if let Some(entry) = entries.iter().find(|entry| !seen.insert(entry.name.as_str())) {
        return Err(ZipError::Twice(shown(&entry.name)));
    }
    if entries.iter().map(|entry| entry.size).sum::<u64>() > MAX_UNPACKED {
        return Err(ZipError::Unpacked);
    }
    Ok(Archive { bytes: &bytes[..offset], entries })
}

/// Reads the central directory, which has exactly `count` entries.
fn entries(mut directory: &[u8], count: usize) -> Result<Vec<Entry>, ZipError> {
    let mut entries = Vec::with_capacity(count);
    while !directory.is_empty() {
        if directory.len() < CENTRAL_BYTES || !directory.starts_with(CENTRAL) || entries.len() == count {
            return Err(ZipError::NotZip);
        }
        let record = Record(directory);
        let name_bytes = usize::from(record.u16(28));
        let whole = CENTRAL_BYTES + name_bytes + usize::from(record.u16(30)) + usize::from(record.u16(32));
        let (Some(name), Some(rest)) =
            (directory.get(CENTRAL_BYTES..CENTRAL_BYTES + name_bytes), directory.get(whole..))
        else {
            return Err(ZipError::NotZip);
        };
        if [record.u32(20), record.u32(24), record.u32(42)].contains(&u32::MAX) || record.u16(34) != 0 {
            return Err(ZipError::Zip64);
        }
        entries.push(Entry {
            name: checked_name(name)?,
            encrypted: record.u16(8) & 1 != 0,
            method: record.u16(10),
            crc: record.u32(16),
            packed: record.u32(20) as usize,
            size: u64::from(record.u32(24)),
            offset: record.u32(42) as usize,
        });
        directory = rest;
    }
    if entries.len() == count { Ok(entries) } else { Err(ZipError::NotZip) }
}

/// Returns a name that stays below the directory into which the archive is unpacked.
fn checked_name(bytes: &[u8]) -> Result<String, ZipError> {
    let refused = || ZipError::Name(shown(&String::from_utf8_lossy(bytes)));
    let name = std::str::from_utf8(bytes).map_err(|_| refused())?;
    let path = name.strip_suffix('/').unwrap_or(name);
    let bad = |part: &str| part.is_empty() || part == "." || part == "..";
    let good = name.len() <= MAX_NAME && !name.contains(['\\', ':']) && !name.contains(char::is_control);
    if good && !path.split('/').any(bad) { Ok(name.to_owned()) } else { Err(refused()) }
}

fn shown(name: &str) -> String {
    shorten(name, 100)
}

impl Archive<'_> {
    /// Unpacks an entry of at most `limit` bytes.
    pub(super) fn read(&self, entry: &Entry, limit: u64) -> Result<Vec<u8>, ZipError> {
        let name = || shown(&entry.name);
        if entry.encrypted || ![STORED, DEFLATED].contains(&entry.method) {
            return Err(ZipError::Method(name()));
        }
        if entry.size > limit {
            return Err(ZipError::Large(name(), limit));
        }
        let packed = self.packed(entry).ok_or_else(|| ZipError::Damaged(name()))?;
        let mut unpacked = Vec::new();
        let read = match entry.method {
            STORED => packed.take(entry.size + 1).read_to_end(&mut unpacked),
            _ => DeflateDecoder::new(packed).take(entry.size + 1).read_to_end(&mut unpacked),
        };
        let mut crc = Crc::new();
        crc.update(&unpacked);
        let whole = read.is_ok() && unpacked.len() as u64 == entry.size && crc.sum() == entry.crc;
        if whole { Ok(unpacked) } else { Err(ZipError::Damaged(name())) }
    }

    /// Returns the packed bytes of an entry, whose local header must have the same name and method.
    fn packed(&self, entry: &Entry) -> Option<&[u8]> {
        let header = self.bytes.get(entry.offset..)?;
        let record = Record(header.get(..LOCAL_BYTES).filter(|header| header.starts_with(LOCAL))?);
        let name_end = LOCAL_BYTES + usize::from(record.u16(26));
        let same = header.get(LOCAL_BYTES..name_end)? == entry.name.as_bytes() && record.u16(8) == entry.method;
        let data = name_end + usize::from(record.u16(28));
        header.get(data..data.checked_add(entry.packed)?).filter(|_| same)
    }
}

/// Bytes with numbers of little endian at fixed places.
struct Record<'a>(&'a [u8]);

impl Record<'_> {
    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.0[at], self.0[at + 1]])
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }
}
