//! What an account leaves behind that no process keeps alive: System V objects, POSIX queues, shared memory files. All of
//! them take memory of the host until somebody removes them, and would belong to the next owner of the user id.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::{proc, sys};

/// The largest listing that is read.
const MOST: u64 = 8 << 20;
/// Where the kernel keeps POSIX shared memory and message queues: in memory, by name, for everybody.
const IN_MEMORY: [&str; 2] = ["/dev/shm", "/dev/mqueue"];

/// Kinds of System V objects, as `/proc/sysvipc` calls them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SysV {
    SharedMemory,
    Queue,
    Semaphores,
}

impl SysV {
    const ALL: [(SysV, &'static str); 3] =
        [(SysV::SharedMemory, "shm"), (SysV::Queue, "msg"), (SysV::Semaphores, "sem")];
}

/// Removes what belongs to `uid`, which no process has any more.
pub(crate) fn remove_of(uid: u32) {
    for (kind, file) in SysV::ALL {
        for id in ids_of(uid, &proc::text(format!("/proc/sysvipc/{file}"), MOST)) {
            let _ = sys::remove_ipc(kind, id);
        }
    }
    for directory in IN_MEMORY {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(stat) = entry.metadata() else { continue };
            if stat.uid() != uid {
                continue;
            }
            // Both remove without following links.
            let _ = if stat.is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
        }
    }
}

/// The objects of a listing whose owner or creator is `uid`. The first line names the columns; the second is the id.
fn ids_of(uid: u32, listing: &str) -> Vec<i32> {
    let mut lines = listing.lines();
    let columns: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    let owners: Vec<usize> = (0..columns.len()).filter(|at| matches!(columns[*at], "uid" | "cuid")).collect();
    lines
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let is_owner = owners.iter().any(|at| fields.get(*at).and_then(|f| f.parse().ok()) == Some(uid));
            is_owner.then(|| fields.get(1)?.parse().ok()).flatten()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_by_owner_and_creator() {
        let listing = "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n\
            1          7   600          1  70000    70000     0     0          0 1700000000\n\
            2          8   600          1     0     0 70000 70000          0 1700000000\n\
            3          9   600          1     0 70000     0 70000          0 1700000000\n";
        assert_eq!(ids_of(70_000, listing), [7, 8]);
        assert_eq!(ids_of(70_001, listing), [0_i32; 0]);
        assert_eq!(ids_of(70_000, ""), [0_i32; 0]);
    }
}
