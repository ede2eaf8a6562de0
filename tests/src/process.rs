//! Living processes and cgroups, from `/proc` and `/sys`.

use std::fs;
use std::path::{Path, PathBuf};

fn pids() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Returns processes called `name` with an open file or working directory below `path`.
pub fn processes(name: &str, path: &Path) -> Vec<i32> {
    let is = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name);
    let holds = |pid: &i32| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let open = fds.map(|fd| fd.path()).chain([PathBuf::from(format!("/proc/{pid}/cwd"))]);
        open.filter_map(|link| fs::read_link(link).ok()).any(|to| to.starts_with(path))
    };
    pids().filter(is).filter(holds).collect()
}

/// Returns living processes with one of `words` in their command line, with that line.
pub fn with_words(words: &[String]) -> Vec<(i32, String)> {
    let line = |pid: i32| {
        let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
        words.iter().any(|word| text.contains(word.as_str())).then_some((pid, text))
    };
    pids().filter(|pid| *pid != own()).filter_map(line).filter(|(pid, _)| lives(*pid)).collect()
}

/// Returns true if the process is alive and not a zombie.
pub fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// Returns the process id of a launcher's api.
pub fn api_of(launcher: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).unwrap_or_default();
    let is_api = |pid: &u32| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.split(|b| *b == 0).nth(1) == Some(b"api"))
    };
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(is_api)
}

/// Returns directories below `/sys/fs/cgroup` whose names contain one of `words`.
pub fn groups_with(words: &[String]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut next = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = next.pop() {
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        for path in entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if words.iter().any(|word| name.contains(word.as_str())) {
                found.push(path);
            } else {
                next.push(path);
            }
        }
    }
    found
}

/// Returns the nice value of the process `pid`, or of this process.
///
/// # Panics
/// If there is no such process.
pub fn niceness(pid: Option<i32>) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.unwrap_or_else(own))).expect("the process lives");
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    // Field 19 of proc_pid_stat(5); the first field after the name is the third.
    let value = fields.split_whitespace().nth(16).and_then(|value| value.parse().ok());
    value.expect("a nice value")
}

/// Checks that a process of the agent runs as `account` only, without a capability or a supplementary group, and with a filter
/// of system calls, as `/proc/PID/status` of proc(5) tells.
///
/// # Panics
/// If there is no such process, or it has more privileges.
pub fn assert_confined(pid: i32, account: u32) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let values = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(values("Uid"), vec![account.to_string(); 4], "real, effective, saved and file system");
    for set in ["CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(values(set), ["0000000000000000"], "{set}");
    }
    assert_eq!(values("Seccomp"), ["2"], "a filter");
    assert_eq!(values("NoNewPrivs"), ["1"]);
    assert_eq!(values("Groups"), Vec::<String>::new(), "supplementary groups");
}

fn own() -> i32 {
    i32::try_from(std::process::id()).unwrap_or_default()
}
