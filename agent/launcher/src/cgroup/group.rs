//! A cgroup: one directory in each hierarchy. Its processes are found, signalled and killed together.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, openat};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::control::{self, Counters};
use super::{v1, v2};
use crate::sys;

/// The directories of a group. Controllers that are mounted together share one.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(super) v2: Option<PathBuf>,
    pub(super) v1: Vec<(v1::Controller, PathBuf)>,
}

/// Open files of a group through which a forked child joins it.
pub(crate) struct CgroupFds {
    /// The v2 directory.
    v2: Option<File>,
    /// `cgroup.procs` of the v2 directory, where a child cannot be made in the group.
    v2_procs: Option<File>,
    /// The file `tasks` of each v1 hierarchy. A single-threaded process joins through it without the RCU grace period (ten
    /// milliseconds) that a write to `cgroup.procs` waits for.
    v1: Vec<File>,
}

impl Group {
    pub(super) fn dirs(&self) -> impl Iterator<Item = &Path> {
        self.v2.iter().map(PathBuf::as_path).chain(self.v1_dirs())
    }

    /// Iterates over the v1 directories, without duplicates.
    fn v1_dirs(&self) -> impl Iterator<Item = &Path> {
        let first = |i: usize, dir: &PathBuf| !self.v1[..i].iter().any(|(_, earlier)| earlier == dir);
        self.v1.iter().enumerate().filter(move |(i, (_, dir))| first(*i, dir)).map(|(_, (_, dir))| dir.as_path())
    }

    /// Opens the files through which a child joins the group.
    pub(crate) fn open(&self) -> io::Result<CgroupFds> {
        let open = |dir: &Path| OpenOptions::new().write(true).open(dir.join("tasks"));
        Ok(CgroupFds {
            v2: self.v2.as_ref().map(File::open).transpose()?,
            v2_procs: None,
            v1: self.v1_dirs().map(open).collect::<io::Result<_>>()?,
        })
    }

    /// Returns all processes of the group, including those in subgroups.
    pub(crate) fn members(&self) -> Vec<Pid> {
        let mut pids: Vec<Pid> = self.dirs().flat_map(procs).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Returns the processes of the group in one hierarchy, including those in subgroups. Without a process that was moved by root,
    /// all hierarchies have the same.
    pub(crate) fn members_of_first(&self) -> Vec<Pid> {
        self.dirs().next().map(procs).unwrap_or_default()
    }

    /// Sends `signal` to every member, never to a process that reuses a member's pid.
    pub(crate) fn signal(&self, signal: Signal) {
        let opened: Vec<_> =
            self.members().into_iter().filter_map(|pid| Some((pid, sys::pidfd_open(pid).ok()?))).collect();
        if opened.is_empty() {
            return;
        }
        let confirmed = self.members();
        for (pid, pidfd) in opened {
            if confirmed.contains(&pid) {
                let _ = sys::pidfd_signal(&pidfd, signal);
            }
        }
    }

    /// Kills every member, including processes that are being forked, until there is none or `timeout` has passed.
    pub(crate) fn kill(&self, timeout: Duration) {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            if self.v2.as_ref().is_none_or(|dir| fs::write(dir.join("cgroup.kill"), "1").is_err()) {
                self.freeze(true);
            }
            self.signal(Signal::SIGKILL);
            self.freeze(false);
            if self.members().is_empty() || begun.elapsed() > timeout {
                return;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Freezes members, so that none forks while they are signalled, or thaws them. Also thaws members and subgroups that were
    /// frozen by others: in v1, a frozen process does not even die.
    fn freeze(&self, on: bool) {
        if let Some(dir) = &self.v2 {
            let _ = fs::write(dir.join("cgroup.freeze"), if on { "1" } else { "0" });
        }
        for (_, dir) in self.v1.iter().filter(|(controller, _)| *controller == v1::Controller::Freezer) {
            if on {
                let _ = fs::write(dir.join("freezer.state"), "FROZEN");
            } else {
                thaw(dir);
            }
        }
    }

    /// Returns the kernel's counters of the group, with those of processes killed for lack of memory only when asked for.
    pub(crate) fn counters(&self, with_oom: bool) -> Counters {
        let mut counters = Counters::default();
        if let Some(dir) = &self.v2 {
            v2::read_counters(dir, with_oom, &mut counters);
        }
        for (controller, dir) in &self.v1 {
            v1::read_counters(*controller, dir, with_oom, &mut counters);
        }
        counters
    }

    /// Removes the group, which must be empty. Retries for half a second while the kernel reports the directory as busy.
    pub(crate) fn remove(&self) {
        for dir in self.dirs() {
            for attempt in 0..50 {
                match fs::remove_dir(dir) {
                    Err(e) if e.raw_os_error() == Some(nix::libc::EBUSY) => {
                        remove_children(dir);
                        std::thread::sleep(Duration::from_millis(attempt.min(10)));
                    }
                    _ => break,
                }
            }
        }
    }
}

impl CgroupFds {
    /// Forks a child directly into the v2 group if the kernel supports it. The child must [`join`](Self::join) the other groups.
    pub(crate) fn fork(&mut self) -> nix::Result<Option<Pid>> {
        if let Some(dir) = self.v2.take() {
            // Fails before Linux 5.7, with a system call filter, or without a free pid; then the plain fork below decides.
            if let Ok(forked) = sys::fork_into(dir.as_fd()) {
                return Ok(forked);
            }
            self.v2_procs = Some(open_procs(&dir)?);
        }
        sys::fork()
    }

    /// Runs `child` in a new process, in the v2 group if the kernel supports it; see [`sys::spawn`]. The child must
    /// [`join`](Self::join) the other groups.
    pub(crate) fn spawn(
        &mut self,
        mut stack: Option<&mut sys::Stack>,
        mut child: impl FnMut(&mut CgroupFds),
    ) -> nix::Result<Pid> {
        if let Some(dir) = self.v2.take() {
            // Fails before Linux 5.7, with a system call filter, or without a free pid; then the second attempt decides.
            if let Ok(pid) = sys::spawn(Some(dir.as_fd()), stack.as_deref_mut(), &mut || child(self)) {
                return Ok(pid);
            }
            self.v2_procs = Some(open_procs(&dir)?);
        }
        sys::spawn(None, stack, &mut || child(self))
    }

    /// Moves this process into the groups that it is not in yet.
    pub(crate) fn join(&mut self) -> io::Result<()> {
        let mut files = self.v2_procs.iter_mut().chain(&mut self.v1);
        files.try_for_each(|file| file.write_all(b"0"))
    }
}

fn open_procs(dir: &File) -> nix::Result<File> {
    openat(dir, "cgroup.procs", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()).map(File::from)
}

/// Thaws a group and its subgroups, from the top: a group is frozen as long as a parent is.
fn thaw(dir: &Path) {
    let _ = fs::write(dir.join("freezer.state"), "THAWED");
    for child in children(dir) {
        thaw(&child);
    }
}

/// Removes all subgroups, which a root action may have created.
pub(super) fn remove_children(dir: &Path) {
    for child in children(dir) {
        remove_children(&child);
        let _ = fs::remove_dir(child);
    }
}

/// Returns the processes of a group and of its subgroups.
pub(super) fn procs(dir: &Path) -> Vec<Pid> {
    let text = control::read(dir, "cgroup.procs").unwrap_or_default();
    let mut pids: Vec<Pid> =
        text.lines().filter_map(|l| l.parse().ok()).filter(|p| *p > 0).map(Pid::from_raw).collect();
    for child in children(dir) {
        pids.extend(procs(&child));
    }
    pids
}

/// Returns the direct subgroups. A link count of 2 means that there are none, which is cheaper than reading the directory.
pub(super) fn children(dir: &Path) -> Vec<PathBuf> {
    if fs::metadata(dir).is_ok_and(|stat| stat.nlink() == 2) {
        return Vec::new();
    }
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}
