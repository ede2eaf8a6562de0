//! Information about processes from `/proc`. Their text is untrusted: it is read up to a limit, and only from files that the
//! kernel fills by itself. `environ` and `cmdline` are never read: they are in the memory of the process, which controls their
//! content and can block a reader forever.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use nix::unistd::{Pid, getpid};

/// Maximum size of `stat` or `status`, in bytes; the kernel writes much less.
const MAX_STATUS: u64 = 64 << 10;
/// Maximum size of a list of children, in bytes: more processes than a host can have.
const MAX_CHILDREN: u64 = 64 << 20;

/// Space with which a read begins, in bytes: most files of the kernel fit, and are read by one call and one that finds the end.
const SPACE: usize = 1 << 10;

/// Reads at most `limit` bytes of a file; returns an empty text when it cannot be read.
pub(crate) fn read_text(path: impl AsRef<Path>, limit: u64) -> String {
    try_read_text(path.as_ref(), limit).unwrap_or_default()
}

/// Reads at most `limit` bytes of a file.
pub(crate) fn try_read_text(path: &Path, limit: u64) -> io::Result<String> {
    let mut bytes = Vec::with_capacity(SPACE);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Counts the open descriptors of this process, of which the kernel lists no more than `RLIMIT_NOFILE`.
pub(crate) fn open_descriptors() -> Option<u32> {
    let listed = fs::read_dir("/proc/self/fd").ok()?.count();
    // Without the descriptor of the directory itself.
    u32::try_from(listed.saturating_sub(1)).ok()
}

/// Iterates over the pids of all processes.
pub(crate) fn pids() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw)
}

/// Returns the living processes that have `uid` as one of their user ids.
pub(crate) fn alive_with_uid(uid: u32) -> Vec<Pid> {
    pids().filter(|pid| has_uid(*pid, uid) && is_alive(*pid)).collect()
}

/// Returns true if `uid` is one of the user ids of a process.
pub(crate) fn has_uid(pid: Pid, uid: u32) -> bool {
    uids(pid).contains(&uid)
}

/// Returns false when a process has ended, including a zombie.
pub(crate) fn is_alive(pid: Pid) -> bool {
    stat(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// Returns the real, effective, saved and file-system user id; empty when the process does not exist.
fn uids(pid: Pid) -> Vec<u32> {
    parse_uids(&read_text(format!("/proc/{pid}/status"), MAX_STATUS))
}

/// Parses the line `Uid:`. The kernel escapes line breaks in the process name, so no other line can begin with it.
fn parse_uids(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    line.into_iter().flat_map(str::split_whitespace).filter_map(|uid| uid.parse().ok()).collect()
}

/// Returns state and parent of a process. Its name is in brackets and may contain anything, including brackets.
pub(crate) fn stat(pid: Pid) -> Option<(char, Pid)> {
    let text = read_text(format!("/proc/{pid}/stat"), MAX_STATUS);
    let mut fields = text[text.rfind(')')? + 1..].split_whitespace();
    Some((fields.next()?.chars().next()?, Pid::from_raw(fields.next()?.parse().ok()?)))
}

/// Returns true if a process has the memory file `name` open.
pub(crate) fn has_memory_file(pid: Pid, name: &str) -> bool {
    let wanted = format!("/memfd:{name} (deleted)");
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    descriptors.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| target.as_os_str() == wanted.as_str())
}

/// Adds all living descendants of `pid` to `found`.
pub(crate) fn add_descendants(pid: Pid, found: &mut Vec<Pid>) {
    let mut next = children(pid);
    while let Some(pid) = next.pop() {
        if !found.contains(&pid) && is_alive(pid) {
            found.push(pid);
        }
        next.extend(children(pid));
    }
}

/// Returns the children of a process.
pub(crate) fn children(pid: Pid) -> Vec<Pid> {
    if pid == getpid()
        && let Ok(text) = read_children(Path::new(&format!("/proc/self/task/{pid}/children")))
    {
        return parse_pids(&text).collect();
    }
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let mut found = Vec::new();
    for thread in threads.flatten() {
        match read_children(&thread.path().join("children")) {
            Ok(text) => found.extend(parse_pids(&text)),
            // A kernel without CONFIG_PROC_CHILDREN.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && fs::exists(thread.path()).unwrap_or(false) => {
                return children_by_parent(pid);
            }
            Err(_) => {}
        }
    }
    found
}

/// Reads a list of children.
fn read_children(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_CHILDREN).read_to_string(&mut text)?;
    Ok(text)
}

fn parse_pids(children: &str) -> impl Iterator<Item = Pid> {
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw)
}

fn children_by_parent(parent: Pid) -> Vec<Pid> {
    pids().filter(|pid| stat(*pid).is_some_and(|(_, of)| of == parent)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_ids_are_parsed_from_the_line_of_the_kernel() {
        let status = "Name:\tUid:\\n5\nUmask:\t0022\nUid:\t1\t2\t3\t4\nGid:\t9\t9\t9\t9\n";
        assert_eq!(parse_uids(status), [1, 2, 3, 4]);
        assert_eq!(parse_uids(""), [0_u32; 0]);
        assert!(alive_with_uid(nix::unistd::getuid().as_raw()).contains(&nix::unistd::getpid()));
    }

    #[test]
    fn a_file_is_read_up_to_the_limit() {
        assert_eq!(read_text("/dev/zero", 9).len(), 9);
        assert_eq!(read_text("/nonexistent", 9), "");
    }
}
