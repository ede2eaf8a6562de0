//! The group of one execution: joined, counted, killed, removed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::{Figures, v1, v2};
use crate::sys;

/// A directory in each hierarchy. Controllers that are mounted together share one.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(super) v2: Option<PathBuf>,
    pub(super) v1: Vec<(v1::Controller, PathBuf)>,
}

/// The ways into a group, open before the fork.
pub(crate) struct Doors {
    /// The directory and its `cgroup.procs`.
    v2: Option<(File, File)>,
    /// The `tasks` of each hierarchy: a process that moves its only thread through it does not wait, as it would at
    /// `cgroup.procs`, until every processor has passed a quiet moment (ten milliseconds).
    v1: Vec<File>,
}

impl Group {
    pub(super) fn dirs(&self) -> impl Iterator<Item = &Path> {
        self.v2.iter().map(PathBuf::as_path).chain(self.v1_dirs())
    }

    /// Each directory once.
    fn v1_dirs(&self) -> impl Iterator<Item = &Path> {
        let first = |i: usize, dir: &PathBuf| !self.v1[..i].iter().any(|(_, earlier)| earlier == dir);
        self.v1.iter().enumerate().filter(move |(i, (_, dir))| first(*i, dir)).map(|(_, (_, dir))| dir.as_path())
    }

    /// Opens the ways in.
    pub(crate) fn doors(&self) -> io::Result<Doors> {
        let door = |dir: &Path, file: &str| OpenOptions::new().write(true).open(dir.join(file));
        Ok(Doors {
            v2: self
                .v2
                .as_ref()
                .map(|dir| Ok::<_, io::Error>((File::open(dir)?, door(dir, "cgroup.procs")?)))
                .transpose()?,
            v1: self.v1_dirs().map(|dir| door(dir, "tasks")).collect::<io::Result<_>>()?,
        })
    }

    /// The processes in any directory of the group.
    pub(crate) fn members(&self) -> Vec<Pid> {
        let mut pids: Vec<Pid> = self.dirs().flat_map(procs).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Sends `signal` to every member, and to nobody who has taken over a member's number.
    pub(crate) fn signal(&self, signal: Signal) {
        let held: Vec<_> =
            self.members().into_iter().filter_map(|pid| Some((pid, sys::pidfd_open(pid).ok()?))).collect();
        if held.is_empty() {
            return;
        }
        let still = self.members();
        for (pid, pidfd) in held {
            if still.contains(&pid) {
                let _ = sys::pidfd_signal(&pidfd, signal);
            }
        }
    }

    /// Kills every member, those included that are being forked, until there is none or `patience` has passed.
    pub(crate) fn kill(&self, patience: Duration) {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            if self.v2.as_ref().is_none_or(|dir| fs::write(dir.join("cgroup.kill"), "1").is_err()) {
                self.freeze(true);
            }
            self.signal(Signal::SIGKILL);
            self.freeze(false);
            if self.members().is_empty() || begun.elapsed() > patience {
                return;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Stops members from running while they are counted; thaws them again even if they were frozen by themselves, also in
    /// groups that they made below: what is frozen in version 1 does not even die.
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

    /// What the kernel counted of an execution.
    pub(crate) fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        if let Some(dir) = &self.v2 {
            v2::figures(dir, &mut figures);
        }
        for (controller, dir) in &self.v1 {
            v1::figures(*controller, dir, &mut figures);
        }
        figures
    }

    /// Removes the group, which must be empty; a directory that the kernel still holds is tried again for a moment.
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

impl Doors {
    /// Forks a child that is in the v2 group from its first moment, where the kernel can do that, and that still has to
    /// [`join`](Self::join) the rest.
    pub(crate) fn fork(&mut self) -> nix::Result<Option<Pid>> {
        if let Some((dir, _)) = &self.v2 {
            // It fails before Linux 5.7, behind a system call filter, or for want of a process: that shows below.
            if let Ok(forked) = sys::fork_into(dir.as_fd()) {
                self.v2 = None;
                return Ok(forked);
            }
        }
        sys::fork()
    }

    /// Puts this process into what is left.
    pub(crate) fn join(&mut self) -> io::Result<()> {
        let mut doors = self.v2.iter_mut().map(|(_, door)| door).chain(&mut self.v1);
        doors.try_for_each(|door| door.write_all(b"0"))
    }
}

/// From the top: a group is frozen for as long as one above it is.
fn thaw(dir: &Path) {
    let _ = fs::write(dir.join("freezer.state"), "THAWED");
    for child in children(dir) {
        thaw(&child);
    }
}

/// A root action may have made groups of its own below.
pub(super) fn remove_children(dir: &Path) {
    for child in children(dir) {
        remove_children(&child);
        let _ = fs::remove_dir(child);
    }
}

/// The processes of a directory and of those below it.
pub(super) fn procs(dir: &Path) -> Vec<Pid> {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<Pid> =
        text.lines().filter_map(|l| l.parse().ok()).filter(|p| *p > 0).map(Pid::from_raw).collect();
    for child in children(dir) {
        pids.extend(procs(&child));
    }
    pids
}

/// The groups directly below one. Cgroup file systems count them in the link number, which is cheaper than a look.
pub(super) fn children(dir: &Path) -> Vec<PathBuf> {
    if fs::metadata(dir).is_ok_and(|stat| stat.nlink() == 2) {
        return Vec::new();
    }
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}
