//! Processes that an action started and that stay after it (`bolt: {leftovers: keep}`): a service without a unit, for one.
//!
//! ```text
//!  <parent>
//!    ├─ bolt-actions/bolt-<id>   the execution's group, with its limits ──┐ every process moves, then the group is removed
//!    └─ bolt-kept-<id>           no limits of ours                     ◀──┘ removed once it is empty
//! ```
//!
//! The group is beside that of all executions, so that what stays counts against no limit on executions. Its name is all that
//! there is to know of it: [`Tree::sweep_kept`] removes the empty ones, whichever launcher or shim made them. A group with a
//! process cannot be removed, so that sweeping is harmless at any time.
//!
//! Only an exit record says that something was kept. A shim that dies before it has written one leaves nothing: whoever
//! cleans up after it kills both groups ([`Tree::find_kept`]).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::Pid;
use packs_schema::base::name::ExecutionId;

use super::group::{children, procs, remove_children};
use super::{Group, Tree};

/// What the names of these groups begin with.
const KEPT: &str = "bolt-kept-";
/// How often a group is emptied whose processes fork meanwhile: each round moves all that are there.
const ROUNDS: usize = 100;

impl Group {
    /// Moves every process of the group out of it and its limits, and tells how many there were.
    ///
    /// With an error, some may have been moved: the caller kills them all.
    pub(crate) fn keep(&self, execution: &ExecutionId) -> io::Result<Vec<Pid>> {
        let mut moved: Vec<Pid> = Vec::new();
        for from in self.dirs() {
            let to = kept(from, execution).ok_or_else(|| io::Error::other("the group has no place beside it"))?;
            move_all(from, &to, &mut moved)?;
        }
        moved.sort_unstable();
        moved.dedup();
        for pid in &moved {
            // Executions are the first to go when memory is short; a service is not. Only root may lower it.
            let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), "0");
        }
        Ok(moved)
    }

    /// Removes the group of what was kept, if it is empty.
    pub(crate) fn remove_kept(&self, execution: &ExecutionId) {
        for dir in self.dirs().filter_map(|dir| kept(dir, execution)) {
            remove_empty(&dir);
        }
    }
}

/// `<parent>/bolt-actions/bolt-<id>` → `<parent>/bolt-kept-<id>`
fn kept(group: &Path, execution: &ExecutionId) -> Option<PathBuf> {
    Some(group.parent()?.parent()?.join(format!("{KEPT}{execution}")))
}

fn move_all(from: &Path, to: &Path, moved: &mut Vec<Pid>) -> io::Result<()> {
    for _ in 0..ROUNDS {
        let members = procs(from);
        if members.is_empty() {
            return Ok(());
        }
        // A launcher may have swept the group that was still empty.
        super::total::take_over(to)?;
        for pid in members {
            match fs::write(to.join("cgroup.procs"), pid.to_string()) {
                Ok(()) => moved.push(pid),
                // The process has ended, or a launcher swept the group that was still empty: before the file was opened, or
                // between that and the write. The next round tells.
                Err(e) if matches!(errno(&e), Some(Errno::ESRCH | Errno::ENOENT | Errno::ENODEV)) => {}
                Err(e) => return Err(e),
            }
        }
    }
    Err(io::Error::other("its processes fork faster than they can be moved"))
}

fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw)
}

fn remove_empty(dir: &Path) {
    if procs(dir).is_empty() {
        remove_children(dir);
        let _ = fs::remove_dir(dir);
    }
}

impl Tree {
    /// The group of what was kept of an execution, whose own group may be gone.
    pub(crate) fn find_kept(&self, execution: &ExecutionId) -> Group {
        self.at(|dir| dir.join(format!("{KEPT}{execution}")))
    }

    /// Removes the groups of kept processes that have all ended, those of other launchers and of earlier ones included.
    pub(crate) fn sweep_kept(&self) {
        for parent in self.parents() {
            for dir in children(parent).into_iter().filter(|dir| is_kept(dir)) {
                remove_empty(&dir);
            }
        }
    }
}

fn is_kept(dir: &Path) -> bool {
    dir.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(KEPT.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// A group of this test's own in some hierarchy that can be written; `None`, loudly, where there is none.
    fn base() -> Option<PathBuf> {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mounted = own.lines().filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controller, path) = (parts.next()?, parts.next()?);
            let root = if controller.is_empty() { String::new() } else { format!("/{controller}") };
            Some(PathBuf::from(format!("/sys/fs/cgroup{root}{path}")))
        });
        let made = mounted.map(|dir| dir.join(format!("bolt-test-{}", std::process::id())));
        let found = made.into_iter().find(|dir| fs::create_dir(dir).is_ok());
        if found.is_none() {
            eprintln!("SKIPPED processes_move_although_the_empty_group_is_swept: no cgroup can be made here");
        }
        found
    }

    #[test]
    fn processes_move_although_the_empty_group_is_swept() {
        let Some(base) = base() else { return };
        let (from, to, over) = (base.join("from"), base.join("to"), AtomicBool::new(false));
        fs::create_dir(&from).unwrap();
        let mut service = Command::new("sleep").arg("600").spawn().unwrap();
        fs::write(from.join("cgroup.procs"), service.id().to_string()).unwrap();
        let moves = || -> io::Result<()> {
            for _ in 0..3000 {
                move_all(&from, &to, &mut Vec::new())?;
                move_all(&to, &from, &mut Vec::new())?;
            }
            Ok(())
        };
        let moved = std::thread::scope(|scope| {
            let sweeper = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    // As sweeping does, and more often: only an empty group can be removed.
                    let _ = fs::remove_dir(&to);
                    std::thread::sleep(std::time::Duration::from_micros(20));
                }
            });
            let moved = moves();
            over.store(true, Ordering::Relaxed);
            sweeper.join().unwrap();
            moved
        });
        let _ = service.kill();
        let _ = service.wait();
        for dir in [to, from, base] {
            let _ = fs::remove_dir(dir);
        }
        moved.unwrap();
    }
}
