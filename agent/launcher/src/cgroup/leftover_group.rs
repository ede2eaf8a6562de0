//! Groups of leftover processes that outlive their execution (`bolt: {leftovers: keep}`), for example a service without a unit.
//!
//! ```text
//!  <parent>
//!    ├─ bolt-actions/bolt-<id>   the execution's group, with its limits ──┐ all processes are moved, then the group is removed
//!    └─ bolt-kept-<id>           no limits set by Bolt                 ◀──┘ removed once it is empty
//! ```
//!
//! The group is outside the group of all executions, so that kept processes do not count against the limits of executions. Nothing
//! but its name is recorded: [`Tree::prune_leftover_groups`] removes empty groups of any launcher or shim. A group that contains a
//! process cannot be removed, so pruning is safe at any time.
//!
//! Only an exit record makes processes kept. When a shim dies before it has written one, the launcher kills both groups
//! ([`Tree::find_leftover_group`]).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::Pid;
use packs_schema::base::name::ExecutionId;

use super::control::make_dir_if_absent;
use super::group::{Group, children, procs, remove_children};
use super::tree::Tree;

/// Prefix of the names of these groups.
const PREFIX: &str = "bolt-kept-";
/// Maximum number of rounds to empty a group whose processes fork meanwhile; each round moves all processes that it finds.
const MAX_ROUNDS: usize = 100;

impl Group {
    /// Moves every process of the group into its leftover group, and returns them. After an error, some may have been moved: the
    /// caller kills all of them.
    pub(crate) fn move_to_leftover_group(&self, execution: &ExecutionId) -> io::Result<Vec<Pid>> {
        let mut moved: Vec<Pid> = Vec::new();
        for from in self.dirs() {
            let to = leftover_group(from, execution).ok_or_else(|| io::Error::other("the group has no parent"))?;
            move_all(from, &to, &mut moved)?;
        }
        moved.sort_unstable();
        moved.dedup();
        for pid in &moved {
            // The kernel kills executions first when memory is short, but not a kept service. Only root may lower the value.
            let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), "0");
        }
        Ok(moved)
    }

    /// Removes the leftover group if it is empty.
    pub(crate) fn remove_leftover_group(&self, execution: &ExecutionId) {
        for dir in self.dirs().filter_map(|dir| leftover_group(dir, execution)) {
            remove_empty(&dir);
        }
    }
}

/// Maps `<parent>/bolt-actions/bolt-<id>` to `<parent>/bolt-kept-<id>`.
fn leftover_group(group: &Path, execution: &ExecutionId) -> Option<PathBuf> {
    Some(group.parent()?.parent()?.join(format!("{PREFIX}{execution}")))
}

fn move_all(from: &Path, to: &Path, moved: &mut Vec<Pid>) -> io::Result<()> {
    for _ in 0..MAX_ROUNDS {
        let members = procs(from);
        if members.is_empty() {
            return Ok(());
        }
        // In each round, because a launcher may have pruned the group while it was empty.
        make_dir_if_absent(to)?;
        for pid in members {
            match fs::write(to.join("cgroup.procs"), pid.to_string()) {
                Ok(()) => moved.push(pid),
                // The process has ended, or a launcher pruned the empty group before the open or the write: the next round decides.
                Err(e) if matches!(errno(&e), Some(Errno::ESRCH | Errno::ENOENT | Errno::ENODEV)) => {}
                Err(e) => return Err(e),
            }
        }
    }
    Err(io::Error::other("processes fork faster than they can be moved"))
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
    /// Finds the leftover group of an execution, whose own group may not exist any more.
    pub(crate) fn find_leftover_group(&self, execution: &ExecutionId) -> Group {
        self.existing(|dir| dir.join(format!("{PREFIX}{execution}")))
    }

    /// Removes all empty leftover groups, including those of other launchers.
    pub(crate) fn prune_leftover_groups(&self) {
        for parent in self.all_parents() {
            for dir in children(parent).into_iter().filter(|dir| is_leftover_group(dir)) {
                remove_empty(&dir);
            }
        }
    }
}

fn is_leftover_group(dir: &Path) -> bool {
    dir.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Creates a group for this test in a writable hierarchy; prints SKIPPED and returns `None` when there is none.
    fn make_base() -> Option<PathBuf> {
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
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED processes_are_moved_while_the_empty_group_is_pruned: cannot create a cgroup here"
            );
        }
        found
    }

    #[test]
    fn processes_are_moved_while_the_empty_group_is_pruned() {
        let Some(base) = make_base() else { return };
        let (from, to, done) = (base.join("from"), base.join("to"), AtomicBool::new(false));
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
            let pruner = scope.spawn(|| {
                let mut pause = 1_u64;
                while !done.load(Ordering::Relaxed) {
                    // Like pruning, but more often: only an empty group can be removed.
                    let _ = fs::remove_dir(&to);
                    // Of changing length: a kernel that lets both wait for one lock makes equal pauses keep step with the moves.
                    pause = pause * 48_271 % 0x7fff_ffff;
                    std::thread::sleep(std::time::Duration::from_micros(20 + pause % 500));
                }
            });
            let moved = moves();
            done.store(true, Ordering::Relaxed);
            pruner.join().unwrap();
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
