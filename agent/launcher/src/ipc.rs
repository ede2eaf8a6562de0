//! Removal of IPC objects that outlive the processes of an account: System V objects, POSIX message queues and shared memory.
//! They use memory until they are removed, and would belong to the next execution with the same user id.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::proc;
use crate::sys::{self, IpcKind};

/// Maximum number of bytes read of a listing.
const MAX_LISTING: u64 = 8 << 20;
/// Mount points of POSIX shared memory and message queues.
const POSIX_IPC: [&str; 2] = ["/dev/shm", "/dev/mqueue"];

/// Names of the listings in `/proc/sysvipc`.
const LISTINGS: [(IpcKind, &str); 3] =
    [(IpcKind::SharedMemory, "shm"), (IpcKind::MessageQueue, "msg"), (IpcKind::Semaphores, "sem")];

/// Removes all IPC objects of `uid`, which no process may have any more.
pub(crate) fn remove_objects_of(uid: u32) {
    for (kind, file) in LISTINGS {
        if sys::count_ipc(kind) == Ok(0) {
            continue;
        }
        for id in ids_of(uid, &proc::read_text(format!("/proc/sysvipc/{file}"), MAX_LISTING)) {
            let _ = sys::remove_ipc(kind, id);
        }
    }
    for directory in POSIX_IPC {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(stat) = entry.metadata() else { continue };
            if stat.uid() != uid {
                continue;
            }
            // Neither follows symbolic links.
            let _ = if stat.is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
        }
    }
}

/// Returns the ids of objects in a listing whose owner or creator is `uid`. The first line names the columns; the id is in the
/// second column.
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
    fn objects_are_counted_like_they_are_listed() {
        // Other tests may make or remove some between the two.
        let agrees = |(kind, file): (IpcKind, &str)| {
            let listed = proc::read_text(format!("/proc/sysvipc/{file}"), MAX_LISTING).lines().skip(1).count();
            sys::count_ipc(kind) == Ok(i32::try_from(listed).unwrap())
        };
        for listing in LISTINGS {
            assert!((0..100).any(|_| agrees(listing)), "{listing:?}");
        }
    }

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
