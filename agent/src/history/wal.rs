//! Detection of a damaged write-ahead log. SQLite silently treats everything after an invalid frame as never written; rows may
//! then be missing, and the execution directories are imported.
//!
//! The format is SQLite's (<https://www.sqlite.org/walformat.html>): a header of 32 bytes, then frames, each a header of
//! 24 bytes and a page. Frames have the salts of the log's header and a checksum over all previous ones; frames of an
//! earlier cycle of the log have other salts.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

const HEADER: usize = 32;
const FRAME: usize = 24;
/// Maximum number of bytes of a log that are checked.
const MAX_BYTES: u64 = 64 << 20;

fn log_of(path: &Path) -> PathBuf {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    log.into()
}

/// True if the database `path` has a log that is not empty, which may have pages that the file lacks.
pub(super) fn exists(path: &Path) -> bool {
    log_of(path).metadata().is_ok_and(|meta| meta.len() > 0)
}

/// True if the log of the database `path` has valid frames beyond an invalid one, or no valid header.
pub(super) fn is_torn(path: &Path) -> bool {
    let log = log_of(path);
    match File::open(&log) {
        Ok(file) => {
            let torn = scan(BufReader::new(file.take(MAX_BYTES))).unwrap_or(true);
            if torn {
                tracing::error!(log = %log.display(), "the write-ahead log of the history is damaged: importing the execution directories");
            }
            torn
        }
        Err(_) => false,
    }
}

fn scan(mut log: impl Read) -> io::Result<bool> {
    let mut header = [0; HEADER];
    let read = read_up_to(&mut log, &mut header)?;
    if read == 0 {
        return Ok(false);
    }
    let word = |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let magic = word(&header, 0);
    let page = word(&header, 8) as usize;
    let sums = |bytes: &[u8], at: usize| (word(bytes, at), word(bytes, at + 4));
    if read < HEADER || magic & !1 != 0x377f_0682 || !(512..=65_536).contains(&page) {
        return Ok(true);
    }
    let big = magic & 1 == 1;
    let mut sum = checksum(big, (0, 0), &header[..24]);
    if sum != sums(&header, 24) {
        return Ok(true);
    }
    let salts = sums(&header, 16);
    let mut frame = vec![0; FRAME + page];
    let mut broken = false;
    while read_up_to(&mut log, &mut frame)? == frame.len() {
        let ours = sums(&frame, 8) == salts;
        if broken {
            if ours {
                return Ok(true);
            }
            continue;
        }
        sum = checksum(big, checksum(big, sum, &frame[..8]), &frame[FRAME..]);
        broken = !ours || sum != sums(&frame, 16);
    }
    Ok(false)
}

/// Computes SQLite's checksum over words of the given byte order.
fn checksum(big: bool, start: (u32, u32), bytes: &[u8]) -> (u32, u32) {
    let words = bytes.chunks_exact(8).map(|pair| {
        let (one, two): ([u8; 4], [u8; 4]) =
            (pair[..4].try_into().expect("four bytes"), pair[4..].try_into().expect("four bytes"));
        if big {
            (u32::from_be_bytes(one), u32::from_be_bytes(two))
        } else {
            (u32::from_le_bytes(one), u32::from_le_bytes(two))
        }
    });
    words.fold(start, |(first, second), (one, two)| {
        let first = first.wrapping_add(one).wrapping_add(second);
        (first, second.wrapping_add(two).wrapping_add(first))
    })
}

fn read_up_to(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < into.len() {
        match from.read(&mut into[read..])? {
            0 => break,
            more => read += more,
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn a_damaged_log_is_detected_and_one_as_sqlite_leaves_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        assert!(!is_torn(&path));
        let db = Connection::open(&path).unwrap();
        let log = dir.path().join("x.db-wal");
        db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (a);").unwrap();
        for _ in 0..20 {
            db.execute_batch("INSERT INTO t VALUES (randomblob(900))").unwrap();
        }
        assert!(!is_torn(&path));
        // A second cycle leaves frames of the first after its own.
        let whole = std::fs::read(&log).unwrap();
        db.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
        db.execute_batch("INSERT INTO t VALUES (1)").unwrap();
        assert_eq!(std::fs::read(&log).unwrap().len(), whole.len());
        assert!(!is_torn(&path));
        // A transaction that was cut short at the end is not damage.
        std::fs::write(&log, &whole[..whole.len() - 5_000]).unwrap();
        assert!(!is_torn(&path));
        for at in [0, 9, 20, HEADER + 9, HEADER + FRAME + 100, whole.len() / 2] {
            let mut bad = whole.clone();
            bad[at] ^= 0x55;
            std::fs::write(&log, bad).unwrap();
            assert!(is_torn(&path), "{at}");
        }
        std::fs::write(&log, b"garbage").unwrap();
        assert!(is_torn(&path));
    }
}
