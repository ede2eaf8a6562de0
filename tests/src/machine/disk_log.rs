//! The log that QEMU's filter `blklogwrites` keeps of a disk: its writes and flushes, in order.
//!
//! Sector 0 is a header; then one sector per entry (sector, number of sectors, flags, length of data; little endian), with the
//! data of a write after it, as Linux's dm-log-writes has it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const SECTOR: u64 = 512;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;

/// A write of the guest, or the end of a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// `length` bytes of the log from `data` on were written to the disk at `offset`.
    Write { offset: u64, data: u64, length: u64 },
    /// All earlier writes are durable; the entry ends at `end` in the log.
    Flush { end: u64 },
}

/// Reads all events. Discarded sectors keep their content: the guest cannot rely on either.
pub(super) fn read(log: &Path) -> io::Result<Vec<Event>> {
    let log = File::open(log)?;
    let length = log.metadata()?.len();
    let (mut events, mut at) = (Vec::new(), SECTOR);
    while at + SECTOR <= length {
        let mut entry = [0; 32];
        log.read_exact_at(&mut entry, at)?;
        let mut fields = entry.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let mut next = || fields.next().unwrap_or_default();
        let (sector, sectors, flags) = (next(), next(), next());
        // The unwritten rest of the file.
        if sectors == 0 && flags == 0 {
            break;
        }
        at += SECTOR;
        if flags & DISCARD == 0 && sectors > 0 {
            events.push(Event::Write { offset: sector * SECTOR, data: at, length: sectors * SECTOR });
            at += sectors * SECTOR;
        }
        if flags & FLUSH != 0 {
            events.push(Event::Flush { end: at });
        }
    }
    Ok(events)
}

/// Writes an event to a disk.
pub(super) fn apply(event: Event, log: &File, disk: &File) -> io::Result<()> {
    let Event::Write { offset, .. } = event else { return Ok(()) };
    disk.write_all_at(&content(event, log)?, offset)
}

/// Returns what an event wrote; nothing, if it is a flush.
pub(super) fn content(event: Event, log: &File) -> io::Result<Vec<u8>> {
    let Event::Write { data, length, .. } = event else { return Ok(Vec::new()) };
    let mut content = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    log.read_exact_at(&mut content, data)?;
    Ok(content)
}

/// Returns the end of what has been written to the log so far.
pub(super) fn end(log: &Path) -> io::Result<u64> {
    use rustix::fs::{SeekFrom, seek};
    let log = File::open(log)?;
    let mut end = 0;
    while let Ok(data) = seek(&log, SeekFrom::Data(end)) {
        end = seek(&log, SeekFrom::Hole(data))?;
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_to_its_unwritten_rest() -> io::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        let mut bytes = vec![0; 512];
        for (sector, sectors, flags) in [(8_u64, 1_u64, 0_u64), (0, 0, FLUSH), (9, 3, DISCARD)] {
            let mut entry: Vec<u8> = [sector, sectors, flags, 0].iter().flat_map(|field| field.to_le_bytes()).collect();
            entry.resize(512, 0);
            if flags == 0 {
                entry.resize(1024, 7);
            }
            bytes.extend(entry);
        }
        std::fs::write(file.path(), &bytes)?;
        file.as_file().set_len(1 << 20)?;
        let events = read(file.path())?;
        assert_eq!(events, [Event::Write { offset: 4096, data: 1024, length: 512 }, Event::Flush { end: 2048 }]);
        let disk = tempfile::tempfile()?;
        apply(events[0], file.as_file(), &disk)?;
        let mut written = [0; 512];
        disk.read_exact_at(&mut written, 4096)?;
        assert_eq!(written, [7; 512]);
        Ok(())
    }
}
