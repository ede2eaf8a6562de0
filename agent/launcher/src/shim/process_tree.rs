//! The processes of an execution and how they are stopped: all members of its cgroup and all descendants of the shim. The shim is
//! their subreaper, so that processes that left the cgroup, the session or their parent are found as its descendants.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgid, getpid};
use packs_schema::agent::execution::{Leftovers, MAX_PROGRAMS};
use packs_schema::base::name::ExecutionId;

use crate::cgroup::Group;
use crate::proc;
use crate::sys::{self, ExitedChild};

/// Maximum time that killed processes may take to disappear. They cannot refuse, but the kernel may be slow.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of searches for processes in a tree that changes meanwhile.
const MAX_SEARCHES: usize = 8;

/// All processes of an execution.
pub(super) struct ProcessTree<'a> {
    group: &'a Group,
    /// The action's own process, the leader of its session and process group.
    main: Pid,
    /// Exit status or signal of the action's own process, once it has ended.
    pub(super) main_exit: Option<ExitedChild>,
}

impl<'a> ProcessTree<'a> {
    pub(super) fn new(group: &'a Group, main: Pid) -> ProcessTree<'a> {
        ProcessTree { group, main, main_exit: None }
    }

    /// Reaps all children that have ended; returns false when there are no children left.
    pub(super) fn reap(&mut self) -> bool {
        loop {
            match sys::reap() {
                Ok(Some(exited)) if exited.pid == self.main => self.main_exit = Some(exited),
                Ok(Some(_)) | Err(Errno::EINTR) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Counts the living processes; 0 only if there are none.
    ///
    /// A search alone cannot prove that: a process that forks and exits between the reads of its parent's and its own list is in
    /// neither. `ECHILD` proves it, because every descendant becomes a child of this subreaper in the end.
    pub(super) fn count_alive(&mut self) -> u32 {
        for _ in 0..MAX_SEARCHES {
            let has_children = self.reap();
            let found = self.find_processes(has_children).len();
            if found > 0 || !has_children {
                return u32::try_from(found).unwrap_or(u32::MAX);
            }
        }
        1
    }

    fn find_processes(&self, has_children: bool) -> Vec<Pid> {
        // Without children, every process that the action has started is gone: only one that root has moved into the group can be
        // in it.
        let mut pids = if has_children { self.group.members() } else { self.group.members_of_first() };
        if has_children {
            proc::add_descendants(getpid(), &mut pids);
        }
        pids.retain(|pid| *pid != getpid());
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Sends SIGTERM to all processes, once each, and SIGCONT so that stopped processes receive it.
    ///
    /// All of them are searched before the first one is signalled: the children of an exiting process are reparented to the shim,
    /// and a search at that moment finds them neither there nor here.
    pub(super) fn terminate(&self) {
        let pidfds = self.open_pidfds();
        if self.main_exit.is_none() {
            let _ = killpg(self.main, Signal::SIGTERM);
        }
        for (_, pidfd) in pidfds.iter().filter(|(pid, _)| getpgid(Some(*pid)) != Ok(self.main)) {
            let _ = sys::pidfd_signal(pidfd, Signal::SIGTERM);
        }
        if self.main_exit.is_none() {
            let _ = killpg(self.main, Signal::SIGCONT);
        }
        for (_, pidfd) in &pidfds {
            let _ = sys::pidfd_signal(pidfd, Signal::SIGCONT);
        }
    }

    /// Opens a pidfd of every process, so that a reused pid is never signalled. A process counts only if it was found once more
    /// after its pidfd was opened. Searches until no new process is found.
    fn open_pidfds(&self) -> Vec<(Pid, OwnedFd)> {
        let mut opened: BTreeMap<Pid, (OwnedFd, bool)> = BTreeMap::new();
        for _ in 0..MAX_SEARCHES {
            let mut found_new = false;
            for pid in self.find_processes(true) {
                match opened.get_mut(&pid) {
                    Some((_, confirmed)) => *confirmed = true,
                    None => {
                        found_new = true;
                        opened.extend(sys::pidfd_open(pid).ok().map(|pidfd| (pid, (pidfd, false))));
                    }
                }
            }
            if !found_new {
                break;
            }
        }
        opened.into_iter().filter(|(_, (_, confirmed))| *confirmed).map(|(pid, (pidfd, _))| (pid, pidfd)).collect()
    }

    /// Moves all living processes out of the execution's cgroup and its limits (`leftovers: keep`). After an error, some of them may
    /// have been moved.
    pub(super) fn keep(&mut self, execution: &ExecutionId) -> io::Result<Leftovers> {
        let programs = self.program_names();
        self.group.move_to_leftover_group(execution)?;
        let kept = self.count_alive();
        if kept == 0 {
            self.group.remove_leftover_group(execution);
        }
        Ok(Leftovers { kept, programs, ..Leftovers::default() })
    }

    /// Returns the command names of all living processes, sorted, without duplicates, at most [`MAX_PROGRAMS`].
    fn program_names(&self) -> Vec<String> {
        let name = |pid: &Pid| fs::read(format!("/proc/{pid}/comm")).ok();
        let clean = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        let shown = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end().chars().map(clean).collect::<String>();
        let mut names: Vec<String> = self.find_processes(true).iter().filter_map(name).map(shown).collect();
        names.sort_unstable();
        names.dedup();
        names.truncate(MAX_PROGRAMS);
        names
    }

    /// Kills all living processes: first the cgroup, then the remaining children. Counts the survivors after each step.
    pub(super) fn kill(&mut self) -> Leftovers {
        let programs = self.program_names();
        let mut leftovers = Leftovers { after_term: self.count_alive(), programs, ..Leftovers::default() };
        if leftovers.after_term > 0 {
            self.group.kill(KILL_TIMEOUT);
            leftovers.after_cgroup_kill = self.count_alive();
        }
        self.kill_children();
        leftovers.after_subreaper = self.count_alive();
        leftovers
    }

    /// Kills children until there are none: the children of a killed child are reparented to the shim and killed next.
    fn kill_children(&mut self) {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(1);
        while self.reap() && begun.elapsed() < KILL_TIMEOUT {
            for child in proc::children(getpid()) {
                // Only this process reaps its children: until then no other process has this pid.
                let _ = kill(child, Signal::SIGKILL);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}
