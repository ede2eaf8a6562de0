//! What `/proc` tells of other processes. Their text is hostile: it is read up to a bound, and only from files that the
//! kernel fills by itself. Those that it fills from a process's memory (`environ`, `cmdline`) are not read at all: the
//! process decides what stands there, and can keep a reader waiting for ever.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use nix::unistd::Pid;

/// The largest `stat` or `status`, with room to spare.
const STATUS: u64 = 64 << 10;

/// At most `limit` bytes of a file; empty when it cannot be read.
pub(crate) fn text(path: impl AsRef<Path>, limit: u64) -> String {
    let mut bytes = Vec::new();
    let _ = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// All processes.
pub(crate) fn pids() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw)
}

/// The living processes that have `uid` as one of their user ids.
pub(crate) fn living_of(uid: u32) -> Vec<Pid> {
    pids().filter(|pid| has_account(*pid, uid) && is_alive(*pid)).collect()
}

/// True if `uid` is one of its user ids.
pub(crate) fn has_account(pid: Pid, uid: u32) -> bool {
    uids(pid).contains(&uid)
}

/// False when it has ended, whether its parent has taken it in or not.
pub(crate) fn is_alive(pid: Pid) -> bool {
    stat(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// Real, effective, saved and file-system user id; none when the process is gone.
fn uids(pid: Pid) -> Vec<u32> {
    parse_uids(&text(format!("/proc/{pid}/status"), STATUS))
}

/// The kernel escapes line breaks in the name, which a process chooses: no other line begins with `Uid:`.
fn parse_uids(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    line.into_iter().flat_map(str::split_whitespace).filter_map(|uid| uid.parse().ok()).collect()
}

/// State and parent of a process. Its name stands in brackets and may hold anything, brackets included.
pub(crate) fn stat(pid: Pid) -> Option<(char, Pid)> {
    let text = text(format!("/proc/{pid}/stat"), STATUS);
    let mut fields = text[text.rfind(')')? + 1..].split_whitespace();
    Some((fields.next()?.chars().next()?, Pid::from_raw(fields.next()?.parse().ok()?)))
}

/// True if one of the process's descriptors refers to the memory file `name`.
pub(crate) fn has_memory_file(pid: Pid, name: &str) -> bool {
    let wanted = format!("/memfd:{name} (deleted)");
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    descriptors.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| target.as_os_str() == wanted.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_from_the_kernels_line() {
        let status = "Name:\tUid:\\n5\nUmask:\t0022\nUid:\t1\t2\t3\t4\nGid:\t9\t9\t9\t9\n";
        assert_eq!(parse_uids(status), [1, 2, 3, 4]);
        assert_eq!(parse_uids(""), [0_u32; 0]);
        assert!(living_of(nix::unistd::getuid().as_raw()).contains(&nix::unistd::getpid()));
    }

    #[test]
    fn a_file_is_read_up_to_its_bound() {
        assert_eq!(text("/dev/zero", 9).len(), 9);
        assert_eq!(text("/nonexistent", 9), "");
    }
}
