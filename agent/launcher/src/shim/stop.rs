//! The processes of an execution, and how they are stopped: all in the cgroup, and all that descend from the shim, which
//! is where they are found that left the cgroup, the session or their parents.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgid, getpid};
use packs_schema::agent::execution::{Leftovers, MAX_PROGRAMS};
use packs_schema::base::name::ExecutionId;

use crate::cgroup::Group;
use crate::proc;
use crate::sys::{self, Ended};

/// How long killed processes may take to go away. They cannot refuse; the kernel may be slow.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a family that changes meanwhile is searched.
const SEARCHES: usize = 8;
/// The longest list of children that is read, in bytes.
const CHILDREN: u64 = 64 << 20;

pub(super) struct Family<'a> {
    group: &'a Group,
    main: Pid,
    /// How the action's own process ended.
    pub(super) ended: Option<Ended>,
}

impl<'a> Family<'a> {
    pub(super) fn new(group: &'a Group, main: Pid) -> Family<'a> {
        Family { group, main, ended: None }
    }

    /// Takes all children that have ended; false when there are no children any more.
    pub(super) fn reap(&mut self) -> bool {
        loop {
            match sys::reap() {
                Ok(Some(ended)) if ended.pid == self.main => self.ended = Some(ended),
                Ok(Some(_)) | Err(Errno::EINTR) => {}
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
    }

    /// How many live; 0 only if there are none.
    ///
    /// A list alone cannot say so: who forks and ends between the look at the parent and the look at the child is in
    /// neither place. That we have no children is the kernel's word, and nobody of the family ends up elsewhere.
    pub(super) fn alive(&mut self) -> u32 {
        for _ in 0..SEARCHES {
            let has_children = self.reap();
            let found = self.list(has_children).len();
            if found > 0 || !has_children {
                return u32::try_from(found).unwrap_or(u32::MAX);
            }
        }
        1
    }

    fn list(&self, has_children: bool) -> Vec<Pid> {
        let mut pids = self.group.members();
        if has_children {
            descendants(getpid(), &mut pids);
        }
        pids.retain(|pid| *pid != getpid());
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Asks all of them to end: once each, and those that are stopped are woken to hear it.
    ///
    /// They are looked for before the first of them is told: who ends hands its children on to us, and whoever is looking
    /// at that moment finds them neither there nor here.
    pub(super) fn terminate(&self) {
        let held = self.hold();
        if self.ended.is_none() {
            let _ = killpg(self.main, Signal::SIGTERM);
        }
        for (_, pidfd) in held.iter().filter(|(pid, _)| getpgid(Some(*pid)) != Ok(self.main)) {
            let _ = sys::pidfd_signal(pidfd, Signal::SIGTERM);
        }
        if self.ended.is_none() {
            let _ = killpg(self.main, Signal::SIGCONT);
        }
        for (_, pidfd) in &held {
            let _ = sys::pidfd_signal(pidfd, Signal::SIGCONT);
        }
    }

    /// Every process of the family, held so that no other one can take its number. A number counts when it was found once
    /// more after it was held; the search ends when it finds nobody new.
    fn hold(&self) -> Vec<(Pid, OwnedFd)> {
        let mut held: BTreeMap<Pid, (OwnedFd, bool)> = BTreeMap::new();
        for _ in 0..SEARCHES {
            let mut is_new = false;
            for pid in self.list(true) {
                match held.get_mut(&pid) {
                    Some((_, ours)) => *ours = true,
                    None => {
                        is_new = true;
                        held.extend(sys::pidfd_open(pid).ok().map(|pidfd| (pid, (pidfd, false))));
                    }
                }
            }
            if !is_new {
                break;
            }
        }
        held.into_iter().filter(|(_, (_, ours))| *ours).map(|(pid, (pidfd, _))| (pid, pidfd)).collect()
    }

    /// Lets what lives go on without the execution's limits. With an error, nothing can be said of where it is.
    pub(super) fn keep(&mut self, execution: &ExecutionId) -> io::Result<Leftovers> {
        let programs = self.programs();
        self.group.keep(execution)?;
        let kept = self.alive();
        if kept == 0 {
            self.group.remove_kept(execution);
        }
        Ok(Leftovers { kept, programs, ..Leftovers::default() })
    }

    /// The names of what lives, each once.
    fn programs(&self) -> Vec<String> {
        let name = |pid: &Pid| fs::read(format!("/proc/{pid}/comm")).ok();
        let clean = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
        let shown = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim_end().chars().map(clean).collect::<String>();
        let mut names: Vec<String> = self.list(true).iter().filter_map(name).map(shown).collect();
        names.sort_unstable();
        names.dedup();
        names.truncate(MAX_PROGRAMS);
        names
    }

    /// Kills what lives, in two steps, and counts after each.
    pub(super) fn kill(&mut self) -> Leftovers {
        let programs = self.programs();
        let mut left = Leftovers { after_term: self.alive(), programs, ..Leftovers::default() };
        if left.after_term > 0 {
            self.group.kill(PATIENCE);
            left.after_cgroup_kill = self.alive();
        }
        self.kill_children();
        left.after_subreaper = self.alive();
        left
    }

    /// Kills children until there are none: those of a killed child become ours, and are next.
    fn kill_children(&mut self) {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(1);
        while self.reap() && begun.elapsed() < PATIENCE {
            for child in children(getpid()) {
                // Only we take our children's statuses: until then nobody else has this number.
                let _ = kill(child, Signal::SIGKILL);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}

/// Adds every living process below `pid`.
pub(crate) fn descendants(pid: Pid, found: &mut Vec<Pid>) {
    let mut next = children(pid);
    while let Some(pid) = next.pop() {
        if !found.contains(&pid) && proc::is_alive(pid) {
            found.push(pid);
        }
        next.extend(children(pid));
    }
}

fn children(pid: Pid) -> Vec<Pid> {
    if pid == getpid()
        && let Ok(text) = bounded(Path::new(&format!("/proc/self/task/{pid}/children")))
    {
        return parse(&text).collect();
    }
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let mut found = Vec::new();
    for thread in threads.flatten() {
        match bounded(&thread.path().join("children")) {
            Ok(text) => found.extend(parse(&text)),
            // Kernels without CONFIG_PROC_CHILDREN.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && fs::exists(thread.path()).unwrap_or(false) => {
                return children_by_parent(pid);
            }
            Err(_) => {}
        }
    }
    found
}

/// A list of children, up to a bound that leaves room for more than a host has processes.
fn bounded(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(CHILDREN).read_to_string(&mut text)?;
    Ok(text)
}

fn parse(children: &str) -> impl Iterator<Item = Pid> {
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw)
}

fn children_by_parent(parent: Pid) -> Vec<Pid> {
    proc::pids().filter(|pid| proc::stat(*pid).is_some_and(|(_, of)| of == parent)).collect()
}
