//! Control files of cgroups, and what is read from and written to them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use crate::proc;

/// Maximum size of a control file, in bytes: figures of more devices, or ids of more processes, than a host can have.
const MAX_FILE: u64 = 64 << 20;

/// Counters of the kernel for a group.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Maximum memory usage, in bytes.
    pub(crate) peak_memory_bytes: Option<u64>,
    /// Number of processes that the kernel killed because memory was short.
    pub(crate) oom_kills: u64,
    /// True if the group never reached its own memory limit. Only set after an OOM kill.
    pub(crate) within_own_limit: bool,
    /// True if the group of all executions reached its limit. Only set after an OOM kill.
    pub(crate) total_reached: bool,
    /// Processor time in user mode and in the kernel, in microseconds.
    pub(crate) cpu_us: Option<(u64, u64)>,
    /// Bytes read from and written to block devices.
    pub(crate) io_bytes: Option<(u64, u64)>,
}

/// A limit that is not enforced, and the reason.
pub(crate) type Unenforced = (&'static str, String);

/// Limits that `execution.require_limits` requires.
pub(super) const LIMITS: [&str; 3] = ["memory", "cpu", "pids"];
/// Weight of block I/O, which is never required.
pub(crate) const IO_WEIGHT: &str = "io_weight";

/// Creates the directory of a group. The error names the path.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir(dir).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", dir.display())))
}

/// Creates the directory of a group unless it exists.
pub(super) fn make_dir_if_absent(dir: &Path) -> io::Result<()> {
    match make_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Writes one value into a control file. The error names the path.
pub(super) fn write(dir: &Path, file: &str, value: &str) -> io::Result<()> {
    let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", dir.join(file).display()));
    let mut opened = OpenOptions::new().write(true).open(dir.join(file)).map_err(named)?;
    opened.write_all(value.as_bytes()).map_err(named)
}

/// Ignores the error of a control file that does not exist.
pub(super) fn ignore_absent(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Returns the number after `key` in a file of lines `key number`.
pub(super) fn read_keyed(dir: &Path, file: &str, key: &str) -> Option<u64> {
    keyed(&read(dir, file)?, key)
}

/// Returns the number after `key` in lines `key number`.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Returns the number that is the content of a file.
pub(super) fn read_number(dir: &Path, file: &str) -> Option<u64> {
    read(dir, file)?.trim().parse().ok()
}

/// Reads a control file.
pub(super) fn read(dir: &Path, file: &str) -> Option<String> {
    proc::try_read_text(&dir.join(file), MAX_FILE).ok()
}
